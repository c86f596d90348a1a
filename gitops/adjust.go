package gitops

import (
	"fmt"
	"path"
	"slices"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/kustomize"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/resid"
	"sigs.k8s.io/yaml"
)

// RenderFor is Render as a Flux Kustomization has it done: with the namespace, names,
// patches, images and components that it adds to the overlay's own kustomization, and
// the metadata that it adds to every object. What postBuild substitutes is left.
// https://fluxcd.io/flux/components/kustomize/kustomizations/
func RenderFor(tree *Tree, overlay Overlay, spec *kustomizev1.KustomizationSpec) (Rendered, error) {
	fSys := newReadOnly(tree)
	if err := adjust(fSys, overlay, spec); err != nil {
		return Rendered{}, fmt.Errorf("overlay %s: %w", overlay.Name, err)
	}
	rendered, err := renderFrom(fSys, overlay)
	if err != nil {
		return Rendered{}, err
	}
	if common := spec.CommonMetadata; common != nil {
		for _, object := range rendered.Objects {
			o := object.meta()
			o.SetLabels(merged(o.GetLabels(), common.Labels))
			o.SetAnnotations(merged(o.GetAnnotations(), common.Annotations))
		}
	}
	return rendered, nil
}

func merged(own, more map[string]string) map[string]string {
	for key, value := range more {
		if own == nil {
			own = map[string]string{}
		}
		own[key] = value
	}
	return own
}

// adjust stands a kustomization in for the overlay's own. One that can't be read is left
// as it is: the build says what is wrong.
func adjust(fSys *readOnly, overlay Overlay, spec *kustomizev1.KustomizationSpec) error {
	file := fSys.tree.kustomizationFile(overlay.Path)
	data, err := fSys.tree.ReadFile(file)
	if err != nil {
		return err
	}
	k := types.Kustomization{}
	if k.Unmarshal(data) != nil {
		return nil
	}
	if spec.TargetNamespace != "" {
		k.Namespace = spec.TargetNamespace
	}
	if spec.NamePrefix != "" {
		k.NamePrefix = spec.NamePrefix
	}
	if spec.NameSuffix != "" {
		k.NameSuffix = spec.NameSuffix
	}
	for _, p := range spec.Patches {
		k.Patches = append(k.Patches, types.Patch{Patch: p.Patch, Target: selectorOf(p.Target)})
	}
	for _, component := range spec.Components {
		if !path.IsAbs(component) && spec.IgnoreMissingComponents && fSys.tree.kustomizationFile(path.Join(overlay.Path, component)) == "" {
			continue
		}
		k.Components = append(k.Components, component)
	}
	for _, image := range spec.Images {
		k.Images = withImage(k.Images, image)
	}
	data, err = yaml.Marshal(k)
	if err != nil {
		return fmt.Errorf("encode %s: %w", file, err)
	}
	fSys.replaced[file] = data
	return nil
}

func selectorOf(s *kustomize.Selector) *types.Selector {
	if s == nil {
		return nil
	}
	return &types.Selector{
		ResId:              resid.ResId{Gvk: resid.Gvk{Group: s.Group, Version: s.Version, Kind: s.Kind}, Name: s.Name, Namespace: s.Namespace},
		AnnotationSelector: s.AnnotationSelector, LabelSelector: s.LabelSelector,
	}
}

// withImage changes an image where there is one of its name, field by field; tag and
// digest are one field, for both say which version.
func withImage(images []types.Image, image kustomize.Image) []types.Image {
	i := slices.IndexFunc(images, func(known types.Image) bool { return known.Name == image.Name })
	if i < 0 {
		i, images = len(images), append(images, types.Image{Name: image.Name})
	}
	if image.NewName != "" {
		images[i].NewName = image.NewName
	}
	if image.NewTag != "" || image.Digest != "" {
		images[i].NewTag, images[i].Digest = image.NewTag, image.Digest
	}
	return images
}
