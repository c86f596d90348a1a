package resolve

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
)

const defaultFileMode = 0o644

func (t *Template) volume(v *v1alpha1.Volume) (contracts.Volume, error) {
	out := contracts.Volume{Name: v.Name}
	switch {
	case v.ConfigMap != nil:
		files, err := t.files(v.Name, v.ConfigMap)
		if err != nil {
			return out, err
		}
		out.Files = &files
	case v.Secret != nil:
		files, err := t.secretFiles(v.Name, v.Secret)
		if err != nil {
			return out, err
		}
		out.SecretFiles = &files
	case v.EmptyDir != nil:
		out.EmptyDir = &contracts.EmptyDir{Memory: v.EmptyDir.Medium == "Memory"}
	case v.HostPath != nil:
		out.HostPath = &contracts.HostPath{Path: v.HostPath.Path, Create: v.HostPath.Type == "DirectoryOrCreate"}
	case v.PersistentVolumeClaim != nil:
		out.Claim = v.PersistentVolumeClaim.ClaimName
	default:
		return out, invalid("volume %s: exactly one of configMap, secret, emptyDir, hostPath and persistentVolumeClaim must be set", v.Name)
	}
	return out, nil
}

// files makes a file of every key, or of the chosen ones, sorted by path so that
// the same content has the same digest.
func (t *Template) files(volume string, c *v1alpha1.ConfigMapVolume) ([]contracts.File, error) {
	by := fmt.Sprintf("volume %s", volume)
	m, err := t.configMap(c.Name, c.Optional, by)
	if err != nil {
		return nil, err
	}
	mode := int32(defaultFileMode)
	if c.DefaultMode != nil {
		mode = *c.DefaultMode
	}
	byPath := map[string]contracts.File{}
	if len(c.Items) == 0 {
		for key := range m.Data {
			byPath[key] = contracts.File{Path: key, Mode: mode, Data: []byte(m.Data[key])}
		}
		for key := range m.BinaryData {
			byPath[key] = contracts.File{Path: key, Mode: mode, Data: m.BinaryData[key]}
		}
	}
	for _, item := range c.Items {
		data, ok := content(m, item.Key)
		switch {
		case !ok && c.Optional:
			continue
		case !ok:
			return nil, &NotFoundError{Kind: KindConfigMap, Namespace: t.namespace, Name: c.Name, Key: item.Key, By: by}
		}
		if _, taken := byPath[item.Path]; taken {
			return nil, invalid("volume %s: two items have the path %q", volume, item.Path)
		}
		f := contracts.File{Path: item.Path, Mode: mode, Data: data}
		if item.Mode != nil {
			f.Mode = *item.Mode
		}
		byPath[item.Path] = f
	}
	files := make([]contracts.File, 0, len(byPath))
	for _, path := range slices.Sorted(maps.Keys(byPath)) {
		files = append(files, byPath[path])
	}
	return files, nil
}

func content(m *corev1.ConfigMap, key string) ([]byte, bool) {
	if s, ok := m.Data[key]; ok {
		return []byte(s), true
	}
	b, ok := m.BinaryData[key]
	return b, ok
}
