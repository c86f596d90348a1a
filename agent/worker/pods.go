package worker

import (
	"context"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// Pods is a runtime of containers. Its errors are *reconcile.Failure.
type Pods interface {
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

// pods is the engine of podman.
type pods struct {
	*Worker
	driver Pods

	// These are guarded by Worker.mu.
	byHand map[string]bool
	events map[string]bool // containers that something happened to
	// When the agent itself last stopped a container, and last started one again;
	// late are those of which podman told only then that somebody stopped them.
	stopped, again map[string]time.Time
	late           map[string]bool
	// ended is when the agent saw that a container had ended.
	ended map[string]time.Time

	// What follows belongs to the goroutine of Run.
	want    *reconcile.Desired
	pulls   *pulling
	pulled  map[string]bool
	probers probers
}

func newPods(w *Worker) *pods {
	return &pods{
		Worker: w, driver: w.o.Pods, byHand: map[string]bool{}, events: map[string]bool{}, stopped: map[string]time.Time{}, again: map[string]time.Time{},
		late: map[string]bool{}, ended: map[string]time.Time{}, pulled: map[string]bool{}, probers: probers{},
	}
}

func (w *pods) begin() {
	w.want = nil
	w.endPull()
	clear(w.pulled)
}

func (w *pods) stop() {
	w.endPull()
	w.probers.stop()
}

func (w *pods) tail(ctx context.Context, id string) (string, error) { return w.driver.Log(ctx, id) }

// tardy is how long after the end of a container podman may tell who ended it.
const tardy = 5 * time.Second

// event tells that something happened to a container, perhaps by hand. Podman
// tells first that a container has ended and then that somebody stopped it, and
// says the same of what the agent stops.
func (w *pods) event(container string, byHand bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events[container] = true
	switch {
	case !byHand, time.Since(w.stopped[container]) < tardy:
	case time.Since(w.again[container]) < tardy:
		w.late[container] = true
	default:
		w.byHand[container] = true
	}
}

// takeEvents drops the probers of containers that something happened to.
func (w *pods) takeEvents() {
	w.mu.Lock()
	events := w.events
	w.events = map[string]bool{}
	w.mu.Unlock()
	for id := range events {
		w.probers.drop(id)
	}
}
