package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

const configurationHeader = `# Written by kubectl fleet repo init; "repo init --update" writes it anew.
# Where fleet's kinds name a ConfigMap or a Secret, so that kustomize's namePrefix and
# the hash behind a generated one's name arrive there too.
`

type fieldSpec struct {
	Path  string `json:"path"`
	Group string `json:"group"`
	Kind  string `json:"kind"`
}

type nameReference struct {
	Kind       string      `json:"kind"`
	Version    string      `json:"version"`
	FieldSpecs []fieldSpec `json:"fieldSpecs"`
}

// references are the objects that hold a name, by the field that the object is and the
// field in it, as in a PodSpec.
var references = map[string]map[string]string{
	"ConfigMap": {"configMap": "name", "configMapRef": "name", "configMapKeyRef": "name"},
	"Secret":    {"secret": "secretName", "secretRef": "name", "secretKeyRef": "name", "imagePullSecrets": "name"},
}

// kustomizeConfiguration returns a file for the field `configurations` of a
// kustomization: where the kinds refer to ConfigMaps and Secrets by name.
func kustomizeConfiguration(crds []*apiextensionsv1.CustomResourceDefinition) ([]byte, error) {
	var all []nameReference
	for _, kind := range slices.Sorted(maps.Keys(references)) {
		r := nameReference{Kind: kind, Version: "v1"}
		for _, crd := range crds {
			specification := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
			for _, path := range names(references[kind], "spec", &specification) {
				r.FieldSpecs = append(r.FieldSpecs, fieldSpec{Path: path, Group: crd.Spec.Group, Kind: crd.Spec.Names.Kind})
			}
		}
		slices.SortFunc(r.FieldSpecs, func(a, b fieldSpec) int { return strings.Compare(a.Path, b.Path) })
		all = append(all, r)
	}
	data, err := yaml.Marshal(map[string]any{
		"nameReference": all,
	})
	if err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	return append([]byte(configurationHeader), data...), nil
}

// names finds the fields that hold a name.
func names(references map[string]string, path string, s *apiextensionsv1.JSONSchemaProps) []string {
	var found []string
	for name, property := range s.Properties {
		child := path + "/" + name
		object := property
		if property.Items != nil && property.Items.Schema != nil {
			object = *property.Items.Schema
		}
		if field, ok := references[name]; ok {
			if _, named := object.Properties[field]; named {
				found = append(found, child+"/"+field)
				continue
			}
		}
		found = append(found, names(references, child, &object)...)
	}
	return found
}
