package gitops

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	apiservervalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	runtimeschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"

	"github.com/nationtech/fleet/manifests"
)

// Schemas judge objects of the fleet's kinds as the API server would, with the
// API server's own code.
type Schemas struct {
	kinds map[runtimeschema.GroupVersionKind]*kindSchema
}

type kindSchema struct {
	structural *structuralschema.Structural
	values     apiservervalidation.SchemaValidator
	rules      *cel.Validator
}

// violation is one thing that the API server would refuse.
type violation struct {
	// Field is a path such as spec.score.podman.containers[0].image.
	Field   string
	Message string
}

// NewSchemas compiles the schemas of the CustomResourceDefinitions that this
// version of fleet installs. It takes some milliseconds; the result can be used by
// several goroutines.
func NewSchemas() (*Schemas, error) {
	crds, err := manifests.CRDs()
	if err != nil {
		return nil, err
	}
	out := &Schemas{kinds: map[runtimeschema.GroupVersionKind]*kindSchema{}}
	for _, crd := range crds {
		for _, version := range crd.Spec.Versions {
			compiled, err := compile(version.Schema.OpenAPIV3Schema)
			if err != nil {
				return nil, fmt.Errorf("schema of %s: %w", crd.Name, err)
			}
			out.kinds[runtimeschema.GroupVersionKind{Group: crd.Spec.Group, Version: version.Name, Kind: crd.Spec.Names.Kind}] = compiled
		}
	}
	return out, nil
}

func compile(v1 *apiextensionsv1.JSONSchemaProps) (*kindSchema, error) {
	internal := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v1, internal, nil); err != nil {
		return nil, err
	}
	structural, err := structuralschema.NewStructural(internal)
	if err != nil {
		return nil, err
	}
	values, _, err := apiservervalidation.NewSchemaValidator(internal)
	if err != nil {
		return nil, err
	}
	return &kindSchema{
		structural: structural,
		values:     values,
		rules:      cel.NewValidator(structural, true, celconfig.PerCallLimit),
	}, nil
}

// versions are those that this version of fleet has of a kind; none when the kind
// is not one of the fleet's.
func (s *Schemas) versions(group, kind string) []string {
	var out []string
	for gvk := range s.kinds {
		if gvk.Group == group && gvk.Kind == kind {
			out = append(out, gvk.Version)
		}
	}
	slices.Sort(out)
	return out
}

// Default fills in, in an object of the fleet's kinds, what the API server would where
// nothing is said.
func (s *Schemas) Default(object *unstructured.Unstructured) {
	if kind := s.kinds[object.GroupVersionKind()]; kind != nil {
		defaulting.Default(object.Object, kind.structural)
	}
}

// check returns what the API server would refuse of an object of that kind, in
// the order in which it looks: unknown fields, types and values, lists, rules.
func (s *kindSchema) check(content map[string]any) []violation {
	obj := runtime.DeepCopyJSON(content)
	var out []violation
	unknown := pruning.PruneWithOptions(obj, s.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	_, _, inMetadata, err := objectmeta.GetObjectMetaWithOptions(obj, objectmeta.ObjectMetaOptions{ReturnUnknownFieldPaths: true})
	if err != nil {
		return append(out, violation{Field: "metadata", Message: err.Error()})
	}
	slices.Sort(unknown)
	for _, path := range append(unknown, inMetadata...) {
		out = append(out, violation{Field: path, Message: "unknown field"})
	}
	defaulting.Default(obj, s.structural)
	errs := apiservervalidation.ValidateCustomResource(nil, obj, s.values)
	errs = append(errs, objectmeta.Validate(nil, obj, s.structural, true)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, s.structural, obj)...)
	if len(errs) == 0 {
		// As the API server: a rule could not stand a value of the wrong type.
		ruleErrs, _ := s.rules.Validate(context.Background(), nil, s.structural, obj, nil, celconfig.RuntimeCELCostBudget)
		errs = ruleErrs
	}
	for _, e := range errs {
		v := violation{Field: fieldPath(e.Field), Message: reason(e)}
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// fieldPath tidies what the validators call the object itself.
func fieldPath(path string) string {
	if path == "<nil>" {
		return ""
	}
	return strings.TrimPrefix(path, "<nil>.")
}

// ruleNoise is what the validators say before the message that counts.
var ruleNoise = regexp.MustCompile(`^[^ ]* in body `)

func reason(e *field.Error) string {
	switch e.Type {
	case field.ErrorTypeRequired:
		return "is required"
	case field.ErrorTypeDuplicate:
		return fmt.Sprintf("%v is there twice", e.BadValue)
	case field.ErrorTypeNotSupported:
		return fmt.Sprintf("%q is not one of the values that are allowed: %s", fmt.Sprint(e.BadValue), strings.TrimPrefix(e.Detail, "supported values: "))
	}
	return ruleNoise.ReplaceAllString(e.Detail, "")
}
