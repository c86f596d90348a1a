package preview

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Deployment is what a change means for the devices of one Deployment.
type Deployment struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// Because names what has changed: the Deployment, its score, a ConfigMap, a Secret,
	// its targetSelector, the devices.
	Because []string `json:"because"`
	// From and To are the revisions; empty where there is none, and where only the
	// operator can name it: it alone knows the Secrets' digests, and in Git there need
	// not be all that a score refers to.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Restarts tells that the devices which run it get another revision.
	Restarts bool `json:"restarts"`
	// Paused and Suspended keep the devices from being told for the time being.
	Paused    bool `json:"paused,omitempty"`
	Suspended bool `json:"suspended,omitempty"`
	// Waves has, in their order, those in which devices are told.
	Waves []Wave `json:"waves"`
	// Offline are told when they return, Held when they are held no longer.
	Offline []string `json:"offline,omitempty"`
	Held    []string `json:"held,omitempty"`
	// New are those of all these that did not have the Deployment before, Removed those
	// from which it is withdrawn.
	New     []string `json:"new,omitempty"`
	Removed []string `json:"removed,omitempty"`
}

// Wave is the devices that are told together.
type Wave struct {
	Name string `json:"name"`
	// Number of the wave, from 1, of those that the Deployment has.
	Number int `json:"number"`
	Of     int `json:"of"`
	// AwaitsApproval tells that somebody has to approve the wave for this revision.
	AwaitsApproval bool `json:"awaitsApproval,omitempty"`
	// Soak is how long the wave has to be well before the next.
	Soak    *metav1.Duration `json:"soak,omitempty"`
	Devices []string         `json:"devices"`
}

// Devices are all that the change reaches, sorted.
func (d Deployment) Devices() []string {
	out := slices.Concat(d.Offline, d.Held, d.Removed)
	for _, w := range d.Waves {
		out = append(out, w.Devices...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
