package gitops

import (
	"fmt"

	"github.com/nationtech/fleet/api/v1alpha1"
)

// Kinds that a score takes values and files from.
const (
	configMapKind = "ConfigMap"
	secretKind    = "Secret"
)

// scoreSource is where a score takes values, files or a login from.
type scoreSource struct {
	kind, name string
	// key is empty where every key is taken.
	key string
	// field is where the score names it.
	field    string
	optional bool
}

// sources warns of ConfigMaps and Secrets that the overlay does not have; a key that
// is missing from one that it has is an error.
func (c *overlayCheck) sources(object Object, taken []scoreSource, all *inventory) {
	for _, from := range taken {
		if from.optional || from.name == "" {
			continue
		}
		source, ok := all.sources[sourceID{from.kind, object.meta().GetNamespace(), from.name}]
		switch {
		case !ok:
			c.add(Warning, object, from.field, fmt.Sprintf("the overlay has no %s %s", from.kind, from.name), "the Deployment waits until the cluster has one")
		case from.key != "" && !hasKey(source, from.key):
			c.add(Error, object, from.field, fmt.Sprintf("%s %s has no key %q", from.kind, from.name, from.key), "")
		}
	}
}

// sourcesOf lists what a score takes from ConfigMaps and Secrets, in the order in
// which it is written.
func sourcesOf(score *v1alpha1.PodmanScore) []scoreSource {
	var out []scoreSource
	for _, list := range containerLists(score) {
		for i, container := range list.containers {
			out = append(out, sourcesOfContainer(fmt.Sprintf("%s[%d]", list.field, i), container)...)
		}
	}
	for i, volume := range score.Volumes {
		out = append(out, sourcesOfVolume(fmt.Sprintf("%s.volumes[%d]", scoreField, i), volume)...)
	}
	for i, login := range score.ImagePullSecrets {
		out = append(out, scoreSource{kind: secretKind, name: login.Name, field: fmt.Sprintf("%s.imagePullSecrets[%d].name", scoreField, i)})
	}
	return out
}

// scoreField is where a Deployment has its score.
const scoreField = "spec.score.podman"

type containerList struct {
	field      string
	containers []v1alpha1.Container
}

func containerLists(score *v1alpha1.PodmanScore) []containerList {
	return []containerList{
		{scoreField + ".initContainers", score.InitContainers},
		{scoreField + ".containers", score.Containers},
	}
}

func sourcesOfContainer(at string, container v1alpha1.Container) []scoreSource {
	var out []scoreSource
	for i, from := range container.EnvFrom {
		field := fmt.Sprintf("%s.envFrom[%d]", at, i)
		if ref := from.ConfigMapRef; ref != nil {
			out = append(out, scoreSource{kind: configMapKind, name: ref.Name, field: field + ".configMapRef.name", optional: ref.Optional})
		}
		if ref := from.SecretRef; ref != nil {
			out = append(out, scoreSource{kind: secretKind, name: ref.Name, field: field + ".secretRef.name", optional: ref.Optional})
		}
	}
	for i, variable := range container.Env {
		from := variable.ValueFrom
		if from == nil {
			continue
		}
		field := fmt.Sprintf("%s.env[%d].valueFrom", at, i)
		if ref := from.ConfigMapKeyRef; ref != nil {
			out = append(out, scoreSource{kind: configMapKind, name: ref.Name, key: ref.Key, field: field + ".configMapKeyRef.name", optional: ref.Optional})
		}
		if ref := from.SecretKeyRef; ref != nil {
			out = append(out, scoreSource{kind: secretKind, name: ref.Name, key: ref.Key, field: field + ".secretKeyRef.name", optional: ref.Optional})
		}
	}
	return out
}

func sourcesOfVolume(at string, volume v1alpha1.Volume) []scoreSource {
	var whole scoreSource
	var items []v1alpha1.KeyToPath
	switch {
	case volume.ConfigMap != nil:
		at += ".configMap"
		whole = scoreSource{kind: configMapKind, name: volume.ConfigMap.Name, field: at + ".name", optional: volume.ConfigMap.Optional}
		items = volume.ConfigMap.Items
	case volume.Secret != nil:
		at += ".secret"
		whole = scoreSource{kind: secretKind, name: volume.Secret.SecretName, field: at + ".secretName", optional: volume.Secret.Optional}
		items = volume.Secret.Items
	default:
		return nil
	}
	if len(items) == 0 {
		return []scoreSource{whole}
	}
	out := make([]scoreSource, len(items))
	for i, item := range items {
		out[i] = whole
		out[i].key, out[i].field = item.Key, fmt.Sprintf("%s.items[%d].key", at, i)
	}
	return out
}

// machinesField is where a Deployment has its machines.
const machinesField = "spec.score.kvm"

// sourcesOfMachines lists what machines take from ConfigMaps and Secrets.
func sourcesOfMachines(score *v1alpha1.KVMScore) []scoreSource {
	var out []scoreSource
	for i, machine := range score.Machines {
		if machine.CloudInit == nil || machine.CloudInit.UserDataFrom == nil {
			continue
		}
		field := fmt.Sprintf("%s.machines[%d].cloudInit.userDataFrom", machinesField, i)
		if ref := machine.CloudInit.UserDataFrom.ConfigMapKeyRef; ref != nil {
			out = append(out, scoreSource{kind: configMapKind, name: ref.Name, key: ref.Key, field: field + ".configMapKeyRef.name", optional: ref.Optional})
		}
		if ref := machine.CloudInit.UserDataFrom.SecretKeyRef; ref != nil {
			out = append(out, scoreSource{kind: secretKind, name: ref.Name, key: ref.Key, field: field + ".secretKeyRef.name", optional: ref.Optional})
		}
	}
	return out
}
