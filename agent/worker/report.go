package worker

import (
	"slices"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// report keeps and tells a transition; what is as it was is not told again.
func (w *Worker) report(a reconcile.Assessment) {
	old := w.record.Report
	next := old
	next.Log = ""
	if w.undone() {
		a, next.Log = w.retold(a)
	}
	next.V, next.Phase, next.Reason, next.Message = contracts.Version, a.Phase, a.Reason, a.Message
	next.Containers = a.Containers
	if w.order != nil {
		next.Revision, next.Digest = w.order.Revision, w.order.Digest
	}
	w.mu.Lock()
	next.Issued = max(next.Issued, w.issued)
	w.mu.Unlock()
	if next.Phase == contracts.PhaseRemoved {
		next.Restarts, next.Drifts = 0, 0
	}
	if next.Digest == "" {
		return // found on the device and told of by nobody: there is nothing to report
	}
	if old.Seq > 0 && w.sent == counts(next) && equal(old, next) {
		return
	}
	w.sent = counts(next)
	if next.Log == "" && (next.Phase == contracts.PhaseFailed || next.Phase == contracts.PhaseDegraded) {
		next.Log = w.blamed(a)
	}
	next.Seq = old.Seq + 1
	if old.Seq == 0 {
		// Where an earlier record was lost, the clock is ahead of its count.
		next.Seq = max(1, uint64(max(0, time.Now().UnixMilli())))
	}
	next.Time = time.Now().UTC()
	if next.Phase != old.Phase || next.Digest != old.Digest || old.Since.IsZero() {
		next.Since = next.Time
	}
	w.record.Report = next
	if err := w.o.Save(w.record); err != nil {
		// The disk may be full: the fleet should hear of it all the same.
		w.log.Error("keep the record", "error", err)
	}
	w.log.Info("now", "phase", next.Phase, "reason", next.Reason, "message", next.Message, "revision", next.Revision)
	w.o.Report(next)
}

// counters are kept in the record as they change, so the last ones told are
// remembered apart.
type counters struct{ restarts, drifts int64 }

func counts(s contracts.DeploymentState) counters { return counters{s.Restarts, s.Drifts} }

// equal reports whether the two say the same, counters apart.
func equal(a, b contracts.DeploymentState) bool {
	return a.Phase == b.Phase && a.Reason == b.Reason && a.Message == b.Message &&
		a.Revision == b.Revision && a.Digest == b.Digest && slices.Equal(a.Containers, b.Containers)
}
