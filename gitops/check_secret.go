package gitops

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
)

func (o Object) isSecret() bool    { return o.isCore(secretKind) }
func (o Object) isConfigMap() bool { return o.isCore(configMapKind) }

func (o Object) isCore(kind string) bool {
	gvk := o.gvk()
	return gvk.Group == "" && gvk.Kind == kind
}

// isEncrypted reports whether SOPS has encrypted the object. Then its values are
// cipher text, and nothing can be said of them before Flux has decrypted them.
// https://fluxcd.io/flux/guides/mozilla-sops/
func (o Object) isEncrypted() bool {
	sops, _ := o.Content["sops"].(map[string]any)
	_, mac := sops["mac"].(string)
	_, version := sops["version"].(string)
	return mac && version
}

// secret judges a Secret. Its values are judged here, because a decoder says those
// that it refuses; it has the rest.
func (c *overlayCheck) secret(object Object) {
	rest := runtime.DeepCopyJSON(object.Content)
	delete(rest, "data")
	delete(rest, "stringData")
	c.otherObject(Object{Content: rest, Origin: object.Origin})
	for _, field := range []string{"data", "stringData"} {
		content, ok := object.Content[field]
		if !ok || content == nil {
			continue
		}
		values, ok := content.(map[string]any)
		if !ok {
			c.add(Error, object, field, "must be keys with a text each", "")
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(values)) {
			c.secretValue(object, field, key, values[key])
		}
	}
}

func (c *overlayCheck) secretValue(object Object, field, key string, value any) {
	at := field + "." + key
	if problems := validation.IsConfigMapKey(key); len(problems) > 0 {
		c.add(Error, object, field, fmt.Sprintf("%q can't be a key: %s", key, problems[0]), "")
	}
	if value == nil {
		return // an empty value
	}
	text, ok := value.(string)
	if !ok {
		c.add(Error, object, at, "is no text", "put the value in quotes")
		return
	}
	if field != "data" {
		return
	}
	if _, err := base64.StdEncoding.DecodeString(text); err != nil {
		c.add(Error, object, at, "is not base64", "plain text goes into stringData")
	}
}
