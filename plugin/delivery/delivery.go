// Package delivery follows a commit from Git to the devices that run it, and goes back
// from a device to the commit: `kubectl fleet wait`, `trace` and `log`.
//
// What was read of the cluster is gathered, judged by functions that do no I/O, and
// then told.
package delivery

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/gitops"
)

// State is how a commit stands at a hop.
type State string

// States of a hop. Done and Failed are ends, as far as nobody does anything.
const (
	// Waiting: it is on its way.
	Waiting State = "Waiting"
	// Done: it has passed.
	Done State = "Done"
	// Failed: it does not go on without somebody doing something.
	Failed State = "Failed"
)

// Hop is one object that a commit passes on its way.
type Hop struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	State     State  `json:"state"`
	// Reason is one word for why it waits or has failed, Message a sentence.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Commit that the object has now.
	Commit string `json:"commit,omitempty"`
	// After is how long the hop was waited for, in seconds; 0 for one that was done
	// before.
	After float64 `json:"after,omitempty"`
	// Devices and Failures are those of a Deployment.
	Devices  *v1alpha1.Aggregate `json:"devices,omitempty"`
	Failures []v1alpha1.Failure  `json:"failures,omitempty"`
	// Next is what somebody can do about it.
	Next []string `json:"next,omitempty"`
}

// Object names the object of a hop.
func (h Hop) Object() string { return fmt.Sprintf("%s %s/%s", h.Kind, h.Namespace, h.Name) }

// Delivery is how far a commit has come.
type Delivery struct {
	// Commit with what the clone knows of it; without one it is the hash alone.
	Commit gitops.Commit `json:"commit"`
	State  State         `json:"state"`
	Hops   []Hop         `json:"hops"`
	// Began is when it began to be followed, Seconds for how long it was.
	Began   metav1.Time `json:"began"`
	Seconds float64     `json:"seconds"`
}

// conclude says how the whole stands: as its worst hop.
func (d *Delivery) conclude() {
	d.State = Done
	for _, h := range d.Hops {
		if h.State == Failed {
			d.State = Failed
			return
		}
		if h.State == Waiting {
			d.State = Waiting
		}
	}
}
