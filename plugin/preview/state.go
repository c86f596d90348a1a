// Package preview tells which devices a change of what is declared reaches, and in which
// order, before anybody makes it. It asks the operator's own planner, and is pure: no
// cluster is needed.
package preview

import (
	"encoding/base64"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/operator/resolve"
)

// State is what is declared of a fleet at one time.
type State struct {
	Devices     map[types.NamespacedName]*v1alpha1.Device
	Deployments map[types.NamespacedName]*v1alpha1.Deployment
	ConfigMaps  map[types.NamespacedName]*corev1.ConfigMap
	// Secrets are digests: what is secret goes no further.
	Secrets map[types.NamespacedName]*resolve.Secret
}

// NewState is a State of nothing.
func NewState() State {
	return State{
		Devices:     map[types.NamespacedName]*v1alpha1.Device{},
		Deployments: map[types.NamespacedName]*v1alpha1.Deployment{},
		ConfigMaps:  map[types.NamespacedName]*corev1.ConfigMap{},
		Secrets:     map[types.NamespacedName]*resolve.Secret{},
	}
}

// The kinds that have to do with what devices run.
var (
	deviceKind     = schema.GroupKind{Group: v1alpha1.GroupVersion.Group, Kind: v1alpha1.DeviceKind}
	deploymentKind = schema.GroupKind{Group: v1alpha1.GroupVersion.Group, Kind: v1alpha1.DeploymentKind}
	configMapKind  = schema.GroupKind{Kind: resolve.KindConfigMap}
	secretKind     = schema.GroupKind{Kind: resolve.KindSecret}
)

// Counts reports whether an object has to do with what devices run.
func Counts(kind schema.GroupKind) bool {
	return kind == deviceKind || kind == deploymentKind || kind == configMapKind || kind == secretKind
}

// Set takes an object in, in the place of the one of its name. What does not count is
// left out.
func (s State) Set(o *unstructured.Unstructured) error {
	key := types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
	switch o.GroupVersionKind().GroupKind() {
	case deviceKind:
		s.Devices[key] = &v1alpha1.Device{}
		return read(o, s.Devices[key])
	case deploymentKind:
		s.Deployments[key] = &v1alpha1.Deployment{}
		return read(o, s.Deployments[key])
	case configMapKind:
		s.ConfigMaps[key] = &corev1.ConfigMap{}
		return read(o, s.ConfigMaps[key])
	case secretKind:
		s.Secrets[key] = digests(o)
	}
	return nil
}

// Remove takes an object out.
func (s State) Remove(o *unstructured.Unstructured) {
	key := types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
	switch o.GroupVersionKind().GroupKind() {
	case deviceKind:
		delete(s.Devices, key)
	case deploymentKind:
		delete(s.Deployments, key)
	case configMapKind:
		delete(s.ConfigMaps, key)
	case secretKind:
		delete(s.Secrets, key)
	}
}

func read(o *unstructured.Unstructured, into any) error {
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, into); err != nil {
		return fmt.Errorf("read %s %s: %w", o.GetKind(), types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}, err)
	}
	return nil
}

// digests are of a Secret's values as they are written, for they may be encrypted. They
// tell whether a value has changed and are shown to nobody: the operator alone has the
// salt of those that a revision keeps.
func digests(o *unstructured.Unstructured) *resolve.Secret {
	s := &corev1.Secret{Data: map[string][]byte{}}
	s.Namespace, s.Name = o.GetNamespace(), o.GetName()
	data, _, _ := unstructured.NestedMap(o.Object, "data")
	for key, value := range data {
		s.Data[key] = fmt.Append(nil, value)
	}
	plain, _, _ := unstructured.NestedMap(o.Object, "stringData")
	for key, value := range plain {
		s.Data[key] = []byte(base64.StdEncoding.EncodeToString(fmt.Append(nil, value)))
	}
	return resolve.Salt(nil).Secret(s)
}
