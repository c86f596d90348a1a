package worker

import (
	"context"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
)

// localLimit is how long a pull may take that the device can do without: what it
// has run before should run again soon after a reboot, whatever the network does.
const localLimit = 30 * time.Second

// pulling is a pull in the background. It may take an hour, or hang with the
// network, and what runs has to be seen to meanwhile. There is one at a time, which
// is all that a small device has the memory for.
type pulling struct {
	step reconcile.Step
	stop context.CancelFunc
	done chan struct{}
	// err is set before done is closed.
	err error
}

// pull has an image pulled, unless another is already.
func (w *pods) pull(ctx context.Context, s reconcile.Step, o reconcile.Observed) {
	if w.pulls != nil {
		return
	}
	w.announce(s, o)
	w.log.Debug("step", "step", s.String())
	stop := context.CancelFunc(nil)
	if s.Local {
		ctx, stop = context.WithTimeout(ctx, localLimit)
	} else {
		ctx, stop = context.WithCancel(ctx)
	}
	p := &pulling{step: s, stop: stop, done: make(chan struct{})}
	w.pulls = p
	want := w.want
	go func() {
		p.err = w.driver.Do(ctx, want, s)
		close(p.done)
		w.Look()
	}()
}

// collect takes over what came of a pull that has ended.
func (w *pods) collect() {
	p := w.pulls
	if p == nil {
		return
	}
	select {
	case <-p.done:
	default:
		return
	}
	w.endPull()
	if p.err != nil {
		w.hold(p.step, p.err)
		return
	}
	w.pulled[p.step.Image] = true
	delete(w.held, p.step.Key())
}

// endPull ends a pull that is under way and forgets what would come of it.
func (w *pods) endPull() {
	if p := w.pulls; p != nil {
		p.stop()
		<-p.done
		w.pulls = nil
	}
}
