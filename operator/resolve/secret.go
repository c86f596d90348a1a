package resolve

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
)

// Secret is the data of a Secret, with a digest of each key.
type Secret struct {
	Data    map[string][]byte
	Digests map[string]string
}

// Salt makes digests of secrets that tell nothing about them, not even to who tries all
// that there could be: it is known to the operator alone.
type Salt []byte

// Secret digests a Secret.
func (s Salt) Secret(secret *corev1.Secret) *Secret {
	out := &Secret{Data: secret.Data, Digests: make(map[string]string, len(secret.Data))}
	for key, value := range secret.Data {
		mac := hmac.New(sha256.New, s)
		// Of the place too, so that nobody sees that two secrets are the same.
		fmt.Fprintf(mac, "%s/%s/%s\n", secret.Namespace, secret.Name, key)
		mac.Write(value)
		out.Digests[key] = hex.EncodeToString(mac.Sum(nil)[:16])
	}
	return out
}

// SecretReferences lists the names of the Secrets that a score refers to, sorted.
func SecretReferences(score v1alpha1.Score) []string {
	return slices.Sorted(maps.Keys(secretKeys(score)))
}

// secretKeys are the keys of each Secret that a score refers to; nil is every key.
func secretKeys(score v1alpha1.Score) map[string][]string {
	out := map[string][]string{}
	for from := range userDataOf(score.KVM) {
		if ref := from.SecretKeyRef; ref != nil {
			out[ref.Name] = append(out[ref.Name], ref.Key)
		}
	}
	if score.Podman == nil {
		return out
	}
	every := map[string]bool{}
	add := func(name string, keys ...string) {
		out[name] = append(out[name], keys...)
		every[name] = every[name] || len(keys) == 0
	}
	for c := range containers(score.Podman) {
		for _, from := range c.EnvFrom {
			if from.SecretRef != nil {
				add(from.SecretRef.Name)
			}
		}
		for _, v := range c.Env {
			if v.ValueFrom != nil && v.ValueFrom.SecretKeyRef != nil {
				add(v.ValueFrom.SecretKeyRef.Name, v.ValueFrom.SecretKeyRef.Key)
			}
		}
	}
	for _, v := range score.Podman.Volumes {
		if v.Secret == nil {
			continue
		}
		if len(v.Secret.Items) == 0 {
			add(v.Secret.SecretName)
		}
		for _, item := range v.Secret.Items {
			add(v.Secret.SecretName, item.Key)
		}
	}
	for _, ref := range score.Podman.ImagePullSecrets {
		add(ref.Name, corev1.DockerConfigJsonKey)
	}
	for name := range every {
		if every[name] {
			out[name] = nil
		}
	}
	return out
}

// secret returns an empty one for one that is missing and optional.
func (t *Template) secret(name string, optional bool, by string) (*Secret, error) {
	s := t.sources.Secrets[name]
	switch {
	case s != nil:
		return s, nil
	case optional:
		return &Secret{}, nil
	}
	return nil, &NotFoundError{Kind: KindSecret, Namespace: t.namespace, Name: name, By: by}
}

// use stands for a key of a Secret in what is in the clear.
func (t *Template) use(name, key string, s *Secret) contracts.Secret {
	slot := name + "/" + key
	if t.collecting {
		t.secrets[slot] = s.Data[key]
	}
	return contracts.Secret{Name: slot, Digest: s.Digests[key]}
}

// Secrets are what is to be sealed to each device, by the names that the scores which
// For returns have for them; nil when there is nothing.
func (t *Template) Secrets() map[string][]byte { return t.secrets }

// pullSecrets are the credentials that images are pulled with.
func (t *Template) pullSecrets(refs []v1alpha1.PullSecretRef) ([]contracts.Secret, error) {
	var out []contracts.Secret
	for _, ref := range refs {
		by := "imagePullSecrets"
		s, err := t.secret(ref.Name, false, by)
		if err != nil {
			return nil, err
		}
		if _, ok := s.Digests[corev1.DockerConfigJsonKey]; !ok {
			return nil, &NotFoundError{Kind: KindSecret, Namespace: t.namespace, Name: ref.Name, Key: corev1.DockerConfigJsonKey, By: by}
		}
		out = append(out, t.use(ref.Name, corev1.DockerConfigJsonKey, s))
	}
	return out, nil
}

// secretFiles makes a file of every key, or of the chosen ones, sorted by path.
func (t *Template) secretFiles(volume string, v *v1alpha1.SecretVolume) ([]contracts.SecretFile, error) {
	by := fmt.Sprintf("volume %s", volume)
	s, err := t.secret(v.SecretName, v.Optional, by)
	if err != nil {
		return nil, err
	}
	mode := int32(defaultFileMode)
	if v.DefaultMode != nil {
		mode = *v.DefaultMode
	}
	byPath := map[string]contracts.SecretFile{}
	if len(v.Items) == 0 {
		for key := range s.Digests {
			byPath[key] = contracts.SecretFile{Path: key, Mode: mode, Secret: t.use(v.SecretName, key, s)}
		}
	}
	for _, item := range v.Items {
		_, ok := s.Digests[item.Key]
		switch {
		case !ok && v.Optional:
			continue
		case !ok:
			return nil, &NotFoundError{Kind: KindSecret, Namespace: t.namespace, Name: v.SecretName, Key: item.Key, By: by}
		}
		if _, taken := byPath[item.Path]; taken {
			return nil, invalid("volume %s: two items have the path %q", volume, item.Path)
		}
		f := contracts.SecretFile{Path: item.Path, Mode: mode, Secret: t.use(v.SecretName, item.Key, s)}
		if item.Mode != nil {
			f.Mode = *item.Mode
		}
		byPath[item.Path] = f
	}
	files := make([]contracts.SecretFile, 0, len(byPath))
	for _, path := range slices.Sorted(maps.Keys(byPath)) {
		files = append(files, byPath[path])
	}
	return files, nil
}
