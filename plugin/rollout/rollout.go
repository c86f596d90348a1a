// Package rollout is `kubectl fleet rollout`: how far a Deployment's revision has
// come, why it does not go on, and what a person does about it.
package rollout

import (
	"fmt"
	"slices"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/nationtech/fleet/api/v1alpha1"
)

// State is where a rollout stands. Complete, Stalled, Halted and RolledBack are
// ends; every other state goes on by itself, or when somebody lets it. The states
// that are phases of waves too have their names.
type State string

// States of a rollout.
const (
	// Complete: every reachable device runs the update revision.
	Complete State = "Complete"
	// Progressing: devices are being told, or are on their way.
	Progressing State = "Progressing"
	// Soaking: a wave is well, and has to stay so for a while.
	Soaking State = "Soaking"
	// AwaitingApproval: the next wave begins when somebody approves it.
	AwaitingApproval State = "AwaitingApproval"
	// Waiting: the operator has not answered this generation of the spec yet.
	Waiting State = "Waiting"
	// Paused: spec.paused holds it.
	Paused State = "Paused"
	// Suspended: spec.suspend keeps the operator away.
	Suspended State = "Suspended"
	// Stalled: it does not go on without somebody doing something.
	Stalled State = "Stalled"
	// Halted: so many devices of a wave fail that nobody else is told.
	Halted State = "Halted"
	// RollingBack: the revision failed, and devices go back to the current one.
	RollingBack State = "RollingBack"
	// RolledBack: they have gone back.
	RolledBack State = "RolledBack"
	// NoDevices: the selector matches no Device.
	NoDevices State = "NoDevices"
	// Deleting: the Deployment is going away.
	Deleting State = "Deleting"
)

// Rollout is what is known of a Deployment's rollout. It is what -o json prints,
// and the screen shows nothing else.
type Rollout struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	State     State  `json:"state"`
	// Reason and Message are of the condition that the state comes from.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Since when that condition has been as it is, or the wave in its phase.
	Since *metav1.Time `json:"since,omitempty"`
	// Why it does not go on, or what it waits for, in a sentence; Next is what
	// somebody can do.
	Why  string   `json:"why,omitempty"`
	Next []string `json:"next,omitempty"`

	Generation         int64 `json:"generation"`
	ObservedGeneration int64 `json:"observedGeneration"`
	// ChangedAt is when the spec was last written, as far as the API server tells.
	ChangedAt *metav1.Time `json:"changedAt,omitempty"`

	CurrentRevision string `json:"currentRevision,omitempty"`
	UpdateRevision  string `json:"updateRevision,omitempty"`

	Devices v1alpha1.Aggregate `json:"devices"`
	// Wave is the one that the rollout is in; its until is when it has soaked.
	Wave     *v1alpha1.WaveStatus `json:"wave,omitempty"`
	Waves    []Wave               `json:"waves,omitempty"`
	Rules    Rules                `json:"rules"`
	Failures []v1alpha1.Failure   `json:"failures,omitempty"`
	Source   *v1alpha1.Source     `json:"source,omitempty"`
}

// Wave is how far a wave has come, and what holds the next one back.
type Wave struct {
	v1alpha1.WaveProgress `json:",inline"`
	// Soak is how long it has to be well.
	Soak *metav1.Duration `json:"soak,omitempty"`
	// Manual tells that somebody has to approve it, Approved that somebody has.
	Manual   bool `json:"manual,omitempty"`
	Approved bool `json:"approved,omitempty"`
}

// Rules are what the spec says of how a change reaches the devices.
type Rules struct {
	MaxUnavailable   string             `json:"maxUnavailable,omitempty"`
	SuccessThreshold string             `json:"successThreshold,omitempty"`
	ProgressDeadline *metav1.Duration   `json:"progressDeadline,omitempty"`
	OnFailure        v1alpha1.OnFailure `json:"onFailure,omitempty"`
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
		Waves:              wavesOf(d),
		Rules: Rules{
			MaxUnavailable: amount(d.Spec.Rollout.MaxUnavailable), SuccessThreshold: amount(d.Spec.Rollout.SuccessThreshold),
			ProgressDeadline: d.Spec.Rollout.ProgressDeadline, OnFailure: d.Spec.Rollout.OnFailure,
		},
		Failures: d.Status.Failures,
		Source:   d.Status.Source,
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
		r.from(r.stalledAs(stalled.Reason), stalled)
	case d.Spec.Paused && ready.Status != metav1.ConditionTrue:
		r.from(Paused, ready)
	case ready.Reason == v1alpha1.ReasonNoDevices:
		r.from(NoDevices, ready)
	case ready.Status == metav1.ConditionTrue:
		r.from(Complete, ready)
	case ready.Reason == v1alpha1.ReasonSoaking:
		r.from(Soaking, ready)
	case ready.Reason == v1alpha1.ReasonAwaitingApproval:
		r.from(AwaitingApproval, ready)
	default:
		r.from(Progressing, ready)
	}
	r.explain()
	return r
}

// stalledAs tells the ways apart in which a rollout does not go on. A spec that
// can't be carried out leaves the wave as it was, so its phase alone says nothing.
func (r *Rollout) stalledAs(reason string) State {
	switch reason {
	case v1alpha1.ReasonRollingBack:
		return RollingBack
	case v1alpha1.ReasonRolledBack:
		return RolledBack
	case v1alpha1.ReasonDevicesFailed, v1alpha1.ReasonProgressDeadlineExceeded:
		if r.Wave != nil && r.Wave.Phase == v1alpha1.WaveHalted {
			return Halted
		}
	}
	return Stalled
}

// amount is a number or a percentage as it is written; the API server has defaults
// for both that are asked for.
func amount(v *intstr.IntOrString) string {
	if v == nil {
		return ""
	}
	return v.String()
}

func wavesOf(d *v1alpha1.Deployment) []Wave {
	var out []Wave
	for _, progress := range d.Status.Waves {
		w := Wave{WaveProgress: progress}
		if i := slices.IndexFunc(d.Spec.Rollout.Waves, func(s v1alpha1.Wave) bool { return s.Name == w.Name }); i >= 0 {
			spec := d.Spec.Rollout.Waves[i]
			w.Soak, w.Manual = spec.Soak, spec.Approval == v1alpha1.ApprovalManual
			w.Approved = w.Manual && approved(d, w.Name)
		}
		out = append(out, w)
	}
	return out
}

// approved reports whether somebody has approved a wave for the update revision.
func approved(d *v1alpha1.Deployment, wave string) bool {
	return d.Status.UpdateRevision != "" && slices.Contains(d.Spec.Rollout.Approvals, v1alpha1.Approval{Wave: wave, Revision: d.Status.UpdateRevision})
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
	// The condition stays False from one phase to the next, and keeps its time.
	if r.Wave != nil && string(r.Wave.Phase) == string(state) && r.Wave.Since.After(c.LastTransitionTime.Time) {
		r.Since = r.Wave.Since.DeepCopy()
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

// Done reports whether waiting any longer is useless. A halt is not the end where
// the devices go back by themselves.
func (r Rollout) Done() bool {
	switch r.State {
	case Complete, Stalled, RolledBack, Deleting:
		return true
	case Halted:
		return !r.goesBack()
	}
	return false
}

// goesBack reports whether a revision that fails is undone without anybody doing
// anything.
func (r Rollout) goesBack() bool {
	return r.Rules.OnFailure == v1alpha1.OnFailureRollback && r.CurrentRevision != "" && r.CurrentRevision != r.UpdateRevision
}

// inWaves reports whether there is more than one wave.
func (r Rollout) inWaves() bool { return r.Wave != nil && r.Wave.Of > 1 }
