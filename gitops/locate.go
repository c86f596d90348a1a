package gitops

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// Origin is where kustomize got an object from; both are relative to the
// repository's root and at most one is set.
type Origin struct {
	// File holds the object.
	File string
	// ConfiguredIn holds the generator that made it.
	ConfiguredIn string
}

// originDoc is the document that an object began as.
type originDoc struct {
	file string
	document
}

// origin finds the document that an object began as; nil when there is none, as
// for what a generator makes.
func (r *readOnly) origin(_ Overlay, object Object) *originDoc {
	file := object.Origin.File
	if file == "" {
		return nil
	}
	kind, name := object.meta().GetKind(), object.meta().GetName()
	var ofKind []*originDoc
	for _, began := range r.documents(file) {
		if began.inline {
			continue
		}
		for _, item := range listItems(began.node) {
			if item.GetKind() != kind {
				continue
			}
			doc := &originDoc{file: file, document: document{node: item}}
			if item.GetName() == name {
				return doc
			}
			ofKind = append(ofKind, doc)
		}
	}
	// A prefix or suffix has changed the name; the longest name that is part of the
	// new one is the old one.
	var best *originDoc
	for _, doc := range ofKind {
		old := doc.node.GetName()
		if old != "" && strings.Contains(name, old) && (best == nil || len(old) > len(best.node.GetName())) {
			best = doc
		}
	}
	if best == nil && len(ofKind) == 1 {
		return ofKind[0]
	}
	return best
}

// listItems are the objects of a List, or the object itself.
func listItems(node *yaml.RNode) []*yaml.RNode {
	if !strings.HasSuffix(node.GetKind(), "List") {
		return []*yaml.RNode{node}
	}
	items, err := node.Pipe(yaml.Get("items"))
	if err != nil || items == nil {
		return []*yaml.RNode{node}
	}
	elements, err := items.Elements()
	if err != nil {
		return []*yaml.RNode{node}
	}
	return elements
}

// locate finds the file and line where a field of a rendered object was written:
// in the object's own file, in a patch, or, failing that, where the object begins.
func (r *readOnly) locate(overlay Overlay, object Object, field string) (string, int) {
	steps := fieldSteps(field)
	began := r.origin(overlay, object)
	if began != nil {
		if node, rest := descend(began.node.YNode(), steps); len(rest) == 0 {
			return began.file, began.line + node.Line
		}
	}
	if file, line := r.locatePatch(object, field, steps); file != "" {
		return file, line
	}
	switch {
	case began != nil:
		node, _ := descend(began.node.YNode(), steps)
		return began.file, began.line + node.Line
	case object.Origin.ConfiguredIn != "":
		return object.Origin.ConfiguredIn, 0
	case object.Origin.File != "":
		return object.Origin.File, 0
	}
	return r.tree.kustomizationFile(overlay.Path), 0
}

// locatePatch looks for the field in every patch that was read: merge patches by
// kind and path, JSON patches by pointer.
func (r *readOnly) locatePatch(object Object, field string, steps []string) (string, int) {
	if len(steps) == 0 {
		return "", 0
	}
	pointer := "/" + strings.Join(steps, "/")
	for _, file := range slices.Sorted(maps.Keys(r.read)) {
		if isFetched(file) {
			continue
		}
		for _, doc := range r.documents(file) {
			if doc.node.YNode().Kind == yaml.SequenceNode || doc.node.YNode().Kind == yaml.DocumentNode && doc.node.YNode().Content[0].Kind == yaml.SequenceNode {
				if line := jsonPatchLine(doc.node, pointer); line > 0 {
					return file, doc.line + line
				}
				continue
			}
			if doc.node.GetKind() != object.meta().GetKind() || !mergePatchFor(doc, object) {
				continue
			}
			if node := findTail(doc.node.YNode(), steps); node != nil {
				return file, doc.line + node.Line
			}
		}
	}
	return "", 0
}

func mergePatchFor(doc document, object Object) bool {
	name := doc.node.GetName()
	return name == "" || strings.Contains(object.meta().GetName(), name)
}

// jsonPatchLine is the line of the operation that writes at the pointer or above.
func jsonPatchLine(patch *yaml.RNode, pointer string) int {
	elements, err := patch.Elements()
	if err != nil {
		return 0
	}
	for _, op := range elements {
		at, err := op.GetString("path")
		if err == nil && (at == pointer || strings.HasPrefix(pointer, at+"/")) {
			return op.YNode().Line
		}
	}
	return 0
}

// fieldSteps takes spec.a[0].b apart: spec, a, 0, b.
func fieldSteps(field string) []string {
	if field == "" {
		return nil
	}
	var out []string
	for _, part := range strings.FieldsFunc(field, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		out = append(out, strings.Trim(part, `"'`))
	}
	return out
}

// descend follows the steps as far as they go, and returns the last node (for a
// mapping's field its key, which has the line) and the steps that are left.
func descend(node *yaml.Node, steps []string) (*yaml.Node, []string) {
	if node.Kind == yaml.DocumentNode && len(node.Content) > 0 {
		node = node.Content[0]
	}
	at := node
	for len(steps) > 0 {
		key, value := child(node, steps[0])
		if value == nil {
			return at, steps
		}
		at, node, steps = key, value, steps[1:]
	}
	return at, nil
}

func child(node *yaml.Node, step string) (key, value *yaml.Node) {
	switch node.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == step {
				return node.Content[i], node.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i < len(node.Content) {
			return node.Content[i], node.Content[i]
		}
	}
	return nil, nil
}

// findTail follows the steps in a patch, whose lists need not have the positions
// of the result's: every element is tried.
func findTail(node *yaml.Node, steps []string) *yaml.Node {
	if node.Kind == yaml.DocumentNode && len(node.Content) > 0 {
		node = node.Content[0]
	}
	at := node
	for i, step := range steps {
		if node.Kind == yaml.SequenceNode {
			for _, element := range node.Content {
				if found := findTail(element, steps[i+1:]); found != nil {
					return found
				}
			}
			return nil
		}
		key, value := child(node, step)
		if value == nil {
			return nil
		}
		at, node = key, value
	}
	return at
}

// originOf reads kustomize's note of where an object comes from, and takes it off.
func originOf(overlay Overlay, content map[string]any) Origin {
	metadata, _ := content["metadata"].(map[string]any)
	annotations, _ := metadata["annotations"].(map[string]any)
	text, _ := annotations[originAnnotation].(string)
	if text == "" {
		return Origin{}
	}
	delete(annotations, originAnnotation)
	if len(annotations) == 0 {
		delete(metadata, "annotations")
	}
	var noted struct {
		Repo         string `yaml:"repo"`
		Path         string `yaml:"path"`
		ConfiguredIn string `yaml:"configuredIn"`
	}
	if err := yaml.Unmarshal([]byte(text), &noted); err != nil {
		return Origin{} // the finding then names the overlay
	}
	if noted.Repo != "" || isRemote(noted.Path) {
		return Origin{} // it is no file of this repository
	}
	out := Origin{}
	if noted.Path != "" {
		out.File = path.Join(overlay.Path, noted.Path)
	}
	if noted.ConfiguredIn != "" {
		out.ConfiguredIn = path.Join(overlay.Path, noted.ConfiguredIn)
	}
	return out
}

// originAnnotation is how kustomize notes it.
// https://github.com/kubernetes-sigs/kustomize/blob/master/examples/originAnnotations.md
const originAnnotation = "config.kubernetes.io/origin"
