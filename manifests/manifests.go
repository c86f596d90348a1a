// Package manifests holds what is installed into the management cluster, as
// kustomize directories, and gives Go programs the CustomResourceDefinitions
// among it, so that a tool and the cluster judge by the same schema.
package manifests

import (
	"embed"
	"fmt"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

//go:embed crd/*.yaml
var crds embed.FS

// CRDs returns the CustomResourceDefinitions of the fleet's kinds, in the order
// of their file names. Each call returns fresh copies.
func CRDs() ([]*apiextensionsv1.CustomResourceDefinition, error) {
	entries, err := crds.ReadDir("crd")
	if err != nil {
		return nil, fmt.Errorf("list embedded CRDs: %w", err)
	}
	var out []*apiextensionsv1.CustomResourceDefinition
	for _, entry := range entries {
		if entry.Name() == "kustomization.yaml" {
			continue
		}
		data, err := crds.ReadFile("crd/" + entry.Name())
		if err != nil {
			return nil, fmt.Errorf("read embedded CRD: %w", err)
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(data, crd); err != nil {
			return nil, fmt.Errorf("decode embedded CRD %s: %w", entry.Name(), err)
		}
		out = append(out, crd)
	}
	return out, nil
}
