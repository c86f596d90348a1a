package device

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"unique"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/nationtech/fleet/api/v1alpha1"
)

// Slim takes from a Device what the operator has no use for, before the cache keeps it,
// and has it share with the others what a fleet has in common: of a hundred thousand
// Devices that is most of what there is. It is a cache.TransformFunc of client-go.
func Slim(o any) (any, error) {
	d, ok := o.(*v1alpha1.Device)
	if !ok {
		return o, nil
	}
	d.ManagedFields = nil
	delete(d.Annotations, corev1.LastAppliedConfigAnnotation)
	share(&d.Kind, &d.APIVersion, &d.Namespace)
	for i := range d.Finalizers {
		share(&d.Finalizers[i])
	}
	d.Labels = labelSets.share(d.Labels)
	for i := range d.Status.Conditions {
		c := &d.Status.Conditions[i]
		share(&c.Type, &c.Reason, &c.Message)
	}
	if i := d.Status.Info; i != nil {
		share(&i.OS, &i.Arch, &i.Kernel, &i.AgentVersion)
		i.Drivers = driverSets.share(i.Drivers)
		i.Capacity = capacities.share(i.Capacity)
	}
	return d, nil
}

func share(text ...*string) {
	for _, s := range text {
		*s = unique.Make(*s).Value()
	}
}

// sharedMaps keeps one of each map, of the last that there were. What is in the cache
// nobody changes.
type sharedMaps[V any] struct {
	mu   sync.Mutex
	maps map[string]map[string]V
}

// most bounds how many maps are remembered: of labels that differ from device to device
// there would be as many as devices.
const most = 1024

var (
	labelSets  sharedMaps[string]
	driverSets sharedMaps[string]
	capacities sharedMaps[resource.Quantity]
)

func (s *sharedMaps[V]) share(m map[string]V) map[string]V {
	if len(m) == 0 {
		return m
	}
	var key strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		// Quoted: a device says what its drivers are, and must not pass for another.
		fmt.Fprintf(&key, "%q=%q,", k, fmt.Sprint(m[k]))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if same, ok := s.maps[key.String()]; ok {
		return same
	}
	if s.maps == nil || len(s.maps) == most {
		s.maps = map[string]map[string]V{}
	}
	s.maps[key.String()] = m
	return m
}
