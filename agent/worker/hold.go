package worker

import (
	"context"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// hold is a step that has failed: the others go on without it until its time.
type hold struct {
	failures int
	until    time.Time
	failure  *reconcile.Failure
}

// step is one of any driver's.
type step interface {
	// Key is what it has in common with another try of it.
	Key() string
	String() string
}

// hold remembers that a step failed and when to try it again.
func (w *Worker) hold(s step, err error) {
	f := reconcile.AsFailure(err, reconcile.ReasonCreate)
	h := w.held[s.Key()]
	h.failures++
	h.failure = f
	wait := retryAfter(h.failures, f)
	h.until = time.Now().Add(wait)
	w.held[s.Key()] = h
	w.log.Warn("failed, will be tried again", "step", s.String(), "reason", f.Reason, "error", f.Message, "in", wait.Round(time.Millisecond))
}

// unavailablePause is the longest time between two tries to reach a runtime.
const unavailablePause = 5 * time.Second

func retryAfter(failures int, f *reconcile.Failure) time.Duration {
	wait := reconcile.RetryAfter(failures)
	if f.Reason == reconcile.ReasonNoDriver {
		// Asking costs nothing, and the runtime may just be restarting.
		wait = min(wait, unavailablePause)
	}
	return wait
}

// failedSteps are the steps that failed and until when each is held back.
func (w *Worker) failedSteps() map[string]time.Time {
	until := map[string]time.Time{}
	for key, h := range w.held {
		until[key] = h.until
	}
	return until
}

// failed reports what stands in the way and returns when to try again. The states are
// those of what runs, or those of the last report.
func (w *Worker) failed(ctx context.Context, err error, states []contracts.ContainerState) time.Time {
	if ctx.Err() != nil {
		return time.Time{}
	}
	if w.superseded() {
		w.adopt()
		return time.Now()
	}
	if time.Now().Before(w.retryAt) {
		return w.retryAt // something happened meanwhile; that is not another try
	}
	f := reconcile.AsFailure(err, reconcile.ReasonCreate)
	w.failures++
	wait := retryAfter(w.failures, f)
	w.retryAt = time.Now().Add(wait)
	if f.Reason == reconcile.ReasonNoDriver && w.failures == 1 && w.record.Healthy {
		return w.retryAt // told when it lasts
	}
	w.log.Warn("failed, will be tried again", "reason", f.Reason, "error", f.Message, "in", wait.Round(time.Millisecond))
	w.reportFailure(f, states)
	return w.retryAt
}

func (w *Worker) reportFailure(f *reconcile.Failure, states []contracts.ContainerState) {
	w.report(reconcile.Assessment{Phase: contracts.PhaseFailed, Reason: f.Reason, Message: f.Message, Containers: states})
}

// reportHeld reports a step that failed and is held back, or that what was told as it
// began still goes on.
func (w *Worker) reportHeld(key string, states []contracts.ContainerState) {
	h, held := w.held[key]
	switch {
	case held && h.failure.Reason == reconcile.ReasonNoDriver && h.failures == 1 && w.record.Healthy:
		// Told when it lasts.
	case held:
		w.reportFailure(h.failure, states)
	default:
		// It pulls, which was told as it began, but it may have counted a restart.
		is := w.record.Report
		w.report(reconcile.Assessment{Phase: is.Phase, Reason: is.Reason, Message: is.Message, Containers: is.Containers})
	}
}
