package gitops

import (
	"bytes"
	"path"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
)

// otherObject judges an object that is none of the fleet's. Kubernetes' own kinds
// are decoded strictly; what is known of others is only that they have a name.
func (c *overlayCheck) otherObject(object Object) {
	if object.meta().GetName() == "" && object.meta().GetGenerateName() == "" {
		c.add(Error, object, "metadata.name", "is required", "")
	}
	if !scheme.Scheme.Recognizes(object.gvk()) {
		return
	}
	data, err := (&unstructured.Unstructured{Object: object.Content}).MarshalJSON()
	if err != nil {
		c.add(Error, object, "", err.Error(), "")
		return
	}
	_, _, err = strictDecoder().Decode(data, nil, nil)
	if strict, ok := runtime.AsStrictDecodingError(err); ok {
		for _, e := range strict.Errors() {
			field := ""
			message := e.Error()
			if name := unknownField.FindStringSubmatch(message); name != nil {
				field, message = name[1], "unknown field"
			}
			c.add(Error, object, field, message, "")
		}
		return
	}
	if err != nil {
		c.add(Error, object, "", err.Error(), "")
	}
}

// strictDecoder refuses fields that a kind does not have.
var strictDecoder = sync.OnceValue(func() runtime.Decoder {
	return serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
})

// staleComponent warns when the repository tells kustomize something else of the
// fleet's kinds than this version of fleet does.
func staleComponent(tree *Tree) []Finding {
	embedded := map[string][]byte{}
	if err := addComponent(embedded); err != nil {
		return nil // it is compiled in; a test reads it
	}
	for _, name := range []string{"openapi.json", "names.yaml", "tidy.yaml"} {
		file := path.Join(componentFolder, name)
		have, err := tree.ReadFile(path.Join(tree.Folder, file))
		if err != nil || bytes.Equal(have, embedded[file]) {
			continue
		}
		return []Finding{{
			Severity: Warning, File: path.Join(tree.Folder, file),
			Message: "is not what this version of kubectl fleet has",
			Hint:    "kubectl fleet repo init --update writes it anew",
		}}
	}
	return nil
}
