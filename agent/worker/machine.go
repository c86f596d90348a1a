package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nationtech/fleet/agent/machines"
	"github.com/nationtech/fleet/agent/probe"
	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// watch has the machines probed that run.
func (w *machinery) watch(ctx context.Context, o machines.Observed) {
	if w.want == nil {
		return
	}
	runs := map[string]int{}
	for _, d := range o.Domains {
		if d.State == machines.StateRunning && d.Ours {
			runs[d.UUID] = int(d.Run)
		}
	}
	for i := range w.want.Machines {
		m := &w.want.Machines[i]
		d := o.Find(m.Domain)
		if d == nil || d.State != machines.StateRunning || !d.Ours {
			continue
		}
		if p := w.probers[d.UUID]; p != nil && p.run == int(d.Run) {
			if p.Health().Ready {
				delete(w.fresh, d.UUID)
			}
			if p.digest == w.want.Digest {
				continue
			}
		}
		ready := !w.fresh[d.UUID] && w.wasReady(m.Spec.Name, d.UUID)
		w.probers.drop(d.UUID)
		w.probers[d.UUID] = w.probe(ctx, m, d, ready)
	}
	w.probers.keep(runs)
}

func (w *machinery) probe(ctx context.Context, m *machines.Machine, d *machines.Domain, ready bool) *probing {
	domain := d.Name
	return &probing{run: int(d.Run), digest: w.want.Digest, Prober: probe.Start(ctx, probe.Target{
		Spec: contracts.Container{Name: m.Spec.Name, Readiness: readiness(m.Spec.Readiness)}, Started: w.started[d.UUID], WasReady: ready,
		Find: func(ctx context.Context) (reconcile.Address, error) { return w.driver.Address(ctx, domain) },
		Exec: func(ctx context.Context, _ []string) error { return w.driver.GuestPing(ctx, domain) },
	}, w.Look)}
}

// readiness is a machine's probe as a container's: the guest agent takes the place of a
// command.
func readiness(p *contracts.MachineProbe) *contracts.Probe {
	if p == nil {
		return nil
	}
	out := &contracts.Probe{
		HTTP: p.HTTP, TCP: p.TCP, InitialDelay: p.InitialDelay, Timeout: p.Timeout, Period: p.Period,
		SuccessThreshold: 1, FailureThreshold: p.FailureThreshold,
	}
	if p.GuestAgent {
		out.Exec = []string{"guest-ping"}
	}
	return out
}

// refuse ends machines that the device does not allow, as for pods.
func (w *machinery) refuse(ctx context.Context) time.Time {
	w.probers.stop()
	o, err := w.driver.Observe(ctx, w.name, w.want)
	if err != nil {
		return w.failed(ctx, err, w.states(machines.Observed{}))
	}
	for _, s := range machines.Withdraw(w.want, o, w.refusal.Concerns) {
		w.log.Warn("the device does not allow it any more and ends it", "step", s.String())
		if err := w.driver.Do(ctx, w.name, w.want, s); err != nil {
			return w.failed(ctx, err, w.states(o))
		}
	}
	return w.refused()
}

// restart shuts machines down, in their grace period, and starts them again.
func (w *machinery) restart(ctx context.Context, name string) ([]string, error) {
	if w.want == nil {
		return nil, w.notThere("")
	}
	o, err := w.driver.Observe(ctx, w.name, w.want)
	if err != nil {
		return nil, err
	}
	w.note(o)
	var names, ids []string
	for i := range w.want.Machines {
		m := &w.want.Machines[i]
		if d := o.Find(m.Domain); d != nil && d.Ours && (name == "" || name == m.Spec.Name) {
			names, ids = append(names, m.Spec.Name), append(ids, d.UUID)
		}
	}
	if len(names) == 0 {
		return nil, w.notThere(name)
	}
	w.restarting(names, ids)
	var failures []error
	for i, one := range names {
		// Starts that followed each other closely are forgotten: somebody may have put
		// right what made it end.
		delete(w.record.Backoff, ids[i])
		for _, kind := range []machines.Kind{machines.Stop, machines.Start} {
			if err := w.do(ctx, machines.Step{Kind: kind, Machine: one}, o); err != nil {
				failures = append(failures, fmt.Errorf("machine %s: %w", one, err))
				break // the next look sees to it
			}
		}
	}
	// The grace periods are over; now they have time to get ready.
	w.recovering = time.Now().Add(w.recoverTime())
	return names, errors.Join(failures...)
}
