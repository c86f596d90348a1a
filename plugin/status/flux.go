package status

import (
	"cmp"
	"slices"
	"strings"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/flux"
)

// key identifies a Flux object.
type key struct{ kind, namespace, name string }

// fluxSources builds the tree of sources and Kustomizations that have to do with
// the fleet.
func fluxSources(o Observed) []Source {
	sources := map[key]*Source{}
	for _, object := range o.Sources {
		s := sourceOf(object)
		sources[key{s.Kind, s.Namespace, s.Name}] = &s
	}
	chosen := fleetKustomizations(o)
	var order []key
	for i := range chosen {
		k := &chosen[i]
		id := sourceKey(k)
		source, known := sources[id]
		if !known {
			source = &Source{
				Kind: id.kind, Namespace: id.namespace, Name: id.name,
				Condition: flux.Condition{Status: metav1.ConditionFalse, Reason: "NotFound", Message: "The source that a Kustomization refers to does not exist or can't be read."},
			}
			sources[id] = source
		}
		if len(source.Kustomizations) == 0 {
			order = append(order, id)
		}
		source.Kustomizations = append(source.Kustomizations, kustomizationOf(k, source))
	}
	out := make([]Source, 0, len(order))
	for _, id := range order {
		out = append(out, *sources[id])
	}
	slices.SortFunc(out, func(a, b Source) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	return out
}

func sourceKey(k *kustomizev1.Kustomization) key {
	return key{k.Spec.SourceRef.Kind, cmp.Or(k.Spec.SourceRef.Namespace, k.Namespace), k.Spec.SourceRef.Name}
}

// fleetKustomizations picks the Kustomizations that apply Devices or Deployments
// in scope. One that never applied anything counts when it would apply there, or
// takes from a source that others of the fleet take from: it may be the very one
// that is broken.
func fleetKustomizations(o Observed) []kustomizev1.Kustomization {
	named := map[[2]string]bool{}
	for i := range o.Deployments {
		labels := o.Deployments[i].Labels
		named[[2]string{labels[kustomizev1.GroupVersion.Group+"/namespace"], labels[kustomizev1.GroupVersion.Group+"/name"]}] = true
	}
	sources := map[key]bool{}
	applies := make([]bool, len(o.Kustomizations))
	for i := range o.Kustomizations {
		k := &o.Kustomizations[i]
		if named[[2]string{k.Namespace, k.Name}] || inventoryHasFleet(k, o.Scope.Namespace) {
			applies[i] = true
			sources[sourceKey(k)] = true
		}
	}
	var out []kustomizev1.Kustomization
	for i := range o.Kustomizations {
		k := &o.Kustomizations[i]
		never := k.Status.Inventory == nil && k.Status.LastAppliedRevision == ""
		target := cmp.Or(k.Spec.TargetNamespace, k.Namespace)
		if applies[i] || never && (sources[sourceKey(k)] || o.Scope.All() || target == o.Scope.Namespace) {
			out = append(out, *k)
		}
	}
	slices.SortFunc(out, func(a, b kustomizev1.Kustomization) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// inventoryHasFleet looks through IDs of the form namespace_name_group_kind.
func inventoryHasFleet(k *kustomizev1.Kustomization, namespace string) bool {
	if k.Status.Inventory == nil {
		return false
	}
	for _, entry := range k.Status.Inventory.Entries {
		parts := strings.Split(entry.ID, "_")
		if len(parts) == 4 && parts[2] == v1alpha1.GroupVersion.Group && (namespace == "" || parts[0] == namespace) {
			return true
		}
	}
	return false
}

func sourceOf(object client.Object) Source {
	s := Source{Namespace: object.GetNamespace(), Name: object.GetName(), Kustomizations: []Kustomization{}}
	var artifact *meta.Artifact
	switch o := object.(type) {
	case *sourcev1.GitRepository:
		s.Kind, s.Suspended, artifact = sourcev1.GitRepositoryKind, o.Spec.Suspend, o.Status.Artifact
		s.Condition = flux.ReadyOf(o.Status.Conditions, o.Status.ObservedGeneration, o.Generation)
		if r := o.Spec.Reference; r != nil {
			s.Ref = cmp.Or(r.Name, r.SemVer, r.Tag, r.Branch, shorten(r.Commit))
		} else {
			s.Ref = "master" // Flux's own default
		}
	case *sourcev1.OCIRepository:
		s.Kind, s.Suspended, artifact = sourcev1.OCIRepositoryKind, o.Spec.Suspend, o.Status.Artifact
		s.Condition = flux.ReadyOf(o.Status.Conditions, o.Status.ObservedGeneration, o.Generation)
		if r := o.Spec.Reference; r != nil {
			s.Ref = cmp.Or(r.Digest, r.SemVer, r.Tag)
		}
	case *sourcev1.Bucket:
		s.Kind, s.Suspended, artifact = sourcev1.BucketKind, o.Spec.Suspend, o.Status.Artifact
		s.Condition = flux.ReadyOf(o.Status.Conditions, o.Status.ObservedGeneration, o.Generation)
		s.Ref = o.Spec.BucketName
	}
	if artifact != nil {
		s.Revision = artifact.Revision
		s.Commit = flux.CommitOf(s.Kind, artifact.Revision, artifact.Metadata[flux.OriginRevision])
		s.FetchedAt = artifact.LastUpdateTime.DeepCopy()
	}
	return s
}

func kustomizationOf(k *kustomizev1.Kustomization, source *Source) Kustomization {
	out := Kustomization{
		Namespace: k.Namespace,
		Name:      k.Name,
		Applied:   k.Status.LastAppliedRevision,
		Commit:    flux.CommitOf(source.Kind, k.Status.LastAppliedRevision, k.Status.LastAppliedOriginRevision),
		Suspended: k.Spec.Suspend,
		Condition: flux.ReadyOf(k.Status.Conditions, k.Status.ObservedGeneration, k.Generation),
		Behind:    source.Revision != "" && k.Status.LastAppliedRevision != source.Revision,
	}
	for _, h := range k.Status.History {
		if h.LastReconciledStatus == meta.ReconciliationSucceededReason && (out.AppliedAt == nil || h.LastReconciled.After(out.AppliedAt.Time)) {
			out.AppliedAt = h.LastReconciled.DeepCopy()
		}
	}
	if out.AppliedAt == nil && out.Condition.Status == metav1.ConditionTrue {
		out.AppliedAt = out.Condition.Since
	}
	return out
}

func shorten(commit string) string {
	if len(commit) > 7 {
		return commit[:7]
	}
	return commit
}
