package gitops

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// FieldChange is a field that has one value and another; nil is none.
type FieldChange struct {
	// Object is the kind, namespace and name.
	Object string `json:"object"`
	// Field is a path such as spec.score.podman.containers[hello].env[PORT].value.
	Field string `json:"field"`
	Old   any    `json:"old"`
	New   any    `json:"new"`
}

// step is one part of a field's path: a field of a mapping, or the element of a list
// whose key has that value.
type step struct {
	name string
	// key is empty for a field.
	key   string
	value any
}

// mergeKeys are the lists of a score whose elements have a name of their own, as the
// kinds' schema has them. All others are one value each.
var mergeKeys = map[string]string{
	"containers": "name", "initContainers": "name", "env": "name", "volumes": "name", "imagePullSecrets": "name",
	"ports": "containerPort", "volumeMounts": "mountPath",
}

// difference is a field that differs, with the way to it.
type difference struct {
	path     []step
	old, new any
}

// String is the path as FieldChange has it.
func (d difference) String() string { return pathString(d.path) }

func pathString(path []step) string {
	var out strings.Builder
	for _, s := range path {
		switch {
		case s.key != "":
			fmt.Fprintf(&out, "[%v]", s.value)
		case out.Len() > 0:
			out.WriteString("." + s.name)
		default:
			out.WriteString(s.name)
		}
	}
	return out.String()
}

// within reports whether the field is the one with that path, or one below it. The
// path may leave out which element, as kubectl explain has it.
func (d difference) within(field string) bool {
	full := d.String()
	for _, path := range []string{full, withoutIndices(full)} {
		if rest, ok := strings.CutPrefix(path, field); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// differences are the deepest fields that differ, in the order of their names.
func differences(path []step, old, new any) []difference {
	oldMap, oldIs := old.(map[string]any)
	newMap, newIs := new.(map[string]any)
	if oldIs && newIs {
		var out []difference
		for _, name := range union(oldMap, newMap) {
			out = append(out, differences(append(slices.Clone(path), step{name: name}), oldMap[name], newMap[name])...)
		}
		return out
	}
	if key := listKey(path); key != "" {
		oldElements, oldOK := elements(old, key)
		newElements, newOK := elements(new, key)
		if oldOK && newOK && old != nil && new != nil {
			var out []difference
			for _, value := range union(oldElements, newElements) {
				element := newElements[value]
				if element == nil {
					element = oldElements[value]
				}
				inside := append(slices.Clone(path), step{key: key, value: element.(map[string]any)[key]})
				out = append(out, differences(inside, oldElements[value], newElements[value])...)
			}
			return out
		}
	}
	if reflect.DeepEqual(old, new) {
		return nil
	}
	return []difference{{path: path, old: old, new: new}}
}

func listKey(path []step) string {
	if len(path) == 0 || path[len(path)-1].key != "" {
		return ""
	}
	return mergeKeys[path[len(path)-1].name]
}

// elements are those of a list by their keys; false when one has none, or two have
// the same.
func elements(list any, key string) (map[string]any, bool) {
	items, ok := list.([]any)
	out := map[string]any{}
	for _, item := range items {
		element, isMap := item.(map[string]any)
		value := element[key]
		if !isMap || value == nil || out[fmt.Sprint(value)] != nil {
			return nil, false
		}
		out[fmt.Sprint(value)] = element
	}
	return out, ok
}

func union(a, b map[string]any) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]any{}
	}
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

// generatedName is a name with kustomize's hash of the content behind it.
var generatedName = regexp.MustCompile(`^(.+)-[2456789bcdfghkmt]{10}$`)

// sameGenerated reports whether two values name the same generated ConfigMap or
// Secret, each with the content of its own overlay.
func sameGenerated(a, b any, namesA, namesB map[string]bool) bool {
	textA, okA := a.(string)
	textB, okB := b.(string)
	if !okA || !okB || !namesA[textA] || !namesB[textB] {
		return false
	}
	baseA, baseB := generatedName.FindStringSubmatch(textA), generatedName.FindStringSubmatch(textB)
	return baseA != nil && baseB != nil && baseA[1] == baseB[1]
}

// configured are the names of the ConfigMaps and Secrets of an overlay.
func (r Rendered) configured() map[string]bool {
	out := map[string]bool{}
	for _, object := range r.Objects {
		if gvk := object.gvk(); gvk.Group == "" && (gvk.Kind == "ConfigMap" || gvk.Kind == "Secret") {
			out[object.meta().GetName()] = true
		}
	}
	return out
}

// deployments are the fleet Deployments of an overlay by name.
func (r Rendered) deployments() map[string]Object {
	out := map[string]Object{}
	for _, object := range r.Objects {
		if object.isDeployment() {
			out[object.meta().GetName()] = object
		}
	}
	return out
}

// changedObjects are the objects that differ between two renders of an overlay, with
// the fields that do; an object that comes or goes differs as a whole.
func changedObjects(before, after Rendered) map[string][]difference {
	old, new := map[string]any{}, map[string]any{}
	for _, object := range before.Objects {
		old[describe(object)] = object.Content
	}
	for _, object := range after.Objects {
		new[describe(object)] = object.Content
	}
	out := map[string][]difference{}
	for _, name := range union(old, new) {
		if found := differences(nil, old[name], new[name]); len(found) > 0 {
			out[name] = found
		}
	}
	return out
}
