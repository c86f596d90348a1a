package repo

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/operator/resolve"
	"github.com/nationtech/fleet/plugin/preview"
)

// states are the fleet as it is in the namespaces that something differs in, and as it
// would be. What could not be compared counts as unchanged.
func (c *comparer) states(ctx context.Context, pairs []pair) (before, after preview.State, err error) {
	before, after = preview.NewState(), preview.NewState()
	namespaces := map[string]bool{}
	changed := map[types.NamespacedName]bool{}
	for _, p := range pairs {
		if p.differs && preview.Counts(schema.GroupKind{Group: p.id.Group, Kind: p.id.Kind}) {
			namespaces[p.id.Namespace] = true
			changed[types.NamespacedName{Namespace: p.id.Namespace, Name: p.id.Name}] = true
		}
	}
	for _, namespace := range slices.Sorted(maps.Keys(namespaces)) {
		if err := c.readFleet(ctx, namespace, before); err != nil {
			return before, after, err
		}
	}
	maps.Copy(after.Devices, before.Devices)
	maps.Copy(after.Deployments, before.Deployments)
	for _, p := range pairs {
		if p.err != nil || !namespaces[p.id.Namespace] {
			continue
		}
		if p.before != nil {
			if err := before.Set(p.before); err != nil {
				return before, after, err
			}
		}
		if p.after != nil {
			err = after.Set(p.after)
		} else if p.before != nil {
			after.Remove(p.before)
		}
		if err != nil {
			return before, after, err
		}
	}
	c.readConfigMaps(ctx, before, after, changed)
	return before, after, nil
}

// readFleet reads the Devices and Deployments of a namespace.
func (c *comparer) readFleet(ctx context.Context, namespace string, into preview.State) error {
	devices, deployments := &v1alpha1.DeviceList{}, &v1alpha1.DeploymentList{}
	if err := c.cluster.Client.List(ctx, devices, client.InNamespace(namespace)); err != nil {
		return fmt.Errorf("list the Devices of namespace %s: %w", namespace, err)
	}
	if err := c.cluster.Client.List(ctx, deployments, client.InNamespace(namespace)); err != nil {
		return fmt.Errorf("list the fleet Deployments of namespace %s: %w", namespace, err)
	}
	for i := range devices.Items {
		into.Devices[client.ObjectKeyFromObject(&devices.Items[i])] = &devices.Items[i]
	}
	for i := range deployments.Items {
		into.Deployments[client.ObjectKeyFromObject(&deployments.Items[i])] = &deployments.Items[i]
	}
	return nil
}

// readConfigMaps reads what the Deployments that something changes for refer to and the
// overlay does not have. What can't be read is left out: it is the same before and after,
// and only the names of revisions go by it.
func (c *comparer) readConfigMaps(ctx context.Context, before, after preview.State, changed map[types.NamespacedName]bool) {
	for _, state := range []preview.State{before, after} {
		for key, deployment := range state.Deployments {
			references := resolve.References(deployment.Spec.Score)
			concerned := changed[key] || slices.ContainsFunc(references, func(name string) bool {
				return changed[types.NamespacedName{Namespace: key.Namespace, Name: name}]
			})
			if !concerned {
				continue
			}
			for _, name := range references {
				c.readConfigMap(ctx, before, after, types.NamespacedName{Namespace: key.Namespace, Name: name})
			}
		}
	}
}

func (c *comparer) readConfigMap(ctx context.Context, before, after preview.State, key types.NamespacedName) {
	if before.ConfigMaps[key] != nil || after.ConfigMaps[key] != nil {
		return
	}
	m := &corev1.ConfigMap{}
	if c.cluster.Client.Get(ctx, key, m) == nil {
		before.ConfigMaps[key], after.ConfigMaps[key] = m, m
	}
}
