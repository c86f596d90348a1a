package deployment

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"

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
//
// The controller notes the revision that it attempts before it applies anything,
// and the one that it has applied after the health checks. A spec that has changed
// is of the attempt. One that has not is of what it was until the attempt is over:
// it may fail before this Deployment's turn.
//
// Whoever may write a Deployment may label it. What another namespace's Kustomization
// has applied is therefore told only of what is in its inventory.
func (r *Reconciler) source(ctx context.Context, obj *v1alpha1.Deployment) (*v1alpha1.Source, error) {
	key := types.NamespacedName{Namespace: obj.Labels[labelKustomizationNamespace], Name: obj.Labels[labelKustomization]}
	if key.Name == "" || !r.Flux {
		return nil, nil
	}
	changed := obj.Generation != obj.Status.ObservedGeneration
	from := client.Reader(r.Client)
	if changed {
		// The cache may not have the attempt yet that the new spec came from.
		from = r.APIReader
	}
	out := &v1alpha1.Source{Kustomization: key.String()}
	k := &kustomizev1.Kustomization{}
	if err := from.Get(ctx, key, k); err != nil {
		if client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("read Kustomization %s: %w", key, err)
		}
		return out, nil
	}
	if k.Namespace != obj.Namespace && !lists(k, obj) {
		return out, nil
	}
	before := obj.Status.Source
	switch {
	case changed && k.Status.LastAttemptedRevision != "":
		out.Revision = k.Status.LastAttemptedRevision
	case k.Status.LastAttemptedRevision != k.Status.LastAppliedRevision && before != nil && before.Kustomization == out.Kustomization:
		out.Revision = before.Revision
	default:
		out.Revision = k.Status.LastAppliedRevision
	}
	out.Commit = commitOf(out.Revision)
	return out, nil
}

// lists reports whether a Kustomization has applied a Deployment and still holds it.
// https://fluxcd.io/flux/components/kustomize/kustomizations/#inventory
func lists(k *kustomizev1.Kustomization, obj *v1alpha1.Deployment) bool {
	if k.Status.Inventory == nil {
		return false
	}
	id := strings.Join([]string{obj.Namespace, obj.Name, v1alpha1.GroupVersion.Group, "Deployment"}, "_")
	return slices.ContainsFunc(k.Status.Inventory.Entries, func(r kustomizev1.ResourceRef) bool { return r.ID == id })
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
