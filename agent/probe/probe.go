// Package probe looks whether containers are well, with the meanings that
// Kubernetes gives to startup, readiness and liveness probes.
// https://kubernetes.io/docs/concepts/workloads/pods/probes/
package probe

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// settle is how long a container without a readiness probe has to stay up before
// it counts as ready. Most that can't work end within it; a revision that is taken
// for healthy is one to go back to.
const settle = 3 * time.Second

// Target is one run of a container, or of a machine.
type Target struct {
	Spec contracts.Container
	// Started is when this run began.
	Started time.Time
	// Address is where its ports are. Find, where it is set, is asked for it before each
	// look: a machine has its address some time after its start, and may get another.
	Address reconcile.Address
	Find    func(context.Context) (reconcile.Address, error)
	Exec    Exec
	// WasReady is set for a container that was ready before the agent restarted: it
	// stays so until a look says otherwise.
	WasReady bool
}

// Prober looks at one run of a container until it is stopped.
type Prober struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	notify func()

	mu     sync.Mutex
	health reconcile.Health
}

// Start begins to look; notify is called after each change of Health, from other
// goroutines.
func Start(ctx context.Context, t Target, notify func()) *Prober {
	ctx, cancel := context.WithCancel(ctx)
	p := &Prober{cancel: cancel, notify: notify}
	p.health.Ready = t.WasReady
	p.done.Go(func() { p.run(ctx, t) })
	return p
}

// Stop ends the looks and waits until the last has returned.
func (p *Prober) Stop() {
	p.cancel()
	p.done.Wait()
}

// Health is what the probes say now.
func (p *Prober) Health() reconcile.Health {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.health
}

func (p *Prober) set(change func(*reconcile.Health)) {
	p.mu.Lock()
	before := p.health
	change(&p.health)
	changed := before != p.health
	p.mu.Unlock()
	if changed {
		p.notify()
	}
}

func (p *Prober) run(ctx context.Context, t Target) {
	l := looker{at: t.Address, find: t.Find, exec: t.Exec}
	if t.Spec.Startup != nil && !p.startup(ctx, l, t) {
		return
	}
	if t.Spec.Liveness != nil {
		p.done.Go(func() { p.liveness(ctx, l, t) })
	}
	if t.Spec.Readiness != nil {
		p.readiness(ctx, l, t)
		return
	}
	if !pause(ctx, time.Until(t.Started.Add(settle))) {
		return
	}
	p.set(func(h *reconcile.Health) { h.Ready, h.Message = true, "" })
}

// startup holds the other probes back until it succeeds once, which it reports.
func (p *Prober) startup(ctx context.Context, l looker, t Target) bool {
	up := false
	p.loop(ctx, l, t, *t.Spec.Startup, true, func(k *track, err error) bool {
		switch {
		case k.succeeded:
			up = true
			return false
		case k.failed:
			p.set(func(h *reconcile.Health) { *h = reconcile.Health{Dead: true, Message: "startup probe: " + said(err)} })
			return false
		}
		p.set(func(h *reconcile.Health) { h.Message = "startup probe: " + said(err) })
		return true
	})
	return up
}

func (p *Prober) readiness(ctx context.Context, l looker, t Target) {
	p.loop(ctx, l, t, *t.Spec.Readiness, true, func(k *track, err error) bool {
		p.set(func(h *reconcile.Health) {
			switch {
			case k.succeeded:
				h.Ready = true
			case k.failed:
				h.Ready = false
			}
			if h.Message = ""; !h.Ready {
				h.Message = "readiness probe: " + said(err)
			}
		})
		return true
	})
}

func (p *Prober) liveness(ctx context.Context, l looker, t Target) {
	p.loop(ctx, l, t, *t.Spec.Liveness, false, func(k *track, err error) bool {
		if k.failed {
			p.set(func(h *reconcile.Health) { h.Dead, h.Message = true, "liveness probe: "+said(err) })
		}
		return !k.failed
	})
}

// loop looks until step says that it is enough.
func (p *Prober) loop(ctx context.Context, l looker, t Target, spec contracts.Probe, impatient bool, step func(*track, error) bool) {
	first := t.Started.Add(time.Duration(spec.InitialDelay) * time.Second)
	k := &track{spec: spec}
	for wait := time.Until(first); pause(ctx, wait); {
		err := l.look(ctx, spec)
		if ctx.Err() != nil {
			return
		}
		wait = k.seen(time.Now(), err == nil, impatient)
		if !step(k, err) {
			return
		}
	}
}

func said(err error) string {
	if err == nil {
		return "it has to succeed again"
	}
	return fmt.Sprint(err)
}

// pause reports whether the time has passed, as opposed to the context's end.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
