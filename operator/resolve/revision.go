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

// Content is what a revision keeps: the score, and of each ConfigMap it refers to
// the hash of its data, or nothing for one that is missing.
type Content struct {
	Score      v1alpha1.Score    `json:"score"`
	ConfigMaps map[string]string `json:"configMaps,omitempty"`
}

// ContentOf returns what a revision of the score keeps.
func ContentOf(score v1alpha1.Score, configMaps map[string]*corev1.ConfigMap) (Content, error) {
	c := Content{Score: score}
	for _, name := range References(score) {
		if c.ConfigMaps == nil {
			c.ConfigMaps = map[string]string{}
		}
		m := configMaps[name]
		if m == nil {
			c.ConfigMaps[name] = ""
			continue
		}
		sum, err := hash(struct {
			Data       map[string]string `json:"data,omitempty"`
			BinaryData map[string][]byte `json:"binaryData,omitempty"`
		}{m.Data, m.BinaryData})
		if err != nil {
			return Content{}, fmt.Errorf("hash ConfigMap %s: %w", name, err)
		}
		c.ConfigMaps[name] = sum
	}
	return c, nil
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
