package gitops

import "k8s.io/apimachinery/pkg/labels"

// inventory is what an overlay has that its Deployments refer to.
type inventory struct {
	sources map[sourceID]Object
	// devices by namespace, in the order of the overlay.
	devices map[string][]labels.Set
}

// sourceID names a ConfigMap or a Secret.
type sourceID struct{ kind, namespace, name string }

func newInventory(rendered Rendered) *inventory {
	out := &inventory{sources: map[sourceID]Object{}, devices: map[string][]labels.Set{}}
	for _, object := range rendered.Objects {
		meta := object.meta()
		switch {
		case object.isSecret() || object.isConfigMap():
			out.sources[sourceID{meta.GetKind(), meta.GetNamespace(), meta.GetName()}] = object
		case object.isDevice():
			out.devices[meta.GetNamespace()] = append(out.devices[meta.GetNamespace()], meta.GetLabels())
		}
	}
	return out
}

// hasKey reports whether a ConfigMap or Secret has a key; of one that is encrypted
// nobody can say that it has not.
func hasKey(source Object, key string) bool {
	if source.isEncrypted() {
		return true
	}
	for _, field := range []string{"data", "stringData", "binaryData"} {
		values, _ := source.Content[field].(map[string]any)
		if _, ok := values[key]; ok {
			return true
		}
	}
	return false
}
