// Package flux tells somebody who changes an object in the cluster what Flux, which
// applies the object from Git, makes of the change, and how to make it there.
package flux

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
)

// FieldOwner is whose the fields become that the plugin writes. Flux takes away, at each
// apply, what is not in Git and of an owner whose name begins with kubectl: so what is to
// stay is not of such a one.
const FieldOwner client.FieldOwner = "fleet-plugin"

// Owner is whose the fields are that Flux applies from Git.
const Owner = "kustomize-controller"

// The labels and annotations by which kustomize-controller knows what it applies, and what
// it leaves alone.
// https://fluxcd.io/flux/components/kustomize/kustomizations/#controlling-the-apply-behavior-of-resources
var (
	LabelName           = kustomizev1.GroupVersion.Group + "/name"
	LabelNamespace      = kustomizev1.GroupVersion.Group + "/namespace"
	AnnotationReconcile = kustomizev1.GroupVersion.Group + "/reconcile"
	AnnotationSSA       = kustomizev1.GroupVersion.Group + "/ssa"
	AnnotationPrune     = kustomizev1.GroupVersion.Group + "/prune"
)

// Change is what somebody changes in an object.
type Change struct {
	// Noun is what a person calls the object, Field what is changed of it, as people
	// write it, and Path the same step by step.
	Noun, Field string
	Path        []string
	// InGit is how the same is done in Git, as it is to be written; How says it in
	// words where it is not only that. Gone tells that Git is to say nothing, so that
	// there is only something to do when it does.
	How   string
	InGit []string
	Gone  bool
	// Back is what devices do when Flux puts it back.
	Back string
}

// Applier is the Kustomization that applies an object.
type Applier struct {
	name client.ObjectKey
	// kustomization is nil when it can't be read.
	kustomization *kustomizev1.Kustomization
}

// Of returns nil when Flux does not apply the object.
func Of(o metav1.Object) *Applier {
	name := AppliedBy(o)
	if name.Name == "" || name.Namespace == "" {
		return nil
	}
	return &Applier{name: name}
}

// Look reads the Kustomization. Who may change an object may not always read it, and
// what it adds is only when.
func (a *Applier) Look(ctx context.Context, cluster *cli.Cluster) {
	k := &kustomizev1.Kustomization{}
	if cluster.Client.Get(ctx, a.name, k) == nil {
		a.kustomization = k
	}
}

func (a *Applier) String() string { return "Kustomization " + a.name.String() }

// Opinion says what Flux will make of a change of an object as it was before, and whether
// it will undo it.
func (a *Applier) Opinion(o metav1.Object, c Change) (undone bool, words string) {
	switch {
	case o.GetAnnotations()[AnnotationReconcile] == kustomizev1.DisabledValue:
		return false, fmt.Sprintf("Flux leaves the %s alone (annotation %s), so this stays.", c.Noun, AnnotationReconcile)
	case o.GetAnnotations()[AnnotationSSA] == "Ignore" || o.GetAnnotations()[AnnotationSSA] == "IfNotPresent":
		return false, fmt.Sprintf("Flux leaves the %s alone (annotation %s), so this stays.", c.Noun, AnnotationSSA)
	case !owns(o.GetManagedFields(), c.Path):
		return false, fmt.Sprintf("Git (%s) says nothing of %s, so Flux leaves it as it is now.", a, c.Field)
	}
	return true, fmt.Sprintf("Git has %s, and Flux (%s) puts it back to what Git says %s%s.", c.Field, a, a.when(), c.Back)
}

// Tell tells that, and what there is to do about it.
func (a *Applier) Tell(out io.Writer, style screen.Style, o metav1.Object, c Change) {
	undone, words := a.Opinion(o, c)
	how := "To have it in Git too:"
	if undone {
		style.Note(out, screen.Warn, words)
		how = "To keep it, in Git:"
	} else {
		style.Note(out, screen.Dim, words)
	}
	if c.Gone && !undone {
		return
	}
	if c.How != "" {
		how = c.How
	}
	if c.How != "" || len(c.InGit) > 0 {
		style.Note(out, screen.Bold, how)
	}
	for _, line := range c.InGit {
		fmt.Fprintln(out, "    "+line)
	}
	if undone && !a.suspended() {
		style.Note(out, screen.Bold, fmt.Sprintf("To hold Flux until then, with all that it applies: kubectl fleet suspend kustomization %s -n %s", a.name.Name, a.name.Namespace))
	}
}

func (a *Applier) suspended() bool { return a.kustomization != nil && a.kustomization.Spec.Suspend }

// when is the time of Flux's next reconciliation, as far as it is known.
func (a *Applier) when() string {
	switch k := a.kustomization; {
	case k == nil:
		return "at its next reconciliation"
	case a.suspended():
		return "when the Kustomization, which is suspended, is resumed"
	default:
		return fmt.Sprintf("at its next reconciliation, within %s", screen.Duration(k.Spec.Interval.Duration))
	}
}

// owns reports whether Flux applies a field or anything in it. A step of the path is
// a name, or of an element of a list its key as managed fields write it.
// https://kubernetes.io/docs/reference/using-api/server-side-apply/
func owns(managed []metav1.ManagedFieldsEntry, path []string) bool {
	for _, m := range managed {
		if m.Manager != Owner || m.Subresource != "" || m.FieldsV1 == nil {
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

// Path is the path of a field by names alone.
func Path(names ...string) []string {
	out := make([]string, 0, len(names))
	for _, name := range names {
		out = append(out, "f:"+name)
	}
	return out
}
