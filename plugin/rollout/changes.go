package rollout

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"github.com/nationtech/fleet/api/v1alpha1"
)

// changes says in what a revision differs from the one before it, images first. Of
// the first that is known it is the images themselves.
func changes(before *content, after content) []string {
	if before == nil {
		return images(after.Score)
	}
	var out []string
	a, b := before.Score, after.Score
	switch {
	case a.Podman != nil && b.Podman != nil:
		out = podmanChanges(a.Podman, b.Podman)
	case a.KVM != nil && b.KVM != nil:
		out = kvmChanges(a.KVM, b.KVM)
	case !apiequality.Semantic.DeepEqual(a, b):
		out = images(b)
	}
	for _, name := range slices.Sorted(maps.Keys(after.ConfigMaps)) {
		if was, ok := before.ConfigMaps[name]; ok && !apiequality.Semantic.DeepEqual(was, after.ConfigMaps[name]) {
			out = append(out, "ConfigMap "+name)
		}
	}
	return out
}

func images(score v1alpha1.Score) []string {
	var out []string
	switch {
	case score.Podman != nil:
		for _, c := range slices.Concat(score.Podman.InitContainers, score.Podman.Containers) {
			out = append(out, c.Name+" "+c.Image)
		}
	case score.Kubernetes != nil:
		out = append(out, fmt.Sprintf("%d manifests", len(score.Kubernetes.Manifests)))
	case score.KVM != nil:
		for _, m := range score.KVM.Machines {
			out = append(out, strings.TrimSuffix(m.Name+" "+imageOf(m), " "))
		}
	}
	return out
}

func podmanChanges(before, after *v1alpha1.PodmanScore) []string {
	var out, others []string
	was := map[string]v1alpha1.Container{}
	for _, c := range slices.Concat(before.InitContainers, before.Containers) {
		was[c.Name] = c
	}
	for _, c := range slices.Concat(after.InitContainers, after.Containers) {
		old, ok := was[c.Name]
		delete(was, c.Name)
		switch {
		case !ok:
			out = append(out, "new "+c.Name+" "+c.Image)
			continue
		case old.Image != c.Image:
			out = append(out, c.Name+" "+imageChange(old.Image, c.Image))
		}
		old.Image = c.Image
		if fields := differing(old, c); len(fields) > 0 {
			others = append(others, c.Name+" "+strings.Join(fields, ", "))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		out = append(out, "without "+name)
	}
	out = append(out, others...)
	if before.RestartedAt != after.RestartedAt && after.RestartedAt != "" {
		out = append(out, "restart")
	}
	a, b := *before, *after
	a.Containers, a.InitContainers, a.RestartedAt = nil, nil, ""
	b.Containers, b.InitContainers, b.RestartedAt = nil, nil, ""
	return append(out, differing(a, b)...)
}

func kvmChanges(before, after *v1alpha1.KVMScore) []string {
	var out, others []string
	was := map[string]v1alpha1.Machine{}
	for _, m := range before.Machines {
		was[m.Name] = m
	}
	for _, m := range after.Machines {
		old, ok := was[m.Name]
		delete(was, m.Name)
		if !ok {
			out = append(out, strings.TrimSuffix("new "+m.Name+" "+imageOf(m), " "))
			continue
		}
		if a, b := imageOf(old), imageOf(m); a != b && a != "" && b != "" {
			out = append(out, m.Name+" "+a+" -> "+b)
			old.Disks = m.Disks // which is said
		}
		if fields := differing(old, m); len(fields) > 0 {
			others = append(others, m.Name+" "+strings.Join(fields, ", "))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		out = append(out, "without "+name)
	}
	out = append(out, others...)
	a, b := *before, *after
	a.Machines, b.Machines = nil, nil
	return append(out, differing(a, b)...)
}

// imageOf is what a machine's first disk begins as; empty for none.
func imageOf(m v1alpha1.Machine) string {
	for _, d := range m.Disks {
		if d.Image != "" {
			return d.Image
		}
	}
	return ""
}

// imageChange leaves out what both images have in common, when that is all but the
// tag.
func imageChange(before, after string) string {
	cut := func(image string) (string, string) {
		i := strings.LastIndexAny(image, ":@")
		if i < 0 || strings.Contains(image[i:], "/") {
			return image, ""
		}
		return image[:i], image[i+1:]
	}
	a, oldTag := cut(before)
	b, newTag := cut(after)
	if a == b && oldTag != "" && newTag != "" && !strings.Contains(a, "@") {
		return oldTag + " -> " + newTag
	}
	return before + " -> " + after
}

// differing names the fields, as they are written, in which two structs differ.
func differing[T any](a, b T) []string {
	fields := func(v T) map[string]any {
		out := map[string]any{}
		if data, err := json.Marshal(v); err == nil {
			_ = json.Unmarshal(data, &out)
		}
		return out
	}
	x, y := fields(a), fields(b)
	names := map[string]bool{}
	for name := range x {
		names[name] = true
	}
	for name := range y {
		names[name] = true
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !reflect.DeepEqual(x[name], y[name]) {
			out = append(out, name)
		}
	}
	return out
}
