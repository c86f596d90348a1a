package worker

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// rounds bounds how often one look decides and acts; more means that somebody
// works against the agent.
const rounds = 20

// look brings the device to what is desired, as far as that goes without waiting,
// and returns when to look again; zero is when something happens.
func (w *pods) look(ctx context.Context) time.Time {
	if target := w.targetOf(contracts.DriverPodman); target != nil && w.want == nil {
		rootless, err := w.driver.Rootless(ctx)
		if err != nil {
			return w.failed(ctx, err, w.states(reconcile.Observed{}))
		}
		settings := w.o.Settings
		settings.Rootless = rootless
		if w.want, err = reconcile.Compile(*target, settings); err != nil {
			return w.invalid(err)
		}
	}
	if w.refusal != nil && !w.undone() {
		return w.refuse(ctx)
	}
	w.countLate()
	w.collect()
	for range rounds {
		o, err := w.driver.Observe(ctx, w.name, w.want)
		if err != nil {
			return w.failed(ctx, err, w.states(reconcile.Observed{}))
		}
		w.noteEnded(o)
		memory := w.memory()
		plan := reconcile.Decide(w.want, o, memory)
		w.countDrift(plan, o, memory.ByHand)
		acted, pulls := false, false
		for _, s := range plan.Steps {
			if s.Kind == reconcile.Pull {
				pulls = true
				w.pull(ctx, s, o)
				continue
			}
			acted = true
			err := w.do(ctx, s, o)
			if ctx.Err() != nil {
				return time.Time{}
			}
			if w.superseded() {
				w.adopt()
				return time.Now()
			}
			if err != nil {
				w.hold(s, err)
				break // what comes after may need it
			}
			delete(w.held, s.Key())
		}
		switch {
		case acted:
		case pulls || plan.Held != "":
			return w.waits(ctx, o, plan)
		default:
			return w.settled(ctx, o, plan)
		}
	}
	return w.failed(ctx, &reconcile.Failure{Reason: reconcile.ReasonCreate, Message: "somebody changes the containers as fast as the agent puts them right"}, w.states(reconcile.Observed{}))
}

// noteEnded remembers since when containers have been seen ended.
func (w *pods) noteEnded(o reconcile.Observed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.ended
	w.ended = map[string]time.Time{}
	for _, p := range o.Pods {
		for _, c := range p.Containers {
			if c.State != reconcile.StateExited {
				continue
			}
			if at, ok := before[c.ID]; ok {
				w.ended[c.ID] = at
			} else {
				w.ended[c.ID] = time.Now()
			}
		}
	}
}

func (w *pods) memory() reconcile.Memory {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := reconcile.Memory{Now: time.Now(), Pulled: w.pulled, Failed: w.failedSteps(), Proven: w.record.Healthy || w.target != nil && w.target == w.good, Backoff: w.record.Backoff, ByHand: maps.Clone(w.byHand), Ended: maps.Clone(w.ended), Dead: map[string]bool{}}
	for id, p := range w.probers {
		m.Dead[id] = p.Health().Dead
	}
	return m
}

// do carries out a step and remembers what has to be.
func (w *pods) do(ctx context.Context, s reconcile.Step, o reconcile.Observed) error {
	w.announce(s, o)
	w.log.Debug("step", "step", s.String())
	if s.Kind == reconcile.Stop || s.Kind == reconcile.Remove {
		w.note(w.stopped, s.Container)
		defer w.note(w.stopped, s.Container)
	}
	if err := w.driver.Do(ctx, w.want, s); err != nil {
		return err
	}
	switch s.Kind {
	case reconcile.Start, reconcile.Stop, reconcile.Remove:
		w.probers.drop(s.Container)
		w.forgetHand(s.Container)
		if s.Again {
			w.restarted(s.Container, o)
			w.note(w.again, s.Container)
		}
	}
	return nil
}

// announce reports what is being done, once per kind, and not the small repairs
// of what has been running: those end before anyone has read of them.
func (w *pods) announce(s reconcile.Step, o reconcile.Observed) {
	if w.want == nil || w.record.Healthy && s.Kind != reconcile.Pull {
		return
	}
	a := reconcile.Assessment{Phase: contracts.PhaseApplying, Containers: w.record.Report.Containers}
	switch {
	case s.Kind == reconcile.Pull:
		a.Phase, a.Message = contracts.PhasePulling, "pulls image "+s.Image
	case s.Again:
		return // a restart is told by what comes of it
	}
	if w.failures > 0 || len(w.held) > 0 {
		return // it has failed before; that stands until it succeeds
	}
	w.report(a)
}

// note remembers when something was done to a container.
func (w *pods) note(when map[string]time.Time, id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	when[id] = time.Now()
}

// countLate counts as put right what was counted as a restart before podman told
// that somebody had stopped it.
func (w *pods) countLate() {
	w.mu.Lock()
	late := w.late
	w.late = map[string]bool{}
	w.mu.Unlock()
	for id := range late {
		if w.record.Restarts[id] == 0 {
			continue
		}
		w.record.Restarts[id]--
		w.record.Report.Restarts--
		w.record.Report.Drifts++
		delete(w.record.Backoff, id)
		w.log.Warn("somebody has stopped a container; it was started again", "container", id)
	}
}

func (w *pods) forgetHand(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.byHand, id)
}

func (w *pods) restarted(id string, o reconcile.Observed) {
	for _, p := range o.Pods {
		for _, c := range p.Containers {
			if c.ID != id {
				continue
			}
			if w.record.Backoff == nil {
				w.record.Backoff, w.record.Restarts = map[string]reconcile.Backoff{}, map[string]int64{}
			}
			w.record.Backoff[id] = w.record.Backoff[id].Restarted(c)
			w.record.Restarts[id]++
			w.record.Report.Restarts++
		}
	}
}

// countDrift counts what has to be put right in something that has run as it
// should, once until it does again. What a reboot ended is not counted. byHand is
// what the plan was decided on: podman may have told more since, and the same stop
// would count as drift and as a restart.
func (w *pods) countDrift(p reconcile.Plan, o reconcile.Observed, byHand map[string]bool) {
	if len(p.Steps) == 0 || w.want == nil || !p.Drift(byHand) {
		return
	}
	w.drifted(fmt.Sprint(p.Steps), "pods", len(o.Pods))
}

// states are how the containers stand, or how they stood when that is not known.
func (w *pods) states(o reconcile.Observed) []contracts.ContainerState {
	if w.want != nil && len(o.Pods) > 0 {
		return reconcile.States(w.want, o, w.probers.health(), w.record.Restarts)
	}
	return w.record.Report.Containers
}

// waits sees to what runs while an image is pulled or a step that failed is held
// back, reports what is waited for, and returns when to look again. It tidies
// nothing up: what is older may still be in use.
func (w *pods) waits(ctx context.Context, o reconcile.Observed, p reconcile.Plan) time.Time {
	if w.want != nil {
		if err := w.watch(ctx, o); err != nil {
			return w.failed(ctx, err, w.states(o))
		}
	}
	w.failures, w.retryAt = 0, time.Time{}
	w.forget(o)
	w.reportHeld(p.Held, w.states(o))
	return p.Wake
}

// settled reports how it stands when there is nothing left to do.
func (w *pods) settled(ctx context.Context, o reconcile.Observed, p reconcile.Plan) time.Time {
	if err := w.driver.Settle(ctx, w.name, w.want); err != nil {
		return w.failed(ctx, err, w.states(o))
	}
	w.drifting = false
	clear(w.held)
	if w.want == nil {
		w.probers.stop()
		return w.removed()
	}
	if err := w.watch(ctx, o); err != nil {
		return w.failed(ctx, err, w.states(o))
	}
	w.failures, w.retryAt = 0, time.Time{}
	w.forget(o)
	return w.assessed(reconcile.Assess(w.want, o, p, w.probers.health(), w.past(), time.Now()), p.Wake)
}

// forget drops what is remembered of containers that are gone.
func (w *pods) forget(o reconcile.Observed) {
	there := map[string]bool{}
	for _, p := range o.Pods {
		for _, c := range p.Containers {
			there[c.ID] = true
		}
	}
	maps.DeleteFunc(w.record.Backoff, func(id string, _ reconcile.Backoff) bool { return !there[id] })
	maps.DeleteFunc(w.record.Restarts, func(id string, _ int64) bool { return !there[id] })
	w.mu.Lock()
	defer w.mu.Unlock()
	gone := func(id string) bool { return !there[id] }
	maps.DeleteFunc(w.byHand, func(id string, _ bool) bool { return gone(id) })
	maps.DeleteFunc(w.stopped, func(id string, _ time.Time) bool { return gone(id) })
	maps.DeleteFunc(w.again, func(id string, _ time.Time) bool { return gone(id) })
}
