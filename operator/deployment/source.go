package deployment

import (
	"context"
	"fmt"
	"strings"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"

	"github.com/nationtech/fleet/api/v1alpha1"
)

// The labels that kustomize-controller puts on what it applies,
// https://fluxcd.io/flux/components/kustomize/kustomizations/#inventory.
var (
	labelKustomization          = kustomizev1.GroupVersion.Group + "/name"
	labelKustomizationNamespace = kustomizev1.GroupVersion.Group + "/namespace"
)

// source names the Kustomization that applied a Deployment and the commit that it
// did it from; nil when Flux did not.
func (r *Reconciler) source(ctx context.Context, obj *v1alpha1.Deployment) (*v1alpha1.Source, error) {
	key := types.NamespacedName{Namespace: obj.Labels[labelKustomizationNamespace], Name: obj.Labels[labelKustomization]}
	if key.Name == "" || !r.Flux {
		return nil, nil
	}
	out := &v1alpha1.Source{Kustomization: key.String()}
	k := &kustomizev1.Kustomization{}
	if err := r.Get(ctx, key, k); err != nil {
		if client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("read Kustomization %s: %w", key, err)
		}
		return out, nil
	}
	out.Revision = appliedRevision(k)
	out.Commit = commitOf(out.Revision)
	return out, nil
}

// appliedRevision is the revision that what a Kustomization has applied is of. The
// controller notes what it attempts before it applies it, and what it has applied
// after the health checks, so the attempt is the truth unless it failed before
// anything was applied.
func appliedRevision(k *kustomizev1.Kustomization) string {
	ready := apimeta.FindStatusCondition(k.Status.Conditions, meta.ReadyCondition)
	failedBefore := ready != nil && ready.Status == metav1.ConditionFalse &&
		(ready.Reason == meta.BuildFailedReason || ready.Reason == meta.ArtifactFailedReason || ready.Reason == meta.DependencyNotReadyReason)
	if k.Status.LastAttemptedRevision == "" || failedBefore {
		return k.Status.LastAppliedRevision
	}
	return k.Status.LastAttemptedRevision
}

// commitOf takes the commit out of a revision such as main@sha1:4ddd4d9….
func commitOf(revision string) string {
	_, digest, _ := strings.Cut(revision, "@")
	if digest == "" {
		digest = revision
	}
	algorithm, commit, ok := strings.Cut(digest, ":")
	if !ok || !strings.HasPrefix(algorithm, "sha") {
		return ""
	}
	return commit
}
