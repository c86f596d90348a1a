package gitops

import (
	"reflect"
	"testing"

	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/kustomize/kyaml/openapi/kubernetesapi"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// TestEveryBuildBeginsWithTheSameSchema compares what a build begins with to what
// kustomize parses, after a build that has brought a schema of its own.
func TestEveryBuildBeginsWithTheSameSchema(t *testing.T) {
	if len(kubernetesapi.OpenAPIMustAsset) != 1 {
		t.Fatalf("kustomize has %d schemas compiled in; begin knows of one", len(kubernetesapi.OpenAPIMustAsset))
	}
	openAPI.Lock()
	defer openAPI.Unlock()
	defer openapi.ResetOpenAPI()
	openapi.ResetOpenAPI()
	want := openapi.Schema().Definitions
	if len(want) < 100 {
		t.Fatalf("kustomize has %d definitions", len(want))
	}
	for range 2 {
		openAPI.begin()
		if got := openapi.Schema().Definitions; !reflect.DeepEqual(got, want) {
			t.Fatalf("a build begins with %d definitions, kustomize has %d", len(got), len(want))
		}
		pod := yaml.TypeMeta{APIVersion: "v1", Kind: "Pod"}
		if s := openapi.SchemaForResourceType(pod); s == nil || s.Lookup("spec", "containers") == nil {
			t.Error("the schema of a Pod is not found")
		}
		if scoped, known := openapi.IsNamespaceScoped(pod); !scoped || !known {
			t.Error("a Pod has no namespace")
		}
		own := yaml.TypeMeta{APIVersion: "example.com/v1", Kind: "Own"}
		if openapi.SchemaForResourceType(own) != nil {
			t.Error("the schema of the build before is left over")
		}
		// As kustomize does for a kustomization with "openapi:".
		schema := []byte(`{"definitions": {
			"own": {"x-kubernetes-group-version-kind": [{"group": "example.com", "version": "v1", "kind": "Own"}]},
			"io.k8s.api.core.v1.Pod": {"type": "object"}}}`)
		if err := openapi.SetSchema(map[string]string{"path": "own.json"}, schema, true); err != nil {
			t.Fatal(err)
		}
		if openapi.SchemaForResourceType(own) == nil {
			t.Error("the schema of the build is not taken")
		}
	}
}
