package repo

import (
	"context"
	"errors"
	"fmt"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/flux"
)

// fluxOwner is whose the fields are that kustomize-controller applies. Asked as it, the
// API server also takes away what it has applied before and does not any more.
const fluxOwner client.FieldOwner = flux.Owner

// inFlight is how many objects the API server is asked about at the same time.
const inFlight = 8

// pair is one object as it is in the cluster, and as it would be. One that does not exist
// is nil.
type pair struct {
	id            gitops.ObjectID
	before, after *unstructured.Unstructured
	// note says what is to be known about the comparison, err why there is none.
	note    string
	err     error
	differs bool
}

// applyAll asks what would become of every object.
func (c *comparer) applyAll(ctx context.Context, objects []*unstructured.Unstructured) []pair {
	pairs := make([]pair, len(objects))
	brought := kindsOf(objects)
	var group errgroup.Group
	group.SetLimit(inFlight)
	for i, object := range objects {
		group.Go(func() error {
			pairs[i] = c.apply(ctx, object, brought)
			return nil
		})
	}
	_ = group.Wait() // each pair has its own error
	return pairs
}

// kindsOf are the kinds that the objects themselves bring into the cluster.
func kindsOf(objects []*unstructured.Unstructured) map[schema.GroupKind]bool {
	out := map[schema.GroupKind]bool{}
	for _, o := range objects {
		if o.GetKind() != "CustomResourceDefinition" {
			continue
		}
		group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
		kind, _, _ := unstructured.NestedString(o.Object, "spec", "names", "kind")
		out[schema.GroupKind{Group: group, Kind: kind}] = true
	}
	return out
}

// apply asks the API server what it would make of an object if Flux applied it.
func (c *comparer) apply(ctx context.Context, declared *unstructured.Unstructured, brought map[schema.GroupKind]bool) pair {
	kind := declared.GroupVersionKind()
	namespaced, err := c.client.IsObjectNamespaced(declared)
	p := pair{id: gitops.IDOf(declared), after: declared}
	switch {
	case meta.IsNoMatchError(err) && brought[kind.GroupKind()]:
		p.note = fmt.Sprintf("the cluster does not have the kind %s yet: its objects are shown as they are written", kind.Kind)
		return p
	case meta.IsNoMatchError(err):
		p.err = fmt.Errorf("the cluster does not have the kind %s of %s: install what brings it", kind.Kind, kind.GroupVersion())
		if kind.Group == v1alpha1.GroupVersion.Group {
			p.err = fmt.Errorf("the cluster does not have the kind %s of %s: %s", kind.Kind, kind.GroupVersion(), cli.InstallCommand)
		}
		return p
	case err != nil:
		p.err = err
		return p
	case namespaced && declared.GetNamespace() == "" && c.kustomization != nil:
		p.err = fmt.Errorf("it has no namespace: give the overlay one, or Kustomization %s a targetNamespace", c.out.Kustomization)
		return p
	case namespaced && declared.GetNamespace() == "":
		declared.SetNamespace(c.cluster.Namespace)
	}
	p.id = gitops.IDOf(declared)
	if p.before, p.err = c.get(ctx, declared); p.err != nil {
		return p
	}
	switch {
	case gitops.IsEncrypted(declared.Object):
		if p.before != nil {
			p.after, p.note = p.before, fmt.Sprintf("%s is encrypted with SOPS: whether it differs from the cluster's only Flux can tell", p.id)
		}
		return p
	case p.before != nil && leftAlone(p.before, declared):
		p.after, p.note = p.before, fmt.Sprintf("Flux leaves %s as it is (annotation of %s)", p.id, kustomizev1.GroupVersion.Group)
		return p
	}
	asked := declared.DeepCopy()
	if c.kustomization != nil {
		own(c.kustomization, asked)
	}
	err = c.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(asked), fluxOwner, client.ForceOwnership, client.DryRunAll)
	switch {
	case p.before == nil && namespaced && noNamespace(err):
		p.note = fmt.Sprintf("the namespace %s does not exist yet: its objects are shown as they are written", declared.GetNamespace())
	case err != nil:
		p.err = refusal(p.id, err)
	default:
		p.after = asked
	}
	return p
}

// get reads an object; nil when it does not exist.
func (c *comparer) get(ctx context.Context, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(o.GroupVersionKind())
	err := c.client.Get(ctx, client.ObjectKeyFromObject(o), live)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return live, nil
}

// noNamespace reports whether the API server misses the namespace of an object.
func noNamespace(err error) bool {
	var status apierrors.APIStatus
	return apierrors.IsNotFound(err) && errors.As(err, &status) && status.Status().Details != nil && status.Status().Details.Kind == "namespaces"
}

// refusal is the API server's error. What it says about a Secret may name a value.
func refusal(id gitops.ObjectID, err error) error {
	if id.Group != "" || id.Kind != "Secret" || apierrors.IsForbidden(err) {
		return err
	}
	return &hiddenError{err}
}

// hiddenError is one whose words are not for everybody.
type hiddenError struct{ err error }

func (e *hiddenError) Error() string {
	return fmt.Sprintf("the API server does not take it (%s); its words are not shown, for they may name a value", apierrors.ReasonForError(e.err))
}

func (e *hiddenError) Unwrap() error { return e.err }

// removed are the objects that Flux has applied and would remove.
func (c *comparer) removed(ctx context.Context, declared []pair) ([]pair, error) {
	listed, err := inventory(c.kustomization)
	if err != nil {
		return nil, err
	}
	still := map[gitops.ObjectID]bool{}
	for _, p := range declared {
		still[p.id] = true
	}
	var out []pair
	stays := 0
	for _, o := range listed {
		id := gitops.IDOf(o)
		if still[id] {
			continue
		}
		live, err := c.get(ctx, o)
		switch {
		case meta.IsNoMatchError(err), err == nil && live == nil:
			continue // it is gone already
		case err != nil:
			out = append(out, pair{id: id, err: err})
		case !c.kustomization.Spec.Prune || !prunes(c.kustomization, live):
			stays++
		default:
			out = append(out, pair{id: id, before: live})
		}
	}
	if stays > 0 {
		c.out.Notes = append(c.out.Notes, fmt.Sprintf("Kustomization %s leaves %s where the overlay has no such object any more: it does not prune, or must not prune it", c.out.Kustomization, count(stays, "object")))
	}
	return out, nil
}
