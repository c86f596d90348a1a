package worker

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/nationtech/fleet/agent/machines"
	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// Machines is a runtime of virtual machines, which are named as in libvirt. Its errors are
// *reconcile.Failure.
type Machines interface {
	// Observe is what the runtime has of a deployment; want is nil when nothing is
	// desired.
	Observe(ctx context.Context, n contracts.DeploymentName, want *machines.Desired) (machines.Observed, error)
	// Do carries out a step; one whose work is done already succeeds.
	Do(ctx context.Context, n contracts.DeploymentName, want *machines.Desired, s machines.Step) error
	// Address is where a machine is reached.
	Address(ctx context.Context, domain string) (reconcile.Address, error)
	// GuestPing asks whether the guest agent in a machine answers.
	GuestPing(ctx context.Context, domain string) error
	// Log is the end of what a machine wrote to its console.
	Log(ctx context.Context, domain string) (string, error)
}

// machinery is the engine of libvirt. It belongs to the goroutine of Run.
type machinery struct {
	*Worker
	driver Machines

	want    *machines.Desired
	probers probers
	// runs are the numbers of the runs that were seen, by UUID, and started since when;
	// ended is since when a machine was seen ended.
	runs           map[string]int32
	started, ended map[string]time.Time
	// fresh are the machines that have begun another run and were not ready in it yet.
	fresh map[string]bool
	// ensured are the networks that were made or found right, and sized what machines
	// were given last.
	ensured map[string]string
	sized   map[string]machines.Size
	// domains are the machines' names in libvirt, by UUID.
	domains map[string]string
}

func newMachines(w *Worker) *machinery {
	return &machinery{
		Worker: w, driver: w.o.Machines, probers: probers{}, runs: map[string]int32{},
		started: map[string]time.Time{}, ended: map[string]time.Time{}, fresh: map[string]bool{},
		ensured: map[string]string{}, sized: map[string]machines.Size{}, domains: map[string]string{},
	}
}

func (w *machinery) begin() { w.want = nil }

func (w *machinery) stop() { w.probers.stop() }

func (w *machinery) tail(ctx context.Context, id string) (string, error) {
	return w.driver.Log(ctx, w.domains[id])
}

func (w *machinery) look(ctx context.Context) time.Time {
	if target := w.targetOf(contracts.DriverKVM); target != nil && w.want == nil {
		var err error
		if w.want, err = machines.Compile(*target, w.o.Settings.Device); err != nil {
			return w.invalid(err)
		}
	}
	if w.refusal != nil && !w.undone() {
		return w.refuse(ctx)
	}
	for range rounds {
		o, err := w.driver.Observe(ctx, w.name, w.want)
		if err != nil {
			return w.failed(ctx, err, w.states(machines.Observed{}))
		}
		w.note(o)
		plan := machines.Decide(w.want, o, w.memory())
		if w.want != nil && plan.Drift() {
			w.drifted(fmt.Sprint(plan.Steps))
		}
		for _, s := range plan.Steps {
			w.announce(s)
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
		case len(plan.Steps) > 0:
		case plan.Held != "":
			return w.waits(ctx, o, plan)
		default:
			return w.settled(ctx, o, plan)
		}
	}
	return w.failed(ctx, &reconcile.Failure{Reason: reconcile.ReasonCreate, Message: "somebody changes the machines as fast as the agent puts them right"}, w.states(machines.Observed{}))
}

// note remembers which runs were seen, and since when machines have been seen ended.
func (w *machinery) note(o machines.Observed) {
	now := time.Now()
	there := map[string]bool{}
	for _, d := range o.Domains {
		there[d.UUID], w.domains[d.UUID] = true, d.Name
		if d.Up() && d.Ended == machines.EndUnknown {
			if run, seen := w.runs[d.UUID]; !seen || run != d.Run {
				w.runs[d.UUID], w.started[d.UUID] = d.Run, now
				w.fresh[d.UUID] = w.fresh[d.UUID] || seen
			}
			delete(w.ended, d.UUID)
		} else if _, seen := w.ended[d.UUID]; !seen {
			w.ended[d.UUID], w.fresh[d.UUID] = now, true
		}
	}
	gone := func(id string) bool { return !there[id] }
	maps.DeleteFunc(w.runs, func(id string, _ int32) bool { return gone(id) })
	maps.DeleteFunc(w.started, func(id string, _ time.Time) bool { return gone(id) })
	maps.DeleteFunc(w.ended, func(id string, _ time.Time) bool { return gone(id) })
	maps.DeleteFunc(w.fresh, func(id string, _ bool) bool { return gone(id) })
	maps.DeleteFunc(w.domains, func(id, _ string) bool { return gone(id) })
}

func (w *machinery) memory() machines.Memory {
	m := machines.Memory{
		Now: time.Now(), Failed: w.failedSteps(), Refused: map[string]bool{}, Healthy: w.record.Healthy, Backoff: w.record.Backoff,
		Started: w.started, Ended: w.ended, Ensured: w.ensured, Sized: w.sized,
	}
	for key, h := range w.held {
		m.Refused[key] = h.failure.Reason != reconcile.ReasonNoDriver
	}
	return m
}

// announce reports what is being done to what has not run as it should yet, and above all
// why a machine that runs is shut down.
func (w *machinery) announce(s machines.Step) {
	if w.want == nil || w.record.Healthy || w.failures > 0 || len(w.held) > 0 {
		return
	}
	a := reconcile.Assessment{Phase: contracts.PhaseApplying, Containers: w.record.Report.Containers}
	switch {
	case s.Again:
		return // a restart is told by what comes of it
	case s.Why != "":
		a.Reason, a.Message = reasonRestarting, fmt.Sprintf("machine %s restarts %s", s.Machine, s.Why)
		a.Containers = down(a.Containers, w.idsOf(s.Machine))
	case w.record.Report.Phase == contracts.PhaseApplying && w.record.Report.Reason == reasonRestarting:
		return // which goes on
	}
	w.report(a)
}

// idsOf are the UUIDs that a machine of the score was reported with.
func (w *machinery) idsOf(name string) (ids []string) {
	for _, c := range w.record.Report.Containers {
		if c.Name == name {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// do carries out a step and remembers what has to be.
func (w *machinery) do(ctx context.Context, s machines.Step, o machines.Observed) error {
	w.log.Debug("step", "step", s.String())
	if err := w.driver.Do(ctx, w.name, w.want, s); err != nil {
		return err
	}
	size := w.sized[s.Machine]
	switch s.Kind {
	case machines.MakeNetwork:
		w.ensured[s.Network] = w.want.Network(s.Network).Hash
	case machines.Stop, machines.Remove:
		delete(w.sized, s.Machine)
	case machines.SetCPUs:
		size.CPUs = w.want.Find(s.Machine).Spec.CPUs
		w.sized[s.Machine] = size
	case machines.SetMemory:
		size.Memory = w.want.Find(s.Machine).Spec.MemoryBytes
		w.sized[s.Machine] = size
	case machines.Start:
		m := w.want.Find(s.Machine)
		w.sized[s.Machine] = machines.Size{CPUs: m.Spec.CPUs, Memory: m.Spec.MemoryBytes}
		if d := o.Find(m.Domain); d != nil && s.Again {
			w.restarted(d.UUID, s.Crashed)
		}
		if w.record.Healthy && !s.Crashed {
			// It did well, and boots now: that it is not ready meanwhile is no failure.
			w.recovering = time.Now().Add(w.recoverTime())
		}
	}
	return nil
}

// restarted counts a start of what has ended, for the pause before the next, and of what
// has crashed for people too.
func (w *machinery) restarted(uuid string, crashed bool) {
	if w.record.Backoff == nil {
		w.record.Backoff, w.record.Restarts = map[string]reconcile.Backoff{}, map[string]int64{}
	}
	ended := w.ended[uuid]
	started, seen := w.started[uuid]
	if !seen {
		started = ended
	}
	w.record.Backoff[uuid] = w.record.Backoff[uuid].Restarted(reconcile.Container{Started: started, Finished: ended})
	if crashed {
		w.record.Restarts[uuid]++
		w.record.Report.Restarts++
	}
}

// states are how the machines stand, or how they stood when that is not known.
func (w *machinery) states(o machines.Observed) []contracts.ContainerState {
	if w.want != nil && len(o.Domains) > 0 {
		return machines.States(w.want, o, w.probers.health(), w.record.Restarts)
	}
	return w.record.Report.Containers
}

// waits reports a step that failed, sees to what runs meanwhile, and returns when to look
// again.
func (w *machinery) waits(ctx context.Context, o machines.Observed, p machines.Plan) time.Time {
	w.watch(ctx, o)
	w.failures, w.retryAt = 0, time.Time{}
	w.forget(o)
	w.reportHeld(p.Held, w.states(o))
	return p.Wake
}

// settled reports how it stands when there is nothing left to do.
func (w *machinery) settled(ctx context.Context, o machines.Observed, p machines.Plan) time.Time {
	w.drifting = false
	clear(w.held)
	if w.want == nil {
		w.probers.stop()
		return w.removed()
	}
	w.watch(ctx, o)
	w.failures, w.retryAt = 0, time.Time{}
	w.forget(o)
	was := w.record.Healthy
	wake := w.assessed(machines.Assess(w.want, o, p, w.probers.health(), w.past(), time.Now()), p.Wake)
	if w.record.Healthy && !was {
		return time.Now() // what it has replaced can go
	}
	return wake
}

// forget drops what is remembered of machines that are gone.
func (w *machinery) forget(o machines.Observed) {
	there := map[string]bool{}
	for _, d := range o.Domains {
		there[d.UUID] = true
	}
	maps.DeleteFunc(w.record.Backoff, func(id string, _ reconcile.Backoff) bool { return !there[id] })
	maps.DeleteFunc(w.record.Restarts, func(id string, _ int64) bool { return !there[id] })
}
