package deployment

import (
	"fmt"
	"strings"

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
	if out.Phase == v1alpha1.WaveComplete && counts.Succeeded > 0 {
		s.CurrentRevision = update.name
	}
	wave := v1alpha1.WaveStatus{Name: "all", Index: 1, Of: 1, Phase: out.Phase}
	if s.Wave != nil && s.Wave.Phase == wave.Phase && !s.Wave.Since.IsZero() {
		wave.Since = s.Wave.Since
	} else {
		wave.Since = metav1.NewTime(r.Clock.Now())
	}
	s.Wave = &wave
	s.Failures = nil
	for _, i := range out.Failures {
		s.Failures = append(s.Failures, failure(l, i))
	}
	r.metrics.set(obj, counts)

	summary := summarise(out)
	switch out.Phase {
	case v1alpha1.WaveComplete:
		conditions.Delete(obj, v1alpha1.ConditionReconciling)
		conditions.Delete(obj, v1alpha1.ConditionStalled)
		if counts.Matched == 0 {
			conditions.MarkTrue(obj, v1alpha1.ConditionReady, v1alpha1.ReasonNoDevices, "The target selector matches no approved device")
			return
		}
		conditions.MarkTrue(obj, v1alpha1.ConditionReady, v1alpha1.ReasonRolloutComplete, "%s", summary)
	case v1alpha1.WavePaused:
		conditions.Delete(obj, v1alpha1.ConditionStalled)
		conditions.MarkReconciling(obj, v1alpha1.ReasonPaused, "spec.paused holds the rollout")
		conditions.MarkFalse(obj, v1alpha1.ConditionReady, v1alpha1.ReasonPaused, "Paused: %s", summary)
	case v1alpha1.WaveStalled:
		markStalled(obj, out.Reason, "%s", summary+worst(s.Failures))
	default:
		conditions.Delete(obj, v1alpha1.ConditionStalled)
		conditions.MarkReconciling(obj, v1alpha1.ReasonProgressing, "The rollout goes on")
		conditions.MarkFalse(obj, v1alpha1.ConditionReady, v1alpha1.ReasonProgressing, "%s", summary+worst(s.Failures))
	}
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
	text := strings.Join(parts, ", ")
	if out.Reason == v1alpha1.ReasonProgressDeadlineExceeded {
		text += "; no device made progress within the deadline"
	}
	return text
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
	if l.input.Devices[i].Unreadable {
		f.Reason = fleetview.ReasonInvalidReport
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
	return later
}

// announce tells of what has changed, as events.
func (r *Reconciler) announce(obj *v1alpha1.Deployment, before *v1alpha1.DeploymentStatus) {
	annotations := map[string]string{}
	if obj.Status.Source != nil && obj.Status.Source.Revision != "" {
		annotations[v1alpha1.GroupVersion.Group+"/revision"] = obj.Status.Source.Revision
	}
	if obj.Status.UpdateRevision != before.UpdateRevision {
		r.Recorder.Normal(obj, annotations, "RolloutStarted", "Rolling out revision %s to %s", obj.Status.UpdateRevision, devices(obj.Status.Aggregate))
	}
	ready, was := conditions.Get(obj, v1alpha1.ConditionReady), apimeta.FindStatusCondition(before.Conditions, v1alpha1.ConditionReady)
	if ready == nil || was != nil && was.Reason == ready.Reason && (was.Status == ready.Status) && before.UpdateRevision == obj.Status.UpdateRevision {
		return
	}
	switch {
	case conditions.IsStalled(obj):
		r.Recorder.Warning(obj, annotations, ready.Reason, "%s", ready.Message)
	case ready.Status == metav1.ConditionTrue:
		r.Recorder.Normal(obj, annotations, ready.Reason, "%s", ready.Message)
	}
}

func devices(a *v1alpha1.Aggregate) string {
	switch {
	case a == nil || a.Matched == 0:
		return "no device"
	case a.Matched == 1:
		return "1 device"
	}
	return fmt.Sprintf("%d devices", a.Matched)
}
