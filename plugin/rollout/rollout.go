// Package rollout is `kubectl fleet rollout`: how far a Deployment's revision has
// come, and why it does not go on.
package rollout

import (
	"fmt"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleet/api/v1alpha1"
)

// State is where a rollout stands. Complete and Stalled are ends; every other
// state can go on.
type State string

// States of a rollout.
const (
	// Complete: every reachable device runs the update revision.
	Complete State = "Complete"
	// Progressing: devices are being told, or are on their way.
	Progressing State = "Progressing"
	// Waiting: the operator has not answered this generation of the spec yet.
	Waiting State = "Waiting"
	// Paused: spec.paused holds it.
	Paused State = "Paused"
	// Suspended: spec.suspend keeps the operator away.
	Suspended State = "Suspended"
	// Stalled: it does not go on without somebody doing something.
	Stalled State = "Stalled"
	// NoDevices: the selector matches no Device.
	NoDevices State = "NoDevices"
	// Deleting: the Deployment is going away.
	Deleting State = "Deleting"
)

// Rollout is what is known of a Deployment's rollout. It is what -o json prints.
type Rollout struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	State     State  `json:"state"`
	// Reason and Message are of the condition that the state comes from.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Since when that condition has been as it is.
	Since *metav1.Time `json:"since,omitempty"`

	Generation         int64 `json:"generation"`
	ObservedGeneration int64 `json:"observedGeneration"`
	// ChangedAt is when the spec was last written, as far as the API server tells.
	ChangedAt *metav1.Time `json:"changedAt,omitempty"`

	CurrentRevision string `json:"currentRevision,omitempty"`
	UpdateRevision  string `json:"updateRevision,omitempty"`

	Devices  v1alpha1.Aggregate   `json:"devices"`
	Wave     *v1alpha1.WaveStatus `json:"wave,omitempty"`
	Failures []v1alpha1.Failure   `json:"failures,omitempty"`
	Source   *v1alpha1.Source     `json:"source,omitempty"`
}

// Observe reads a rollout off a Deployment, in the order in which kstatus reads
// conditions: what is observed of an old spec says nothing of the new one.
func Observe(d *v1alpha1.Deployment) Rollout {
	r := Rollout{
		Namespace:          d.Namespace,
		Name:               d.Name,
		Generation:         d.Generation,
		ObservedGeneration: d.Status.ObservedGeneration,
		ChangedAt:          changedAt(d),
		CurrentRevision:    d.Status.CurrentRevision,
		UpdateRevision:     d.Status.UpdateRevision,
		Wave:               d.Status.Wave,
		Failures:           d.Status.Failures,
		Source:             d.Status.Source,
	}
	if d.Status.Aggregate != nil {
		r.Devices = *d.Status.Aggregate
	}
	ready := apimeta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionReady)
	stalled := apimeta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionStalled)
	switch {
	case d.DeletionTimestamp != nil:
		r.State, r.Since = Deleting, d.DeletionTimestamp
		r.Message = "Being deleted: it goes when every device has been told."
	case d.Spec.Suspend:
		r.from(Suspended, ready)
	case d.Status.ObservedGeneration < d.Generation || ready == nil:
		r.State = Waiting
		r.Message = fmt.Sprintf("The operator has not answered generation %d yet.", d.Generation)
		r.Since = r.ChangedAt
	case stalled != nil && stalled.Status == metav1.ConditionTrue:
		r.from(Stalled, stalled)
	case d.Spec.Paused && ready.Status != metav1.ConditionTrue:
		r.from(Paused, ready)
	case ready.Reason == v1alpha1.ReasonNoDevices:
		r.from(NoDevices, ready)
	case ready.Status == metav1.ConditionTrue:
		r.from(Complete, ready)
	default:
		r.from(Progressing, ready)
	}
	return r
}

func (r *Rollout) from(state State, c *metav1.Condition) {
	r.State = state
	if c == nil {
		return
	}
	r.Reason, r.Message = c.Reason, c.Message
	if !c.LastTransitionTime.IsZero() {
		r.Since = c.LastTransitionTime.DeepCopy()
	}
}

// changedAt is the time of the last write that was not to the status. The API
// server keeps it for each writer.
func changedAt(d *v1alpha1.Deployment) *metav1.Time {
	last := d.CreationTimestamp
	for _, m := range d.ManagedFields {
		if m.Subresource == "" && m.Time != nil && m.Time.After(last.Time) {
			last = *m.Time
		}
	}
	if last.IsZero() {
		return nil
	}
	return &last
}

// Done reports whether waiting any longer is useless.
func (r Rollout) Done() bool {
	return r.State == Complete || r.State == Stalled || r.State == Deleting
}
