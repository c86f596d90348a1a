package worker

import (
	"context"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// refuse ends what runs of a deployment that the device does not allow, which it did
// before its owner became stricter, and reports it. Nothing was healthy before that
// could go on instead. It stays so until something else is told, or the agent starts
// with another configuration.
func (w *pods) refuse(ctx context.Context) time.Time {
	w.probers.stop()
	o, err := w.driver.Observe(ctx, w.name, w.want)
	if err != nil {
		return w.failed(ctx, err, w.states(reconcile.Observed{}))
	}
	for _, s := range reconcile.Withdraw(w.want, o, w.refusal.Concerns) {
		w.log.Warn("the device does not allow it any more and ends it", "step", s.String(), "unit", s.Unit)
		if err := w.driver.Do(ctx, w.want, s); err != nil {
			return w.failed(ctx, err, w.states(o))
		}
	}
	return w.refused()
}

// refused reports that what was refused has ended.
func (w *Worker) refused() time.Time {
	w.failures, w.retryAt = 0, time.Time{}
	w.record.Healthy = false
	w.report(reconcile.Assessment{Phase: contracts.PhaseFailed, Reason: reconcile.ReasonRefused, Message: w.refusal.Error()})
	return time.Time{}
}

// retoldRefusal puts how it stands with what goes on running into the words of what
// was refused.
func (w *Worker) retoldRefusal(a reconcile.Assessment) reconcile.Assessment {
	message := w.refusal.Error()
	switch a.Phase {
	case contracts.PhaseRemoved:
		return a
	case contracts.PhaseFailed, contracts.PhaseDegraded:
		message += "; what ran before is not well either: " + a.Message
	}
	a.Phase, a.Reason, a.Message = contracts.PhaseFailed, reconcile.ReasonRefused, message
	return a
}
