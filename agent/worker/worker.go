// Package worker carries out one deployment: it looks at what the runtime has,
// has package reconcile or machines decide, does the steps, and reports. It looks again
// when it is told something new, when the runtime tells of an event, when a probe
// changes its mind, and from time to time.
//
// What it is told, what it goes back to, what it refuses and what it reports is the same
// for all runtimes; pods and machines are an engine each.
package worker

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nationtech/fleet/agent/policy"
	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/agent/store"
	"github.com/nationtech/fleet/contracts"
)

// Options are what all workers of a device share.
type Options struct {
	// Pods and Machines are the device's runtimes, nil for what it has not.
	Pods     Pods
	Machines Machines
	Settings reconcile.Settings
	// Allow is what scores may reach of the device.
	Allow  policy.Device
	BootID string
	// Save keeps a record on disk, before it is reported.
	Save func(store.Record) error
	// SaveGood keeps what has got healthy on disk.
	SaveGood func(contracts.DesiredState) error
	// Report is told of every transition; it must not block.
	Report func(contracts.DeploymentState)
	Logger *slog.Logger
}

// Worker carries out one deployment. Its methods may be called at any time.
type Worker struct {
	o    Options
	name contracts.DeploymentName
	log  *slog.Logger
	wake chan struct{}
	// engines by the name of their driver; pods is the one of podman, nil for none.
	engines map[string]engine
	pods    *pods

	mu      sync.Mutex
	told    bool                    // whether there is anything to do yet
	desired *contracts.DesiredState // nil is to be removed
	issued  int64                   // the number of the newest order
	changed bool                    // desired since the last look
	// restarts are those that were asked for; over tells that Run has ended.
	restarts []*restart
	over     bool

	// What follows belongs to the goroutine of Run.
	record store.Record
	sent   counters
	// order is what was told last, good what was last healthy, and target the one of
	// them that is carried out, since began.
	order, good, target *contracts.DesiredState
	began               time.Time
	// refusal is why the device does not carry out the order; nil when it does.
	refusal *policy.Refusal
	// held are the steps that failed, by their keys.
	held map[string]hold
	// failures in a row of a look itself, and when the next try is due.
	failures int
	retryAt  time.Time
	drifting bool
	// recovering is until when what was restarted on command may take to get ready.
	recovering time.Time
}

// New returns a worker that goes on from the record and, if it is not nil, from what
// was last healthy; it does nothing until Set or Remove and Run.
func New(n contracts.DeploymentName, r store.Record, good *contracts.DesiredState, o Options) *Worker {
	r.Report.Deployment = n
	if good != nil && o.Allow.Check(good.Score) != nil {
		good = nil // the device has become stricter since
	}
	w := &Worker{
		o: o, good: good, name: n, sent: counts(r.Report), log: o.Logger.With("deployment", string(n)), wake: make(chan struct{}, 1),
		engines: map[string]engine{}, record: r, held: map[string]hold{},
	}
	if o.Pods != nil {
		w.pods = newPods(w)
		w.engines[contracts.DriverPodman] = w.pods
	}
	if o.Machines != nil {
		w.engines[contracts.DriverKVM] = newMachines(w)
	}
	return w
}

// Set tells what shall run.
func (w *Worker) Set(d contracts.DesiredState) { w.set(&d, d.Issued) }

// Remove tells that nothing shall run any longer, by the order of that number; 0 where
// no order says so.
func (w *Worker) Remove(issued int64) { w.set(nil, issued) }

// Removed reports whether the worker was told last that nothing shall run.
func (w *Worker) Removed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.told && w.desired == nil
}

func (w *Worker) set(d *contracts.DesiredState, issued int64) {
	w.mu.Lock()
	w.issued = max(w.issued, issued)
	if w.told && same(w.desired, d) {
		w.mu.Unlock()
		return
	}
	w.told, w.desired, w.changed = true, d, true
	w.mu.Unlock()
	w.Look()
}

// same reports whether there is nothing new to do or to report.
func same(a, b *contracts.DesiredState) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Digest == b.Digest && a.Revision == b.Revision && a.DeadlineSeconds == b.DeadlineSeconds && a.Sealed.Same(b.Sealed)
}

// Event tells that something happened to a container, perhaps by hand. What happens to a
// machine needs a Look alone: libvirt says afterwards how it came about.
func (w *Worker) Event(container string, byHand bool) {
	if w.pods != nil {
		w.pods.event(container, byHand)
	}
	w.Look()
}

// Driver is the name of the driver that carries out what was told; empty for nothing.
func (w *Worker) Driver() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.desired == nil {
		return ""
	}
	return w.desired.Score.Driver()
}

// Look makes the worker look soon.
func (w *Worker) Look() {
	select {
	case w.wake <- struct{}{}:
	default: // it will
	}
}

// How often the worker looks when nothing happens, with up to a fifth of jitter,
// and how long it lets events gather before it looks.
const (
	fullLook = 60 * time.Second
	gather   = 20 * time.Millisecond
)

// Run works until the context ends. Containers and machines stay as they are then.
func (w *Worker) Run(ctx context.Context) {
	defer func() {
		for _, e := range w.engines {
			e.stop()
		}
	}()
	defer w.endRestarts()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
			if !pause(ctx, gather) {
				return
			}
		case <-timer.C:
		}
		if next := w.turn(ctx); next > 0 {
			timer.Reset(next)
		} else {
			timer.Stop()
		}
	}
}

// turn takes one turn and returns the time to the next; 0 is never.
func (w *Worker) turn(ctx context.Context) time.Duration {
	if w.pods != nil {
		w.pods.takeEvents()
	}
	if !w.adopt() {
		w.doRestarts(ctx)
		return 0
	}
	// A failure does not keep it from looking when something happens: steps that
	// failed are held back one by one.
	wake := w.look(ctx)
	if w.doRestarts(ctx) {
		wake = time.Now()
	}
	if w.giveUp(ctx) {
		wake = time.Now()
	}
	if w.target == nil && wake.IsZero() {
		return 0
	}
	next := fullLook - rand.N(fullLook/5)
	if at := w.deadline(); !at.IsZero() {
		next = min(next, max(time.Until(at), time.Millisecond))
	}
	if !wake.IsZero() {
		next = min(next, max(time.Until(wake), time.Millisecond))
	}
	return next
}

// adopt takes over what was told last, and reports whether anything was.
func (w *Worker) adopt() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.told {
		return false
	}
	if !w.changed {
		return true
	}
	w.changed = false
	w.order = w.desired
	w.carryOut()
	return true
}

func (w *Worker) superseded() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// pause reports whether the time has passed, as opposed to the context's end.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
