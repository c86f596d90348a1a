package rollout

import (
	"context"
	"encoding/json"
	"fmt"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
)

// fluxOwner is whose the fields are that Flux applies from Git.
const fluxOwner = "kustomize-controller"

// The labels and annotations by which kustomize-controller knows what it applies.
// https://fluxcd.io/flux/components/kustomize/kustomizations/
var (
	labelKustomization          = kustomizev1.GroupVersion.Group + "/name"
	labelKustomizationNamespace = kustomizev1.GroupVersion.Group + "/namespace"
	annotationReconcile         = kustomizev1.GroupVersion.Group + "/reconcile"
	annotationSSA               = kustomizev1.GroupVersion.Group + "/ssa"
)

// flux is the Kustomization that applies a Deployment.
type flux struct {
	name client.ObjectKey
	// kustomization is nil when it can't be read.
	kustomization *kustomizev1.Kustomization
}

// fluxOf returns nil when Flux does not apply the Deployment.
func fluxOf(d *v1alpha1.Deployment) *flux {
	name := client.ObjectKey{Namespace: d.Labels[labelKustomizationNamespace], Name: d.Labels[labelKustomization]}
	if name.Name == "" || name.Namespace == "" {
		return nil
	}
	return &flux{name: name}
}

// look reads the Kustomization. Who may change a Deployment may not always read it,
// and what it adds is only when.
func (f *flux) look(ctx context.Context, cluster *cli.Cluster) {
	k := &kustomizev1.Kustomization{}
	if cluster.Client.Get(ctx, f.name, k) == nil {
		f.kustomization = k
	}
}

func (f *flux) String() string { return "Kustomization " + f.name.String() }

// opinion says what Flux will make of a change, and whether it will undo it.
func (f *flux) opinion(d *v1alpha1.Deployment, made edit) (undone bool, words string) {
	switch {
	case d.Annotations[annotationReconcile] == kustomizev1.DisabledValue:
		return false, fmt.Sprintf("Flux leaves the Deployment alone (annotation %s), so this stays.", annotationReconcile)
	case d.Annotations[annotationSSA] == "Ignore" || d.Annotations[annotationSSA] == "IfNotPresent":
		return false, fmt.Sprintf("Flux leaves the Deployment alone (annotation %s), so this stays.", annotationSSA)
	case !owns(d.ManagedFields, made.path):
		return false, fmt.Sprintf("Git (%s) says nothing of %s, so Flux leaves it as it is now.", f, made.field)
	}
	return true, fmt.Sprintf("Git has %s, and Flux (%s) puts it back to what Git says %s%s.", made.field, f, f.when(), made.back)
}

func (f *flux) suspended() bool { return f.kustomization != nil && f.kustomization.Spec.Suspend }

// when is the time of Flux's next reconciliation, as far as it is known.
func (f *flux) when() string {
	switch k := f.kustomization; {
	case k == nil:
		return "at its next reconciliation"
	case f.suspended():
		return "when the Kustomization, which is suspended, is resumed"
	default:
		return fmt.Sprintf("at its next reconciliation, within %s", short(k.Spec.Interval.Duration))
	}
}

// owns reports whether Flux applies a field or anything in it. A step of the path is
// a name, or of an element of a list its key as managed fields write it.
// https://kubernetes.io/docs/reference/using-api/server-side-apply/
func owns(managed []metav1.ManagedFieldsEntry, path []string) bool {
	for _, m := range managed {
		if m.Manager != fluxOwner || m.Subresource != "" || m.FieldsV1 == nil {
			continue
		}
		var fields map[string]any
		if json.Unmarshal(m.FieldsV1.GetRawBytes(), &fields) != nil {
			continue
		}
		found := true
		for _, step := range path {
			next, ok := fields[step].(map[string]any)
			if found = ok; !found {
				break
			}
			fields = next
		}
		if found {
			return true
		}
	}
	return false
}

// fieldPath is the path of a field by names alone.
func fieldPath(names ...string) []string {
	out := make([]string, 0, len(names))
	for _, name := range names {
		out = append(out, "f:"+name)
	}
	return out
}
