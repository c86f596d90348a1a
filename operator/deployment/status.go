package deployment

import (
	"fmt"
	"strings"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fluxcd/pkg/runtime/conditions"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/operator/rollout"
)

// setStatus says how the rollout stands.
func (r *Reconciler) setStatus(obj *v1alpha1.Deployment, update *update, l looked, out rollout.Output) {
	s := &obj.Status
	counts := out.Counts.Aggregate
	s.Aggregate = &counts
	s.UpdateRevision = update.name
	s.Progress = fmt.Sprintf("%d/%d", counts.Succeeded, counts.Matched)
	if out.Ran {
		s.CurrentRevision = update.name
	}
	s.Waves = out.Waves
	wave := v1alpha1.WaveStatus{Name: out.Waves[out.Wave].Name, Index: int32(out.Wave) + 1, Of: int32(len(out.Waves)), Phase: out.Phase}
	if s.Wave != nil && s.Wave.Phase == wave.Phase && s.Wave.Name == wave.Name && !s.Wave.Since.IsZero() {
		wave.Since = s.Wave.Since
	} else {
		wave.Since = metav1.NewTime(r.Clock.Now())
	}
	if !out.Until.IsZero() {
		// Whole seconds, as they are kept: otherwise the status would never be equal.
		wave.Until = &metav1.Time{Time: out.Until.Truncate(time.Second)}
	}
	s.Wave = &wave
	s.Failures = nil
	for _, i := range out.Failures {
		s.Failures = append(s.Failures, failure(l, i))
	}
	r.metrics.set(obj, out)

	summary := summarise(out)
	reconciling := func(reason, why string) {
		conditions.Delete(obj, v1alpha1.ConditionStalled)
		conditions.MarkReconciling(obj, reason, "%s", why)
		conditions.MarkFalse(obj, v1alpha1.ConditionReady, reason, "%s", why+": "+summary+worst(s.Failures))
	}
	switch out.Phase {
	case v1alpha1.WaveComplete:
		conditions.Delete(obj, v1alpha1.ConditionReconciling)
		conditions.Delete(obj, v1alpha1.ConditionStalled)
		if counts.Matched == 0 {
			conditions.MarkTrue(obj, v1alpha1.ConditionReady, v1alpha1.ReasonNoDevices, "The target selector matches no approved device")
			return
		}
		conditions.MarkTrue(obj, v1alpha1.ConditionReady, v1alpha1.ReasonRolloutComplete, "%s", sentence(summary))
	case v1alpha1.WavePaused:
		reconciling(v1alpha1.ReasonPaused, "spec.paused holds the rollout")
	case v1alpha1.WaveSoaking:
		reconciling(v1alpha1.ReasonSoaking, "Wave "+wave.Name+" soaks before the next one begins")
	case v1alpha1.WaveAwaitingApproval:
		reconciling(v1alpha1.ReasonAwaitingApproval, "Wave "+wave.Name+" begins when somebody approves it")
	case v1alpha1.WaveHalted:
		markStalled(obj, out.Reason, "Halted in wave %s: %s", wave.Name, summary+worst(s.Failures))
	case v1alpha1.WaveRollingBack:
		markStalled(obj, out.Reason, "The revision failed, and devices go back to %s: %s", s.CurrentRevision, summary+worst(s.Failures))
	case v1alpha1.WaveRolledBack:
		markStalled(obj, out.Reason, "The revision failed and was rolled back to %s; it is not tried again until another was: %s", s.CurrentRevision, summary)
	case v1alpha1.WaveStalled:
		markStalled(obj, out.Reason, "%s", sentence(summary+worst(s.Failures)))
	default:
		why := "The rollout goes on"
		if len(out.Waves) > 1 {
			why = fmt.Sprintf("Wave %s, %d of %d, goes on", wave.Name, wave.Index, wave.Of)
		}
		reconciling(v1alpha1.ReasonProgressing, why)
	}
}

// sentence begins with a capital letter.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// markStalled says that nothing goes on until somebody does something.
func markStalled(obj *v1alpha1.Deployment, reason, format string, args ...any) {
	conditions.Delete(obj, v1alpha1.ConditionReconciling)
	conditions.MarkStalled(obj, reason, format, args...)
	conditions.MarkFalse(obj, v1alpha1.ConditionReady, reason, format, args...)
}

func markSuspended(obj *v1alpha1.Deployment) {
	conditions.Delete(obj, v1alpha1.ConditionReconciling)
	conditions.Delete(obj, v1alpha1.ConditionStalled)
	conditions.MarkFalse(obj, v1alpha1.ConditionReady, v1alpha1.ReasonSuspended, "spec.suspend keeps the operator from acting; devices keep what they were told")
}

// summarise is the state of a rollout in a sentence that changes only with it.
func summarise(out rollout.Output) string {
	c := out.Counts
	parts := []string{fmt.Sprintf("%d of %d devices run it", c.Succeeded, c.Matched)}
	add := func(n int32, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(c.Failed, "failed")
	add(c.Pending-c.Held, "pending")
	add(c.Held, "held")
	add(c.Offline, "offline")
	return strings.Join(parts, ", ")
}

// worst adds what the first failing device says.
func worst(failures []v1alpha1.Failure) string {
	if len(failures) == 0 {
		return ""
	}
	f := failures[0]
	if f.Message == "" {
		return fmt.Sprintf("; %s: %s", f.Device, f.Reason)
	}
	return fmt.Sprintf("; %s: %s: %s", f.Device, f.Reason, f.Message)
}

// failure is what a device says is wrong.
func failure(l looked, i int) v1alpha1.Failure {
	f, ok := l.said[i]
	if !ok {
		f.Device = string(l.members[i].ID)
	}
	switch d := &l.input.Devices[i]; {
	case d.Unreadable:
		f.Reason = fleetview.ReasonInvalidReport
	case d.Reported != d.Told:
		// What it says is of something else.
		f = v1alpha1.Failure{Device: f.Device, Reason: v1alpha1.ReasonProgressDeadlineExceeded, Message: "it has not answered within spec.rollout.progressDeadline"}
	}
	if f.Reason == "" {
		f.Reason = string(l.input.Devices[i].Phase)
	}
	return f
}

// change is how much a status differs.
type change int

const (
	nothing change = iota
	// later: counts, which may wait for a second.
	later
	// urgent: what somebody waits for.
	urgent
)

func compare(a, b *v1alpha1.DeploymentStatus) change {
	if apiequality.Semantic.DeepEqual(a, b) {
		return nothing
	}
	for _, t := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled} {
		x, y := apimeta.FindStatusCondition(a.Conditions, t), apimeta.FindStatusCondition(b.Conditions, t)
		if (x == nil) != (y == nil) || x != nil && (x.Status != y.Status || x.Reason != y.Reason) {
			return urgent
		}
	}
	if a.ObservedGeneration != b.ObservedGeneration || a.UpdateRevision != b.UpdateRevision || a.LastHandledReconcileAt != b.LastHandledReconcileAt ||
		!apiequality.Semantic.DeepEqual(a.Source, b.Source) {
		return urgent
	}
	if (a.Wave == nil) != (b.Wave == nil) || a.Wave != nil && (a.Wave.Phase != b.Wave.Phase || a.Wave.Name != b.Wave.Name) {
		return urgent
	}
	return later
}
