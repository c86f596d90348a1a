package repo

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/plugin/preview"
)

// Diff is what a change comes to.
type Diff struct {
	// From and To say in words what is compared.
	From     string        `json:"from"`
	To       string        `json:"to"`
	Overlays []OverlayDiff `json:"overlays"`
	// How many objects are added, changed and removed, and how many devices are told
	// something else.
	Added   int `json:"added"`
	Changed int `json:"changed"`
	Removed int `json:"removed"`
	Devices int `json:"devices"`
}

// OverlayDiff is what a change comes to in one overlay.
type OverlayDiff struct {
	Name string `json:"name"`
	Path string `json:"path"`
	// Kustomization of Flux that applies the overlay, as namespace/name.
	Kustomization string               `json:"kustomization,omitempty"`
	Objects       []gitops.Difference  `json:"objects"`
	Deployments   []preview.Deployment `json:"deployments"`
	// Notes say what is not taken into account.
	Notes []string `json:"notes,omitempty"`
	// Failures are the objects that could not be compared.
	Failures []DiffFailure `json:"failures,omitempty"`
}

// DiffFailure is what could not be compared, and why.
type DiffFailure struct {
	Object  string `json:"object"`
	Message string `json:"message"`
}

func (f DiffFailure) String() string { return f.Object + ": " + f.Message }

// Differs reports whether there is any difference.
func (d Diff) Differs() bool { return d.Added+d.Changed+d.Removed > 0 }

func newOverlayDiff(overlay gitops.Overlay) OverlayDiff {
	return OverlayDiff{Name: overlay.Name, Path: overlay.Path, Objects: []gitops.Difference{}, Deployments: []preview.Deployment{}}
}

// add takes an overlay in, and counts.
func (d *Diff) add(overlay OverlayDiff) {
	d.Overlays = append(d.Overlays, overlay)
	for _, object := range overlay.Objects {
		*map[gitops.Change]*int{gitops.Added: &d.Added, gitops.Changed: &d.Changed, gitops.Removed: &d.Removed}[object.Change]++
	}
	d.Devices += len(overlay.devices())
}

// devices are all that the overlay's change reaches, sorted.
func (o OverlayDiff) devices() []string {
	all := map[string]bool{}
	for _, deployment := range o.Deployments {
		for _, device := range deployment.Devices() {
			all[device] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// touched are the fleet Deployments that have changed.
func touched(objects []gitops.Difference) []types.NamespacedName {
	var out []types.NamespacedName
	for _, d := range objects {
		if d.Group == v1alpha1.GroupVersion.Group && d.Kind == v1alpha1.DeploymentKind {
			out = append(out, types.NamespacedName{Namespace: d.Namespace, Name: d.Name})
		}
	}
	return out
}
