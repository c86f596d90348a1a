package topology

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

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
		content, err := r.Map()
		if err != nil {
			return Manifests{}, fmt.Errorf("build %s from %s: %w", title, path, err)
		}
		m.Objects = append(m.Objects, &unstructured.Unstructured{Object: content})
	}
	return m, nil
}

// fieldOwner is who fields are set by.
const fieldOwner = client.FieldOwner("fleet-provision")

// Name says what they are.
func (m Manifests) Name() string { return m.Title }

// Interpret applies the objects, namespaces and kinds first. An object that is as it should
// be keeps its version, by which it is seen that nothing has changed.
func (m Manifests) Interpret(ctx context.Context, k *K8sBare) (score.Outcome, error) {
	objects := slices.Clone(m.Objects)
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int { return cmp.Compare(rank(a), rank(b)) })
	changed := 0
	for _, object := range objects {
		was, err := version(ctx, k.Client, object)
		if err != nil {
			return score.Outcome{}, err
		}
		applied, err := apply(ctx, k.Client, object)
		if err != nil {
			return score.Outcome{}, err
		}
		if applied.GetResourceVersion() != was {
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

// version is the version of an object as it is, "" when it does not exist.
func version(ctx context.Context, c client.Client, object *unstructured.Unstructured) (string, error) {
	there := &unstructured.Unstructured{}
	there.SetGroupVersionKind(object.GroupVersionKind())
	err := c.Get(ctx, client.ObjectKeyFromObject(object), there)
	switch {
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("get %s %s: %w", object.GetKind(), client.ObjectKeyFromObject(object), err)
	}
	return there.GetResourceVersion(), nil
}
