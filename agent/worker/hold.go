package worker

import (
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
)

// hold is a step that has failed: the others go on without it until its time.
type hold struct {
	failures int
	until    time.Time
	failure  *reconcile.Failure
}

// hold remembers that a step failed and when to try it again.
func (w *Worker) hold(s reconcile.Step, err error) {
	f := reconcile.AsFailure(err, reconcile.ReasonCreate)
	h := w.held[s.Key()]
	h.failures++
	h.failure = f
	wait := retryAfter(h.failures, f)
	h.until = time.Now().Add(wait)
	w.held[s.Key()] = h
	w.log.Warn("failed, will be tried again", "step", s.String(), "reason", f.Reason, "error", f.Message, "in", wait.Round(time.Millisecond))
}

func retryAfter(failures int, f *reconcile.Failure) time.Duration {
	wait := reconcile.RetryAfter(failures)
	if f.Reason == reconcile.ReasonNoDriver {
		// Asking costs nothing, and podman may just be restarting.
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
