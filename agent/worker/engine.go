package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// engine carries out with one driver what is wanted of a deployment. It belongs to the
// goroutine of Run.
type engine interface {
	// begin forgets what was wanted before.
	begin()
	// look brings the device to what is desired, as far as that goes without waiting, and
	// returns when to look again; zero is when something happens. When what is desired is
	// another driver's, nothing is desired of this one.
	look(ctx context.Context) time.Time
	// restart ends and starts what has that name in the score, or all, and returns which.
	restart(ctx context.Context, name string) ([]string, error)
	// tail is the end of the log of what has that ID in the runtime.
	tail(ctx context.Context, id string) (string, error)
	// stop ends what goes on beside the goroutine of Run.
	stop()
}

// look has the engine look whose turn it is.
func (w *Worker) look(ctx context.Context) time.Time {
	if w.target == nil {
		if e := w.holder(); e != nil {
			return e.look(ctx)
		}
		if driver := w.holds(); driver != "" {
			return w.invalid(noDriver(w.name, driver)) // and nobody else can remove it
		}
		return w.removed()
	}
	driver := w.target.Score.Driver()
	e := w.engines[driver]
	if e == nil {
		return w.invalid(noDriver(w.name, driver))
	}
	if w.refusal != nil && !w.undone() {
		return e.look(ctx) // which starts nothing: what another driver has stays
	}
	if w.holds() != driver {
		if other := w.engines[w.holds()]; other != nil {
			return other.look(ctx)
		}
		w.hand(driver)
	}
	return e.look(ctx)
}

// holds is the name of the driver that has, or may have, something of the deployment;
// empty for none.
func (w *Worker) holds() string {
	if w.record.Driver == "" && w.record.Carried != "" && w.record.Report.Seq > 0 {
		return contracts.DriverPodman // there was no other when the record was written
	}
	return w.record.Driver
}

// holder is the engine of the driver that may have something of a deployment which is to
// go; podman's, or the only one, when nobody knows.
func (w *Worker) holder() engine {
	if driver := w.holds(); driver != "" {
		return w.engines[driver]
	}
	if w.pods != nil {
		return w.pods
	}
	return w.engines[contracts.DriverKVM]
}

// hand makes a driver the one that has something of the deployment. That is on disk
// before it has: otherwise it would be forgotten what has to be removed.
func (w *Worker) hand(driver string) {
	w.record.Driver = driver
	if err := w.o.Save(w.record); err != nil {
		w.log.Error("keep the record", "error", err)
	}
}

// removed tells that the engine has nothing left of the deployment, and returns when to
// look again.
func (w *Worker) removed() time.Time {
	w.failures, w.retryAt = 0, time.Time{}
	if w.target != nil {
		w.hand(w.target.Score.Driver()) // it only had to make way
		return time.Now()
	}
	w.report(reconcile.Assessment{Phase: contracts.PhaseRemoved})
	return time.Time{}
}

// targetOf is what is carried out when that is the driver's.
func (w *Worker) targetOf(driver string) *contracts.DesiredState {
	if w.target != nil && w.target.Score.Driver() == driver {
		return w.target
	}
	return nil
}

func noDriver(n contracts.DeploymentName, driver string) error {
	err := fmt.Errorf("deployment %s, driver %q: %w", n, driver, reconcile.ErrNoDriver)
	if driver == contracts.DriverKVM {
		err = fmt.Errorf("%w: its agent's configuration has no section kvm", err)
	}
	return err
}

// invalid reports what can't be carried out until something else is told.
func (w *Worker) invalid(err error) time.Time {
	reason := reconcile.ReasonInvalid
	if errors.Is(err, reconcile.ErrNoDriver) {
		reason = reconcile.ReasonNoDriver
	}
	w.report(reconcile.Assessment{Phase: contracts.PhaseFailed, Reason: reason, Message: err.Error()})
	return time.Time{}
}

// past is what was so before this look.
func (w *Worker) past() reconcile.Past {
	return reconcile.Past{Since: w.began, WasRunning: w.record.Healthy, Restarts: w.record.Restarts}
}

// assessed reports how it stands and returns when to look again.
func (w *Worker) assessed(a reconcile.Assessment, wake time.Time) time.Time {
	w.recovers(&a)
	if a.Phase == contracts.PhaseRunning {
		w.record.Healthy, w.record.BootID = true, w.o.BootID
		w.proven()
	}
	w.report(a)
	if a.Wake.IsZero() || !wake.IsZero() && wake.Before(a.Wake) {
		return wake
	}
	return a.Wake
}

// drifted counts, once until it is put right, that somebody has changed something that
// has run as it should. What a reboot ended is not counted.
func (w *Worker) drifted(steps string, more ...any) {
	if w.drifting || !w.record.Healthy || w.record.BootID != w.o.BootID {
		return
	}
	w.drifting = true
	w.record.Report.Drifts++
	w.log.Warn("somebody has changed what runs; it is put right", append([]any{"steps", steps}, more...)...)
}
