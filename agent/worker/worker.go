// Package worker carries out one deployment: it looks at what the runtime has,
// has package reconcile decide, does the steps, and reports. It looks again when
// it is told something new, when the runtime tells of an event, when a probe
// changes its mind, and from time to time.
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

// Driver is a runtime. Its errors are *reconcile.Failure.
type Driver interface {
	// Observe is what the runtime has of a deployment; want is nil when nothing is
	// desired.
	Observe(ctx context.Context, n contracts.DeploymentName, want *reconcile.Desired) (reconcile.Observed, error)
	// Do carries out a step; one whose work is done already succeeds.
	Do(ctx context.Context, want *reconcile.Desired, s reconcile.Step) error
	// Settle removes what is no longer needed beside containers.
	Settle(ctx context.Context, n contracts.DeploymentName, want *reconcile.Desired) error
	// Rootless reports whether only pods themselves reach their network.
	Rootless(ctx context.Context) (bool, error)
	// Address is where the pod with that infra container is reached.
	Address(ctx context.Context, infraID string) (reconcile.Address, error)
	// Log is the end of a container's log.
	Log(ctx context.Context, id string) (string, error)
	// Exec runs a probe's command in a container.
	Exec(ctx context.Context, id string, spec contracts.Container, command []string) error
}

// Options are what all workers of a device share.
type Options struct {
	Driver   Driver
	Settings reconcile.Settings
	// Allow is what scores may reach of the device.
	Allow  policy.Podman
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

	mu      sync.Mutex
	told    bool                    // whether there is anything to do yet
	desired *contracts.DesiredState // nil is to be removed
	issued  int64                   // the number of the newest order
	changed bool                    // desired since the last look
	byHand  map[string]bool
	events  map[string]bool // containers that something happened to
	// When the agent itself last stopped a container, and last started one again;
	// late are those of which podman told only then that somebody stopped them.
	stopped, again map[string]time.Time
	late           map[string]bool
	// ended is when the agent saw that a container had ended.
	ended map[string]time.Time
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
	want    *reconcile.Desired
	pulls   *pulling
	pulled  map[string]bool
	probers map[string]*probing
	// held are the steps that failed, by reconcile.Step.Key.
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
	if good != nil && o.Allow.Check(good.Score.Podman) != nil {
		good = nil // the device has become stricter since
	}
	return &Worker{o: o, good: good, name: n, sent: counts(r.Report), log: o.Logger.With("deployment", string(n)), wake: make(chan struct{}, 1),
		byHand: map[string]bool{}, events: map[string]bool{}, stopped: map[string]time.Time{}, again: map[string]time.Time{}, ended: map[string]time.Time{}, late: map[string]bool{}, record: r, pulled: map[string]bool{}, held: map[string]hold{}, probers: map[string]*probing{}}
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

// tardy is how long after the end of a container podman may tell who ended it.
const tardy = 5 * time.Second

// Event tells that something happened to a container, perhaps by hand. Podman
// tells first that a container has ended and then that somebody stopped it, and
// says the same of what the agent stops.
func (w *Worker) Event(container string, byHand bool) {
	w.mu.Lock()
	w.events[container] = true
	switch {
	case !byHand, time.Since(w.stopped[container]) < tardy:
	case time.Since(w.again[container]) < tardy:
		w.late[container] = true
	default:
		w.byHand[container] = true
	}
	w.mu.Unlock()
	w.Look()
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

// Run works until the context ends. Containers stay as they are then.
func (w *Worker) Run(ctx context.Context) {
	defer w.stopProbers()
	defer w.endPull()
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
	for id := range w.events {
		w.dropProber(id)
	}
	clear(w.events)
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
