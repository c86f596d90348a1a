// Package resolve turns the score of a Deployment into what one device is told:
// ConfigMaps, Secrets, fields of the device, named ports and $(VARIABLES) replaced by their
// values, defaults filled in. The words and their meaning are those of a
// Kubernetes Pod (https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/).
package resolve

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
)

// Device is what a score may refer to of the device that it is for.
type Device struct {
	Name      contracts.DeviceID
	Namespace string
	Labels    map[string]string
}

// Sources are what a score refers to, by name: see References and SecretReferences.
type Sources struct {
	ConfigMaps map[string]*corev1.ConfigMap
	Secrets    map[string]*Secret
}

// Template is a score with its ConfigMaps and Secrets at hand.
type Template struct {
	namespace string
	score     v1alpha1.Score
	sources   Sources
	fields    []string
	secrets   map[string][]byte
	// collecting tells that secrets is being filled.
	collecting bool
}

// New makes a Template of the score of a Deployment in the namespace and of what it
// refers to. It fails with a NotFoundError or an InvalidError where the score can't be
// resolved for any device.
func New(namespace string, score v1alpha1.Score, sources Sources) (*Template, error) {
	t := &Template{namespace: namespace, score: score, sources: sources, fields: fields(score), secrets: map[string][]byte{}, collecting: true}
	// Which secrets there are does not differ between devices.
	defer func() { t.collecting = false }()
	// What fails, fails for every device: only values differ between them.
	if _, err := t.For(Device{Name: "any", Namespace: namespace}); err != nil {
		return nil, err
	}
	return t, nil
}

// Variant identifies, among the scores that For returns, the one for this device:
// devices with the same variant are told the same.
func (t *Template) Variant(d Device) string { return variant(t.fields, d) }

// Variant is that of a score whose ConfigMaps and Secrets are not at hand.
func Variant(score v1alpha1.Score, d Device) string { return variant(fields(score), d) }

func variant(fields []string, d Device) string {
	if len(fields) == 0 {
		return ""
	}
	var b strings.Builder
	for _, path := range fields {
		v, _ := field(path, d)
		fmt.Fprintf(&b, "%d:%s;", len(v), v)
	}
	return b.String()
}

// For resolves the score for one device.
func (t *Template) For(d Device) (contracts.ReconcileScore, error) {
	switch {
	case t.score.Podman != nil:
		p, err := t.podman(t.score.Podman, d)
		return contracts.ReconcileScore{Podman: p}, err
	case t.score.Kubernetes != nil:
		k := &contracts.KubernetesScore{}
		for i, m := range t.score.Kubernetes.Manifests {
			if len(m.Raw) == 0 {
				return contracts.ReconcileScore{}, invalid("manifest %d is empty", i+1)
			}
			k.Manifests = append(k.Manifests, m.Raw)
		}
		return contracts.ReconcileScore{Kubernetes: k}, nil
	case t.score.KVM != nil:
		k, err := t.kvm(t.score.KVM)
		return contracts.ReconcileScore{KVM: k}, err
	}
	return contracts.ReconcileScore{}, invalid("exactly one of podman, kubernetes and kvm must be set in spec.score")
}

// configMap returns an empty one for one that is missing and optional.
func (t *Template) configMap(name string, optional bool, by string) (*corev1.ConfigMap, error) {
	m := t.sources.ConfigMaps[name]
	switch {
	case m != nil:
		return m, nil
	case optional:
		return &corev1.ConfigMap{}, nil
	}
	return nil, &NotFoundError{Kind: KindConfigMap, Namespace: t.namespace, Name: name, By: by}
}

// References lists the names of the ConfigMaps that a score refers to, sorted.
func References(score v1alpha1.Score) []string {
	names := map[string]bool{}
	for from := range userDataOf(score.KVM) {
		if from.ConfigMapKeyRef != nil {
			names[from.ConfigMapKeyRef.Name] = true
		}
	}
	if score.Podman == nil {
		return slices.Sorted(maps.Keys(names))
	}
	for c := range containers(score.Podman) {
		for _, from := range c.EnvFrom {
			if from.ConfigMapRef != nil {
				names[from.ConfigMapRef.Name] = true
			}
		}
		for _, v := range c.Env {
			if v.ValueFrom != nil && v.ValueFrom.ConfigMapKeyRef != nil {
				names[v.ValueFrom.ConfigMapKeyRef.Name] = true
			}
		}
	}
	for _, v := range score.Podman.Volumes {
		if v.ConfigMap != nil {
			names[v.ConfigMap.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// fields lists the fields of the device that a score refers to, sorted.
func fields(score v1alpha1.Score) []string {
	paths := map[string]bool{}
	if score.Podman == nil {
		return nil
	}
	for c := range containers(score.Podman) {
		for _, v := range c.Env {
			if v.ValueFrom != nil && v.ValueFrom.FieldRef != nil {
				paths[v.ValueFrom.FieldRef.FieldPath] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(paths))
}

func containers(p *v1alpha1.PodmanScore) func(yield func(*v1alpha1.Container) bool) {
	return func(yield func(*v1alpha1.Container) bool) {
		for _, list := range [][]v1alpha1.Container{p.InitContainers, p.Containers} {
			for i := range list {
				if !yield(&list[i]) {
					return
				}
			}
		}
	}
}
