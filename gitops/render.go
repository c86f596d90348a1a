package gitops

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/yaml"
)

// Rendered is what an overlay comes to.
type Rendered struct {
	Overlay Overlay
	// Objects in the order in which kustomize prints them.
	Objects []Object
}

// Object is one rendered object.
type Object struct {
	// Content is the object as the API machinery decodes JSON: whole numbers are int64.
	Content map[string]any
	// Origin is where kustomize got it from; set by Validate only.
	Origin Origin
	// yaml is the object in kustomize's order of fields; set by Render only.
	yaml []byte
}

// YAML returns the object as kustomize prints it.
func (o Object) YAML() []byte { return o.yaml }

// Render builds an overlay as Flux would: kustomize without plugins, with files
// from anywhere in the repository and from nowhere else. The error is a
// *SourceError where the place of the mistake is known.
func Render(tree *Tree, overlay Overlay) (Rendered, error) {
	fSys := newReadOnly(tree)
	resources, err := build(fSys, overlay)
	if err != nil {
		return Rendered{}, err
	}
	rendered, err := collect(overlay, resources)
	if err != nil {
		return Rendered{}, err
	}
	for i, resource := range resources.Resources() {
		if rendered.Objects[i].yaml, err = resource.AsYAML(); err != nil {
			return Rendered{}, fmt.Errorf("overlay %s: print %s: %w", overlay.Name, describe(rendered.Objects[i]), err)
		}
	}
	return rendered, nil
}

// renderWithOrigins is Render, and notes where each object comes from.
func renderWithOrigins(tree *Tree, overlay Overlay) (Rendered, *readOnly, error) {
	fSys := newReadOnly(tree)
	if err := withOrigins(fSys, overlay); err != nil {
		return Rendered{}, nil, err
	}
	rendered, err := renderFrom(fSys, overlay)
	if err != nil {
		return Rendered{}, nil, err
	}
	for i := range rendered.Objects {
		rendered.Objects[i].Origin = originOf(overlay, rendered.Objects[i].Content)
	}
	return rendered, fSys, nil
}

// renderFrom builds an overlay, and leaves out how kustomize prints it.
func renderFrom(fSys *readOnly, overlay Overlay) (Rendered, error) {
	resources, err := build(fSys, overlay)
	if err != nil {
		return Rendered{}, err
	}
	return collect(overlay, resources)
}

func collect(overlay Overlay, resources resmap.ResMap) (Rendered, error) {
	out := Rendered{Overlay: overlay}
	for _, resource := range resources.Resources() {
		data, err := resource.MarshalJSON()
		if err != nil {
			return Rendered{}, fmt.Errorf("overlay %s: read %s %s: %w", overlay.Name, resource.GetKind(), resource.GetName(), err)
		}
		// With whole numbers as int64, as the API machinery wants them.
		content := map[string]any{}
		if err := json.Unmarshal(data, &content); err != nil {
			return Rendered{}, fmt.Errorf("overlay %s: read %s %s: %w", overlay.Name, resource.GetKind(), resource.GetName(), err)
		}
		out.Objects = append(out.Objects, Object{Content: content})
	}
	return out, nil
}

// build runs kustomize. What it says when it fails is explained, and has no value of
// a Secret.
func build(fSys *readOnly, overlay Overlay) (resmap.ResMap, error) {
	resources, err := runKustomize(fSys, overlay)
	if err != nil {
		return nil, fmt.Errorf("overlay %s: %w", overlay.Name, conceal(fSys, explainBuild(fSys, overlay, err)))
	}
	return resources, nil
}

func runKustomize(fSys *readOnly, overlay Overlay) (resources resmap.ResMap, err error) {
	defer fSys.clones.close()
	openAPI.Lock()
	defer openAPI.Unlock()
	// kustomize panics on some malformed input.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("kustomize gave up: %v", r)
		}
	}()
	openAPI.begin()
	defer openapi.ResetOpenAPI()

	options := krusty.MakeDefaultOptions()
	options.LoadRestrictions = types.LoadRestrictionsNone
	resources, err = krusty.MakeKustomizer(options).Run(fSys, "/"+overlay.Path)
	if fSys.refused != nil {
		return nil, fSys.refused
	}
	return resources, err
}

// withOrigins makes kustomize note on every object where it comes from.
func withOrigins(fSys *readOnly, overlay Overlay) error {
	file := fSys.tree.kustomizationFile(overlay.Path)
	data, err := fSys.tree.ReadFile(file)
	if err != nil {
		return err
	}
	kustomization := map[string]any{}
	if err := yaml.Unmarshal(data, &kustomization); err != nil {
		return nil // the build says what is wrong
	}
	if !saysSomething(kustomization) {
		return nil // with ours it would
	}
	metadata, _ := kustomization["buildMetadata"].([]any)
	if slices.Contains(metadata, any(types.OriginAnnotations)) {
		return nil
	}
	kustomization["buildMetadata"] = append(metadata, types.OriginAnnotations)
	data, err = yaml.Marshal(kustomization)
	if err != nil {
		return fmt.Errorf("encode %s: %w", file, err)
	}
	fSys.replaced[file] = data
	return nil
}

// saysSomething reports whether a kustomization is more than its kind: kustomize refuses
// one that is not.
func saysSomething(kustomization map[string]any) bool {
	for field := range kustomization {
		if field != "apiVersion" && field != "kind" {
			return true
		}
	}
	return false
}
