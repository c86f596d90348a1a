package deployment

import (
	"fmt"
	"slices"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fluxcd/pkg/runtime/conditions"

	"github.com/nationtech/fleet/api/v1alpha1"
)

// Reasons of the events of a Deployment, beside those of its conditions.
const (
	eventRolloutStarted  = "RolloutStarted"
	eventWaveStarted     = "WaveStarted"
	eventWaveCompleted   = "WaveCompleted"
	eventWaveHalted      = "WaveHalted"
	eventRollbackStarted = "RollbackStarted"
)

// announce tells of what has changed, as events.
func (r *Reconciler) announce(obj *v1alpha1.Deployment, before *v1alpha1.DeploymentStatus) {
	annotations := map[string]string{}
	if obj.Status.Source != nil && obj.Status.Source.Revision != "" {
		annotations[v1alpha1.GroupVersion.Group+"/revision"] = obj.Status.Source.Revision
	}
	now := &obj.Status
	anew := now.UpdateRevision != before.UpdateRevision
	if anew && now.UpdateRevision != "" {
		r.Recorder.Normal(obj, annotations, eventRolloutStarted, "Rolling out revision %s to %s", now.UpdateRevision, devices(now.Aggregate))
	}
	for _, e := range waveEvents(before, now) {
		r.Recorder.Normal(obj, annotations, e.reason, "%s", e.message)
	}
	ready, was := conditions.Get(obj, v1alpha1.ConditionReady), apimeta.FindStatusCondition(before.Conditions, v1alpha1.ConditionReady)
	if ready == nil {
		return
	}
	samePhase := !anew && (now.Wave == nil) == (before.Wave == nil) && (now.Wave == nil || now.Wave.Phase == before.Wave.Phase && now.Wave.Name == before.Wave.Name)
	if samePhase && was != nil && was.Reason == ready.Reason && was.Status == ready.Status {
		return
	}
	reason := ready.Reason
	switch {
	case conditions.IsStalled(obj):
		if now.Wave != nil && now.Wave.Phase == v1alpha1.WaveHalted {
			reason = eventWaveHalted
		}
		if now.Wave != nil && now.Wave.Phase == v1alpha1.WaveRollingBack {
			reason = eventRollbackStarted
		}
		r.Recorder.Warning(obj, annotations, reason, "%s", ready.Message)
	case ready.Status == metav1.ConditionTrue, ready.Reason == v1alpha1.ReasonAwaitingApproval:
		r.Recorder.Normal(obj, annotations, reason, "%s", ready.Message)
	}
}

type waveEvent struct{ reason, message string }

// waveEvents tells which waves have begun and ended between two states. The events
// of a single wave would say what those of the rollout say.
func waveEvents(before, now *v1alpha1.DeploymentStatus) (events []waveEvent) {
	if len(now.Waves) < 2 {
		return nil
	}
	begun := func(p v1alpha1.WavePhase) bool {
		return p != "" && p != v1alpha1.WavePending && p != v1alpha1.WaveAwaitingApproval && p != v1alpha1.WavePaused
	}
	for i, w := range now.Waves {
		if w.Matched == 0 {
			continue
		}
		var was v1alpha1.WavePhase
		if j := slices.IndexFunc(before.Waves, func(o v1alpha1.WaveProgress) bool { return o.Name == w.Name }); j >= 0 && before.UpdateRevision == now.UpdateRevision {
			was = before.Waves[j].Phase
		}
		if begun(w.Phase) && !begun(was) && was != v1alpha1.WavePaused {
			events = append(events, waveEvent{eventWaveStarted, fmt.Sprintf("Wave %s, %d of %d, of %s begins", w.Name, i+1, len(now.Waves), plural(w.Matched))})
		}
		if w.Phase == v1alpha1.WaveComplete && was != v1alpha1.WaveComplete {
			events = append(events, waveEvent{eventWaveCompleted, fmt.Sprintf("Wave %s, %d of %d, is over: %d of %s run the revision, %d failed, %d offline",
				w.Name, i+1, len(now.Waves), w.Succeeded, plural(w.Matched), w.Failed, w.Offline)})
		}
	}
	return events
}

func devices(a *v1alpha1.Aggregate) string {
	if a == nil || a.Matched == 0 {
		return "no device"
	}
	return plural(a.Matched)
}

func plural(n int32) string {
	if n == 1 {
		return "1 device"
	}
	return fmt.Sprintf("%d devices", n)
}
