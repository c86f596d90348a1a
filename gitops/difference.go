package gitops

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleet/api/v1alpha1"
)

// Change says what becomes of an object.
type Change string

// What becomes of an object.
const (
	Added   Change = "Added"
	Changed Change = "Changed"
	Removed Change = "Removed"
)

// Difference is an object that is not the same in two states. What it holds may be
// shown to anybody: secrets are masked.
type Difference struct {
	Change    Change `json:"change"`
	Group     string `json:"group,omitempty"`
	Version   string `json:"version"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// Diff is of the two as YAML, unified, with three lines of context.
	Diff string `json:"diff"`
}

// String names the object as people do.
func (d Difference) String() string {
	return NameOf(schema.GroupKind{Group: d.Group, Kind: d.Kind}, d.Namespace, d.Name)
}

// NameOf names an object as people do: fleet Deployment shops/hello.
func NameOf(kind schema.GroupKind, namespace, name string) string {
	words := kind.Kind
	if kind.Group == v1alpha1.GroupVersion.Group && kind.Kind == v1alpha1.DeploymentKind {
		words = "fleet " + words
	}
	return words + " " + path.Join(namespace, name)
}

// ObjectID tells which object it is, whatever the version that it is written in.
type ObjectID struct{ Group, Kind, Namespace, Name string }

// IDOf is the identity of an object.
func IDOf(o *unstructured.Unstructured) ObjectID {
	kind := o.GroupVersionKind()
	return ObjectID{kind.Group, kind.Kind, o.GetNamespace(), o.GetName()}
}

// Compare tells how an object differs in two states; either may be nil, where it does
// not exist. What a cluster keeps of an object besides what was asked for doesn't count.
// The second result is false where there is no difference.
func Compare(before, after *unstructured.Unstructured) (Difference, bool, error) {
	named := after
	if named == nil {
		named = before
	}
	kind := named.GroupVersionKind()
	d := Difference{Group: kind.Group, Version: kind.Version, Kind: kind.Kind, Namespace: named.GetNamespace(), Name: named.GetName()}
	from, to := tidied(before), tidied(after)
	switch {
	case from == nil:
		d.Change = Added
	case to == nil:
		d.Change = Removed
	case reflect.DeepEqual(from, to):
		return Difference{}, false, nil
	default:
		d.Change = Changed
	}
	from, to = mask(from, to)
	texts := [2]string{}
	for i, content := range []map[string]any{from, to} {
		if content == nil {
			continue
		}
		text, err := yaml.Marshal(content)
		if err != nil {
			return Difference{}, false, fmt.Errorf("write %s: %w", d, err)
		}
		texts[i] = string(text)
	}
	var err error
	if d.Diff, err = unified(texts[0], texts[1]); err != nil {
		return Difference{}, false, fmt.Errorf("compare %s: %w", d, err)
	}
	return d, true, nil
}

// CompareAll compares all objects of two states, in the order of kind and name.
func CompareAll(before, after []*unstructured.Unstructured) ([]Difference, error) {
	type pair struct{ before, after *unstructured.Unstructured }
	pairs := map[ObjectID]pair{}
	for _, o := range before {
		pairs[IDOf(o)] = pair{before: o}
	}
	for _, o := range after {
		p := pairs[IDOf(o)]
		p.after = o
		pairs[IDOf(o)] = p
	}
	var out []Difference
	for _, id := range slices.SortedFunc(maps.Keys(pairs), ObjectID.Compare) {
		d, differs, err := Compare(pairs[id].before, pairs[id].after)
		if err != nil {
			return nil, err
		}
		if differs {
			out = append(out, d)
		}
	}
	return out, nil
}

// Compare orders objects by kind and name.
func (id ObjectID) Compare(other ObjectID) int {
	return cmp.Or(cmp.Compare(id.Kind, other.Kind), cmp.Compare(id.Group, other.Group),
		cmp.Compare(id.Namespace, other.Namespace), cmp.Compare(id.Name, other.Name))
}

// String names the object as people do.
func (id ObjectID) String() string {
	return NameOf(schema.GroupKind{Group: id.Group, Kind: id.Kind}, id.Namespace, id.Name)
}

// Metadata that the API server, kubectl and Flux keep for themselves.
var (
	keptFields      = []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"}
	keptAnnotations = []string{"kubectl.kubernetes.io/last-applied-configuration", "reconcile.fluxcd.io/requestedAt"}
	keptLabels      = []string{"kustomize.toolkit.fluxcd.io/name", "kustomize.toolkit.fluxcd.io/namespace"}
)

// tidied is the content of an object without what a cluster keeps of it besides what
// was asked for; nil for none.
func tidied(o *unstructured.Unstructured) map[string]any {
	if o == nil {
		return nil
	}
	content := o.DeepCopy().Object
	delete(content, "status")
	// Versions are not compared: the cluster answers in the one that it was asked in.
	metadata, ok := content["metadata"].(map[string]any)
	if !ok {
		return content
	}
	for _, field := range keptFields {
		delete(metadata, field)
	}
	for field, keys := range map[string][]string{"annotations": keptAnnotations, "labels": keptLabels} {
		values, ok := metadata[field].(map[string]any)
		if !ok {
			if metadata[field] == nil {
				delete(metadata, field)
			}
			continue
		}
		maps.DeleteFunc(values, func(key string, _ any) bool { return slices.Contains(keys, key) })
		if len(values) == 0 {
			delete(metadata, field)
		}
	}
	return content
}

// OverlaysOfEither lists the overlays that one tree has or the other, of the folder that
// was opened when it lies among them.
func OverlaysOfEither(before, after *Tree) ([]Overlay, error) {
	var all []Overlay
	var failed error
	for _, tree := range []*Tree{before, after} {
		overlays, err := tree.Overlays()
		// Before the first overlay there was none.
		if err != nil && len(tree.Below(path.Join(tree.Folder, overlaysFolder))) > 0 {
			return nil, err
		}
		if err != nil {
			failed = err
		}
		for _, overlay := range overlays {
			if !slices.Contains(all, overlay) {
				all = append(all, overlay)
			}
		}
	}
	if len(all) == 0 {
		return nil, failed
	}
	slices.SortFunc(all, func(a, b Overlay) int { return cmp.Compare(a.Name, b.Name) })
	opened := after.Opened
	here := slices.DeleteFunc(slices.Clone(all), func(o Overlay) bool { return o.Path != opened && !strings.HasPrefix(o.Path, opened+"/") })
	if len(here) > 0 {
		return here, nil
	}
	return all, nil
}
