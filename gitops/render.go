package gitops

import (
	"fmt"
	"slices"
	"sync"

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
	// yaml is the object in kustomize's order of fields.
	yaml []byte
}

// YAML returns the object as kustomize prints it.
func (o Object) YAML() []byte { return o.yaml }

// building guards kustomize's OpenAPI schema, which is a variable of its package.
var building sync.Mutex

// Render builds an overlay as Flux would: kustomize without plugins, with files
// from anywhere in the repository and from nowhere else. The error is a
// *SourceError where the place of the mistake is known.
func Render(tree *Tree, overlay Overlay) (Rendered, error) {
	return renderFrom(newReadOnly(tree), overlay)
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

func renderFrom(fSys *readOnly, overlay Overlay) (Rendered, error) {
	resources, err := build(fSys, overlay)
	if err != nil {
		return Rendered{}, fmt.Errorf("overlay %s: %w", overlay.Name, explainBuild(fSys, overlay, err))
	}
	return collect(overlay, resources)
}

func collect(overlay Overlay, resources resmap.ResMap) (Rendered, error) {
	out := Rendered{Overlay: overlay}
	for _, resource := range resources.Resources() {
		data, err := resource.MarshalJSON()
		if err != nil {
			return Rendered{}, fmt.Errorf("overlay %s: read %s: %w", overlay.Name, resource.CurId(), err)
		}
		// With whole numbers as int64, as the API machinery wants them.
		content := map[string]any{}
		if err := json.Unmarshal(data, &content); err != nil {
			return Rendered{}, fmt.Errorf("overlay %s: read %s: %w", overlay.Name, resource.CurId(), err)
		}
		text, err := resource.AsYAML()
		if err != nil {
			return Rendered{}, fmt.Errorf("overlay %s: print %s: %w", overlay.Name, resource.CurId(), err)
		}
		out.Objects = append(out.Objects, Object{Content: content, yaml: text})
	}
	return out, nil
}

func build(fSys *readOnly, overlay Overlay) (resources resmap.ResMap, err error) {
	building.Lock()
	defer building.Unlock()
	// kustomize panics on some malformed input.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("kustomize gave up: %v", r)
		}
	}()
	// As Flux does it: begin with Kubernetes' own schema, so that a schema of the
	// repository adds to it and none is left over from the build before.
	// github.com/fluxcd/pkg/kustomize, Build
	openapi.ResetOpenAPI()
	openapi.Schema()
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
