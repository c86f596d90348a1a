package resolve

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

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
// as they were, so that devices can be told it again when they have changed. One
// that was missing is nil.
type Content struct {
	Score      v1alpha1.Score            `json:"score"`
	ConfigMaps map[string]*ConfigMapData `json:"configMaps,omitempty"`
}

// ConfigMapData is the data of a ConfigMap.
type ConfigMapData struct {
	Data       map[string]string `json:"data,omitempty"`
	BinaryData map[string][]byte `json:"binaryData,omitempty"`
}

// ContentOf returns what a revision of the score keeps.
func ContentOf(score v1alpha1.Score, configMaps map[string]*corev1.ConfigMap) Content {
	c := Content{Score: score}
	for _, name := range References(score) {
		if c.ConfigMaps == nil {
			c.ConfigMaps = map[string]*ConfigMapData{}
		}
		c.ConfigMaps[name] = nil
		if m := configMaps[name]; m != nil {
			c.ConfigMaps[name] = &ConfigMapData{Data: m.Data, BinaryData: m.BinaryData}
		}
	}
	return c
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

// Template makes a Template of what a revision has kept.
func (c Content) Template(namespace string) (*Template, error) {
	configMaps := map[string]*corev1.ConfigMap{}
	for name, m := range c.ConfigMaps {
		if m != nil {
			configMaps[name] = &corev1.ConfigMap{Data: m.Data, BinaryData: m.BinaryData}
		}
	}
	return New(namespace, c.Score, configMaps)
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
