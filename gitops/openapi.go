package gitops

import (
	"maps"
	"sync"

	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/kustomize/kyaml/openapi"
)

// openAPI is kustomize's OpenAPI schema, a variable of its package that each build
// may add to. So there is one build at a time.
var openAPI kustomizeSchema

type kustomizeSchema struct {
	sync.Mutex
	// kubernetes are the definitions that kustomize has compiled in. To parse them
	// takes longer than to build an overlay.
	kubernetes spec.Definitions
}

// begin does as Flux does: a build begins with Kubernetes' own schema, so that a
// schema of the repository adds to it and none is left over from the build before.
// github.com/fluxcd/pkg/kustomize, Build
func (k *kustomizeSchema) begin() {
	openapi.ResetOpenAPI()
	if k.kubernetes == nil {
		k.kubernetes = maps.Clone(openapi.Schema().Definitions)
		return
	}
	// What is not in the definitions, which kinds have a namespace, kustomize knows
	// without parsing.
	openapi.SuppressBuiltInSchemaUse()
	openapi.AddDefinitions(k.kubernetes)
	openapi.Schema()
}
