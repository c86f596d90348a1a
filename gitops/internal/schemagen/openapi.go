package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/kustomize/kyaml/openapi"
)

// Extensions by which kustomize merges lists.
const (
	extensionKind     = "x-kubernetes-group-version-kind"
	extensionStrategy = "x-kubernetes-patch-strategy"
	extensionKey      = "x-kubernetes-patch-merge-key"
	extensionKeys     = "x-kubernetes-list-map-keys"
)

// node is the part of a schema that changes how kustomize merges: which lists
// are merged by which key, and the way to them. kustomize replaces a list that
// it knows nothing about, and merges maps and scalars without a schema.
type node struct {
	Kinds      any              `json:"x-kubernetes-group-version-kind,omitempty"`
	Ref        string           `json:"$ref,omitempty"`
	Type       string           `json:"type,omitempty"`
	Keys       any              `json:"x-kubernetes-list-map-keys,omitempty"`
	Key        any              `json:"x-kubernetes-patch-merge-key,omitempty"`
	Strategy   any              `json:"x-kubernetes-patch-strategy,omitempty"`
	Items      *node            `json:"items,omitempty"`
	Values     *node            `json:"additionalProperties,omitempty"`
	Properties map[string]*node `json:"properties,omitempty"`
}

func (n *node) empty() bool {
	return n.Ref == "" && n.Strategy == nil && n.Items == nil && n.Values == nil && len(n.Properties) == 0
}

// kustomizeOpenAPI returns an OpenAPI document for the field `openapi.path` of a
// kustomization. Such a document takes the place of the schema that kustomize has
// built in, so Kubernetes' own kinds are in it too, each cut down to what changes
// a merge.
func kustomizeOpenAPI(crds []*apiextensionsv1.CustomResourceDefinition) ([]byte, error) {
	pruned := prune(openapi.Schema().Definitions)
	for _, crd := range crds {
		for _, version := range crd.Spec.Versions {
			definition := fromCRD(version.Schema.OpenAPIV3Schema)
			if definition == nil {
				definition = &node{}
			}
			definition.Kinds = []map[string]string{{
				"group": crd.Spec.Group, "kind": crd.Spec.Names.Kind, "version": version.Name,
			}}
			if definition.Properties == nil {
				definition.Properties = map[string]*node{}
			}
			definition.Properties["metadata"] = &node{Ref: objectMeta}
			pruned[crd.Spec.Group+"."+version.Name+"."+crd.Spec.Names.Kind] = definition
		}
	}
	return document(pruned)
}

const objectMeta = "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

// document prints one definition a line, so that a change shows as a few lines in
// the history of a repository that holds a copy.
func document(definitions map[string]*node) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("{\"swagger\":\"2.0\",\"info\":{\"title\":\"fleet for kustomize\",\"version\":\"v1alpha1\"},\"paths\":{},\"definitions\":{\n")
	for i, name := range slices.Sorted(maps.Keys(definitions)) {
		if i > 0 {
			b.WriteString(",\n")
		}
		line, err := json.Marshal(definitions[name])
		if err != nil {
			return nil, fmt.Errorf("encode definition %s: %w", name, err)
		}
		fmt.Fprintf(&b, "%q:%s", name, line)
	}
	b.WriteString("\n}}\n")
	return b.Bytes(), nil
}

// prune keeps of the definitions what leads to a list that is merged by key.
// Definitions refer to each other, some in circles, so it goes on cutting
// references to definitions in which nothing is left until nothing changes.
func prune(definitions spec.Definitions) map[string]*node {
	out := map[string]*node{}
	for name, definition := range definitions {
		n := fromBuiltIn(&definition)
		if n == nil {
			continue
		}
		n.Kinds = definition.Extensions[extensionKind]
		out[name] = n
	}
	for cutDangling(out) {
	}
	return out
}

func cutDangling(definitions map[string]*node) bool {
	cut := false
	for name, definition := range definitions {
		if without := cutReferences(definition, definitions); without == nil {
			delete(definitions, name)
			cut = true
		}
	}
	return cut
}

func cutReferences(n *node, definitions map[string]*node) *node {
	if n == nil {
		return nil
	}
	if n.Ref != "" && definitions[strings.TrimPrefix(n.Ref, "#/definitions/")] == nil {
		n.Ref = ""
	}
	n.Items = cutReferences(n.Items, definitions)
	n.Values = cutReferences(n.Values, definitions)
	for name, property := range n.Properties {
		if cutReferences(property, definitions) == nil {
			delete(n.Properties, name)
		}
	}
	if n.empty() {
		return nil
	}
	return n
}

func fromBuiltIn(s *spec.Schema) *node {
	n := &node{
		Ref:      s.Ref.String(),
		Strategy: s.Extensions[extensionStrategy],
		Key:      s.Extensions[extensionKey],
		Keys:     s.Extensions[extensionKeys],
	}
	if n.Strategy == nil {
		// Without a strategy kustomize does not look at the keys.
		n.Key, n.Keys = nil, nil
	}
	if s.Items != nil && s.Items.Schema != nil {
		n.Items = fromBuiltIn(s.Items.Schema)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		n.Values = fromBuiltIn(s.AdditionalProperties.Schema)
	}
	for name, property := range s.Properties {
		n.set(name, fromBuiltIn(&property))
	}
	return n.finish(s.Type.Contains("array"))
}

func fromCRD(s *apiextensionsv1.JSONSchemaProps) *node {
	n := &node{}
	if s.XListType != nil && *s.XListType == "map" {
		n.Strategy = "merge"
		n.Key = s.XListMapKeys[0]
		n.Keys = s.XListMapKeys
	}
	if s.Items != nil && s.Items.Schema != nil {
		n.Items = fromCRD(s.Items.Schema)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		n.Values = fromCRD(s.AdditionalProperties.Schema)
	}
	for name, property := range s.Properties {
		if name == "status" {
			continue // never in Git
		}
		n.set(name, fromCRD(&property))
	}
	return n.finish(s.Type == "array")
}

func (n *node) set(name string, property *node) {
	if property == nil {
		return
	}
	if n.Properties == nil {
		n.Properties = map[string]*node{}
	}
	n.Properties[name] = property
}

// finish returns nil for a node that changes no merge.
func (n *node) finish(array bool) *node {
	if n.empty() {
		return nil
	}
	if array {
		n.Type = "array"
	}
	return n
}
