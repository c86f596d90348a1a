package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/agent/store"
	"github.com/nationtech/fleet/contracts"
)

// logTimeout bounds the look at a log: a report must not wait for it.
const logTimeout = 2 * time.Second

// carryOut chooses between what was told and what was healthy before, and begins
// anew with it.
func (w *Worker) carryOut() {
	w.target, w.refusal = w.order, nil
	if u := w.record.Undone; u != nil && w.order != nil {
		if u.Digest == w.order.Digest && w.good != nil {
			w.target = w.good
		} else {
			w.record.Undone = nil // something else, or nothing to go back to: another try
		}
	}
	if w.order != nil {
		w.refusal = w.o.Allow.Check(w.order.Score)
	}
	if w.refusal != nil && w.good != nil {
		w.target = w.good // what ran before goes on
	}
	w.failures, w.retryAt = 0, time.Time{}
	for _, e := range w.engines {
		e.begin()
	}
	clear(w.held)
	w.began = time.Now()
	if w.target != nil && w.target.Digest != w.record.Carried {
		w.record.Carried, w.record.Healthy = w.target.Digest, false
	}
}

// undone reports whether what was told was given up, or refused, for what was healthy
// before.
func (w *Worker) undone() bool {
	return w.order != nil && w.target != w.order
}

// deadline is when what was told is given up for what was healthy before; zero when
// it never is.
func (w *Worker) deadline() time.Time {
	if w.order == nil || w.target != w.order || w.record.Healthy || w.order.DeadlineSeconds == 0 ||
		w.good == nil || w.good.Digest == w.order.Digest {
		return time.Time{}
	}
	return w.began.Add(time.Duration(w.order.DeadlineSeconds) * time.Second)
}

// giveUp goes back to what was healthy before when the time is up, and reports
// whether it did.
func (w *Worker) giveUp(ctx context.Context) bool {
	at := w.deadline()
	if at.IsZero() || time.Now().Before(at) || ctx.Err() != nil || w.superseded() {
		return false
	}
	is := w.record.Report
	u := &store.Undone{Digest: w.order.Digest, Reason: is.Reason, Message: is.Message, Log: is.Log}
	if u.Reason == "" {
		u.Reason = reconcile.ReasonDeadline
	}
	if is.Phase != contracts.PhaseFailed {
		u.Message = fmt.Sprintf("not healthy within %ds: %s", w.order.DeadlineSeconds, is.Message)
	}
	w.record.Undone = u
	w.log.Warn("it does not get healthy in time; going back to what was", "revision", w.order.Revision, "reason", is.Reason, "message", is.Message, "back", w.good.Revision)
	w.carryOut()
	// Before anything is done: a reboot in between must not try it again.
	if err := w.o.Save(w.record); err != nil {
		w.log.Error("keep the record", "error", err)
	}
	return true
}

// proven remembers what has got healthy, to go back to.
func (w *Worker) proven() {
	if w.good != nil && w.good.Digest == w.target.Digest && w.good.Sealed.Same(w.target.Sealed) {
		return
	}
	w.good = w.target
	if err := w.o.SaveGood(*w.good); err != nil {
		w.log.Error("what is healthy is not on disk, and there is nothing to go back to after a reboot", "error", err)
	}
}

// retold puts how it stands into the words of what was told, when that was given up.
func (w *Worker) retold(a reconcile.Assessment) (reconcile.Assessment, string) {
	if w.refusal != nil {
		return w.retoldRefusal(a), ""
	}
	u := w.record.Undone
	switch a.Phase {
	case contracts.PhaseRemoved:
		return a, ""
	case contracts.PhaseRunning:
		a.Phase, a.Reason, a.Message = contracts.PhaseRolledBack, u.Reason, u.Message
	case contracts.PhaseFailed, contracts.PhaseDegraded:
		a.Phase, a.Message = contracts.PhaseFailed, "what ran before is not well either: "+a.Message
	default:
		a.Phase, a.Reason, a.Message = contracts.PhaseFailed, u.Reason, u.Message
	}
	return a, u.Log
}

// blamed is the end of the log of what is to blame for how it stands.
func (w *Worker) blamed(a reconcile.Assessment) string {
	for _, c := range a.Containers {
		if c.ID == "" || c.Ready {
			continue
		}
		e := w.engines[w.holds()]
		if e == nil {
			return ""
		}
		ctx, cancel := context.WithTimeout(context.Background(), logTimeout)
		defer cancel()
		log, err := e.tail(ctx, c.ID)
		if err != nil {
			w.log.Debug("the log of what fails can't be read", "name", c.Name, "error", err)
		}
		return log
	}
	return ""
}
