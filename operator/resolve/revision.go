package resolve

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/nationtech/fleet/api/v1alpha1"
)

// revisionHash is the length of the hash in a revision's name.
const revisionHash = 10

// maxContent is how much a revision may keep, in bytes; etcd takes half as much
// again.
const maxContent = 1 << 20

// Content is what a revision keeps: the score, and the ConfigMaps that it refers to
// as they were, so that devices can be told it again when they have changed. Of Secrets
// it keeps no more than digests. What was missing is nil.
type Content struct {
	Score      v1alpha1.Score            `json:"score"`
	ConfigMaps map[string]*ConfigMapData `json:"configMaps,omitempty"`
	// Secrets has the digests of the keys that the score refers to.
	Secrets map[string]map[string]string `json:"secrets,omitempty"`
}

// ConfigMapData is the data of a ConfigMap.
type ConfigMapData struct {
	Data       map[string]string `json:"data,omitempty"`
	BinaryData map[string][]byte `json:"binaryData,omitempty"`
}

// ContentOf returns what a revision of the score keeps.
func ContentOf(score v1alpha1.Score, sources Sources) Content {
	c := Content{Score: score}
	for _, name := range References(score) {
		if c.ConfigMaps == nil {
			c.ConfigMaps = map[string]*ConfigMapData{}
		}
		c.ConfigMaps[name] = nil
		if m := sources.ConfigMaps[name]; m != nil {
			c.ConfigMaps[name] = &ConfigMapData{Data: m.Data, BinaryData: m.BinaryData}
		}
	}
	for name, keys := range secretKeys(score) {
		if c.Secrets == nil {
			c.Secrets = map[string]map[string]string{}
		}
		c.Secrets[name] = sources.Secrets[name].digests(keys)
	}
	return c
}

// digests are those of some keys, or of every key; nil for no Secret.
func (s *Secret) digests(keys []string) map[string]string {
	if s == nil {
		return nil
	}
	if keys == nil {
		return s.Digests
	}
	out := map[string]string{}
	for _, key := range keys {
		if digest, ok := s.Digests[key]; ok {
			out[key] = digest
		}
	}
	return out
}

// Marshal writes the content as the revision keeps it. What is too large is an
// InvalidError.
func (c Content) Marshal() ([]byte, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("write the score: %w", err)
	}
	if len(data) > maxContent {
		return nil, invalid("the score and the ConfigMaps that it refers to have %d bytes together, at most %d are allowed", len(data), maxContent)
	}
	return data, nil
}

// Template makes a Template of what a revision has kept, and of the Secrets as they are
// now. It fails with a ChangedError when these are not what they were.
func (c Content) Template(namespace string, secrets map[string]*Secret) (*Template, error) {
	sources := Sources{ConfigMaps: map[string]*corev1.ConfigMap{}, Secrets: secrets}
	for name, m := range c.ConfigMaps {
		if m != nil {
			sources.ConfigMaps[name] = &corev1.ConfigMap{Data: m.Data, BinaryData: m.BinaryData}
		}
	}
	for name, keys := range secretKeys(c.Score) {
		now := secrets[name].digests(keys)
		if (now == nil) != (c.Secrets[name] == nil) || !maps.Equal(now, c.Secrets[name]) {
			return nil, &ChangedError{Namespace: namespace, Name: name}
		}
	}
	return New(namespace, c.Score, sources)
}

// Name is the name of the revision of a Deployment: the Deployment's and a hash of
// the content in the letters that Kubernetes uses for it, which spell no words.
func (c Content) Name(deployment string) (string, error) {
	sum, err := hash(c)
	if err != nil {
		return "", fmt.Errorf("hash the score: %w", err)
	}
	return deployment + "-" + rand.SafeEncodeString(sum[:revisionHash]), nil
}

// hash is of the JSON: encoding/json sorts the keys of maps.
func hash(v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}
