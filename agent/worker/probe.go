package worker

import (
	"cmp"
	"context"

	"github.com/nationtech/fleet/agent/probe"
	"github.com/nationtech/fleet/agent/reconcile"
)

// probing is the prober of one run of a container or machine, as one specification says.
type probing struct {
	*probe.Prober
	// run is another number for each run.
	run    int
	digest string
}

// probers are by the runtime's ID.
type probers map[string]*probing

func (p probers) health() map[string]reconcile.Health {
	all := map[string]reconcile.Health{}
	for id, one := range p {
		all[id] = one.Health()
	}
	return all
}

func (p probers) drop(id string) {
	if one := p[id]; one != nil {
		one.Stop()
		delete(p, id)
	}
}

// keep drops the probers of what does not run, or runs anew; runs are by ID.
func (p probers) keep(runs map[string]int) {
	for id, one := range p {
		if run, ok := runs[id]; !ok || run != one.run {
			p.drop(id)
		}
	}
}

func (p probers) stop() {
	for id := range p {
		p.drop(id)
	}
}

// watch has the running containers of the wanted pod probed, and of what is older
// and still runs, what was.
func (w *pods) watch(ctx context.Context, o reconcile.Observed) error {
	pod := o.Current(w.want)
	keep := running(o)
	for _, u := range w.want.Units {
		if pod == nil || u.Init {
			continue
		}
		c := pod.Find(u)
		if c == nil || c.State != reconcile.StateRunning {
			continue
		}
		if p := w.probers[c.ID]; p != nil && p.run == c.PID && p.digest == w.want.Digest {
			continue
		}
		at, err := w.addressOf(ctx, pod)
		if err != nil {
			return err
		}
		ready := w.wasReady(u.Name, c.ID)
		w.probers.drop(c.ID)
		w.probers[c.ID] = w.probe(ctx, u, c, at, ready)
	}
	w.probers.keep(keep)
	return nil
}

// running are the PIDs of the containers that run, by ID.
func running(o reconcile.Observed) map[string]int {
	pids := map[string]int{}
	for _, p := range o.Pods {
		for _, c := range p.Containers {
			if c.State == reconcile.StateRunning {
				pids[c.ID] = c.PID
			}
		}
	}
	return pids
}

func (w *pods) probe(ctx context.Context, u reconcile.Unit, c *reconcile.Container, at reconcile.Address, ready bool) *probing {
	return &probing{run: c.PID, digest: w.want.Digest, Prober: probe.Start(ctx, probe.Target{
		Spec: u.Spec, Started: c.Started, Address: at, WasReady: ready,
		Exec: func(ctx context.Context, command []string) error { return w.driver.Exec(ctx, c.ID, u.Spec, command) },
	}, w.Look)}
}

// wasReady reports whether a container or machine was ready when the agent last looked:
// then it stays so until its probe says otherwise, and a restarted agent or a new
// revision that leaves it alone does not make it flap.
func (w *Worker) wasReady(unit, id string) bool {
	for _, c := range w.record.Report.Containers {
		if c.Name == unit && c.ID == id {
			return c.Ready && c.State == string(reconcile.StateRunning)
		}
	}
	return false
}

// addressOf is where the pod's ports are.
func (w *pods) addressOf(ctx context.Context, pod *reconcile.Pod) (reconcile.Address, error) {
	if pod.Infra == nil {
		return reconcile.Address{Host: cmp.Or(w.o.Settings.HostIP, "127.0.0.1")}, nil
	}
	return w.driver.Address(ctx, pod.Infra.ID)
}
