package gitops

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/nationtech/fleet/api/v1alpha1"
)

// references warns of what a Deployment refers to and the overlay does not have.
// It may be in the cluster already, so it is no error.
func (c *overlayCheck) references() {
	for _, object := range c.rendered.Objects {
		if !object.isDeployment() {
			continue
		}
		deployment := &v1alpha1.Deployment{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Content, deployment); err != nil {
			continue // the schema says what is wrong
		}
		c.selector(object, deployment)
		c.configMaps(object, deployment)
	}
}

func (c *overlayCheck) selector(object Object, deployment *v1alpha1.Deployment) {
	const field = "spec.targetSelector"
	selector, err := metav1.LabelSelectorAsSelector(&deployment.Spec.TargetSelector)
	if err != nil {
		c.add(Error, object, field, err.Error(), "")
		return
	}
	if selector.Empty() {
		c.add(Warning, object, field, "is empty and selects no device", "")
		return
	}
	devices := 0
	for _, other := range c.rendered.Objects {
		if !other.isDevice() || other.meta().GetNamespace() != deployment.Namespace {
			continue
		}
		devices++
		if selector.Matches(labels.Set(other.meta().GetLabels())) {
			return
		}
	}
	if devices > 0 {
		c.add(Warning, object, field, fmt.Sprintf("selects none of the %d devices of the overlay", devices), "")
	}
}

func (c *overlayCheck) configMaps(object Object, deployment *v1alpha1.Deployment) {
	score := deployment.Spec.Score.Podman
	if score == nil {
		return
	}
	for list, containers := range map[string][]v1alpha1.Container{"containers": score.Containers, "initContainers": score.InitContainers} {
		for i, container := range containers {
			at := fmt.Sprintf("spec.score.podman.%s[%d]", list, i)
			for j, from := range container.EnvFrom {
				if from.ConfigMapRef == nil {
					continue
				}
				c.configMap(object, fmt.Sprintf("%s.envFrom[%d].configMapRef.name", at, j), from.ConfigMapRef.Name, "", from.ConfigMapRef.Optional)
			}
			for j, env := range container.Env {
				if env.ValueFrom == nil || env.ValueFrom.ConfigMapKeyRef == nil {
					continue
				}
				ref := env.ValueFrom.ConfigMapKeyRef
				c.configMap(object, fmt.Sprintf("%s.env[%d].valueFrom.configMapKeyRef.name", at, j), ref.Name, ref.Key, ref.Optional)
			}
		}
	}
	for i, volume := range score.Volumes {
		if volume.ConfigMap != nil {
			c.configMap(object, fmt.Sprintf("spec.score.podman.volumes[%d].configMap.name", i), volume.ConfigMap.Name, "", volume.ConfigMap.Optional)
		}
	}
}

func (c *overlayCheck) configMap(object Object, field, name, key string, optional bool) {
	if optional || name == "" {
		return
	}
	for _, other := range c.rendered.Objects {
		if other.gvk().Group != "" || other.gvk().Kind != "ConfigMap" || other.meta().GetName() != name || other.meta().GetNamespace() != object.meta().GetNamespace() {
			continue
		}
		data, _ := other.Content["data"].(map[string]any)
		if _, ok := data[key]; key != "" && !ok {
			c.add(Error, object, field, fmt.Sprintf("ConfigMap %s has no key %q", name, key), "")
		}
		return
	}
	c.add(Warning, object, field, fmt.Sprintf("the overlay has no ConfigMap %s", name), "the Deployment waits until the cluster has one")
}
