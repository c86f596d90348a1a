package main

import (
	"fmt"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

const configurationHeader = `# Written by kubectl fleet repo init; "repo init --update" writes it anew.
# Where fleet's kinds name a ConfigMap, so that kustomize's namePrefix and the
# hash behind a generated ConfigMap's name arrive there too.
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

// kustomizeConfiguration returns a file for the field `configurations` of a
// kustomization: where the kinds refer to ConfigMaps by name.
func kustomizeConfiguration(crds []*apiextensionsv1.CustomResourceDefinition) ([]byte, error) {
	var specs []fieldSpec
	for _, crd := range crds {
		schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
		specification := schema.Properties["spec"]
		for _, path := range configMapNames("spec", &specification) {
			specs = append(specs, fieldSpec{Path: path, Group: crd.Spec.Group, Kind: crd.Spec.Names.Kind})
		}
	}
	slices.SortFunc(specs, func(a, b fieldSpec) int { return strings.Compare(a.Path, b.Path) })
	data, err := yaml.Marshal(map[string]any{
		"nameReference": []nameReference{{Kind: "ConfigMap", Version: "v1", FieldSpecs: specs}},
	})
	if err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	return append([]byte(configurationHeader), data...), nil
}

// configMapNames finds the fields that hold a ConfigMap's name: the field name of
// an object that is called configMap, configMapRef or configMapKeyRef, as in a
// PodSpec.
func configMapNames(path string, s *apiextensionsv1.JSONSchemaProps) []string {
	var found []string
	for name, property := range s.Properties {
		child := path + "/" + name
		_, named := property.Properties["name"]
		if named && slices.Contains([]string{"configMap", "configMapRef", "configMapKeyRef"}, name) {
			found = append(found, child+"/name")
			continue
		}
		found = append(found, configMapNames(child, &property)...)
	}
	if s.Items != nil && s.Items.Schema != nil {
		found = append(found, configMapNames(path, s.Items.Schema)...)
	}
	return found
}
