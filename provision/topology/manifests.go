package topology

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/nationtech/fleet/provision/score"
)

// Manifests are objects that a cluster has to have, such as the operator's.
type Manifests struct {
	// Title says what they are.
	Title   string
	Objects []*unstructured.Unstructured
}

// FromKustomization builds the objects of a folder, or of a URL as kustomize takes it.
func FromKustomization(title, path string) (Manifests, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), path)
	if err != nil {
		return Manifests{}, fmt.Errorf("build %s from %s: %w", title, path, err)
	}
	m := Manifests{Title: title}
	for _, r := range resources.Resources() {
		// By way of JSON, which has the numbers that Kubernetes has.
		object := &unstructured.Unstructured{}
		data, err := r.MarshalJSON()
		if err == nil {
			err = object.UnmarshalJSON(data)
		}
		if err != nil {
			return Manifests{}, fmt.Errorf("build %s from %s: %w", title, path, err)
		}
		m.Objects = append(m.Objects, object)
	}
	return m, nil
}

// fieldOwner is who fields are set by.
const fieldOwner = client.FieldOwner("fleet-provision")

// Name says what they are.
func (m Manifests) Name() string { return m.Title }

// Interpret applies the objects, namespaces and kinds first.
func (m Manifests) Interpret(ctx context.Context, k *K8sBare) (score.Outcome, error) {
	objects := slices.Clone(m.Objects)
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int { return cmp.Compare(rank(a), rank(b)) })
	changed := 0
	for _, object := range objects {
		was, err := there(ctx, k.Client, object)
		if err != nil {
			return score.Outcome{}, err
		}
		applied, err := apply(ctx, k.Client, object)
		if err != nil {
			return score.Outcome{}, err
		}
		if !equality.Semantic.DeepEqual(content(was), content(applied)) {
			changed++
		}
	}
	if changed == 0 {
		return score.Unchanged("%d objects are applied", len(objects)), nil
	}
	return score.Changed("applied %d of %d objects", changed, len(objects)), nil
}

// rank orders objects by who needs whom.
func rank(o *unstructured.Unstructured) int {
	switch o.GetKind() {
	case "Namespace", "CustomResourceDefinition":
		return 0
	}
	return 1
}

// kindPatience is how long a kind may take to be served once it is there.
const kindPatience = 30 * time.Second

// apply applies one object. Of a kind that was applied just before the API server learns
// in a moment.
func apply(ctx context.Context, c client.Client, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	applied := object.DeepCopy()
	var last error
	err := wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, kindPatience, true, func(ctx context.Context) (bool, error) {
		applied = object.DeepCopy()
		last = c.Apply(ctx, client.ApplyConfigurationFromUnstructured(applied), fieldOwner, client.ForceOwnership)
		if meta.IsNoMatchError(last) {
			return false, nil
		}
		return true, last
	})
	if last != nil && (wait.Interrupted(err) || errors.Is(err, last)) {
		err = last
	}
	if err != nil {
		return nil, fmt.Errorf("apply %s %s: %w", object.GetKind(), client.ObjectKeyFromObject(object), err)
	}
	return applied, nil
}

// there is an object as it is, nil when it does not exist.
func there(ctx context.Context, c client.Client, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	is := &unstructured.Unstructured{}
	is.SetGroupVersionKind(object.GroupVersionKind())
	err := c.Get(ctx, client.ObjectKeyFromObject(object), is)
	switch {
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("get %s %s: %w", object.GetKind(), client.ObjectKeyFromObject(object), err)
	}
	return is, nil
}

// content is what an object says, without what the cluster notes about it. The version is
// such a note: controllers write into the status meanwhile.
func content(o *unstructured.Unstructured) map[string]any {
	if o == nil {
		return nil
	}
	all := o.DeepCopy().Object
	for _, field := range []string{"managedFields", "resourceVersion", "generation"} {
		unstructured.RemoveNestedField(all, "metadata", field)
	}
	delete(all, "status")
	return all
}
