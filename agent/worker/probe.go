package worker

import (
	"cmp"
	"context"

	"github.com/nationtech/fleet/agent/probe"
	"github.com/nationtech/fleet/agent/reconcile"
)

// probing is the prober of one run of a container, as one specification says.
type probing struct {
	*probe.Prober
	pid    int
	digest string
}

// watch has the running containers of the wanted pod probed, and of what is older
// and still runs, what was.
func (w *Worker) watch(ctx context.Context, o reconcile.Observed) error {
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
		if p := w.probers[c.ID]; p != nil && p.pid == c.PID && p.digest == w.want.Digest {
			continue
		}
		at, err := w.addressOf(ctx, pod)
		if err != nil {
			return err
		}
		ready := w.wasReady(u.Name, c.ID)
		w.dropProber(c.ID)
		w.probers[c.ID] = w.probe(ctx, u, c, at, ready)
	}
	for id, p := range w.probers {
		if pid, ok := keep[id]; !ok || pid != p.pid {
			w.dropProber(id)
		}
	}
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

func (w *Worker) probe(ctx context.Context, u reconcile.Unit, c *reconcile.Container, at reconcile.Address, ready bool) *probing {
	return &probing{pid: c.PID, digest: w.want.Digest, Prober: probe.Start(ctx, probe.Target{
		Spec: u.Spec, Started: c.Started, Address: at, WasReady: ready,
		Exec: func(ctx context.Context, command []string) error { return w.o.Driver.Exec(ctx, c.ID, u.Spec, command) },
	}, w.Look)}
}

// wasReady reports whether the container was ready when the agent last looked:
// then it stays so until its probe says otherwise, and a restarted agent or a new
// revision that leaves the container alone does not make it flap.
func (w *Worker) wasReady(unit, id string) bool {
	for _, c := range w.record.Report.Containers {
		if c.Name == unit && c.ID == id {
			return c.Ready && c.State == string(reconcile.StateRunning)
		}
	}
	return false
}

// addressOf is where the pod's ports are.
func (w *Worker) addressOf(ctx context.Context, pod *reconcile.Pod) (reconcile.Address, error) {
	if pod.Infra == nil {
		return reconcile.Address{Host: cmp.Or(w.o.Settings.HostIP, "127.0.0.1")}, nil
	}
	return w.o.Driver.Address(ctx, pod.Infra.ID)
}

func (w *Worker) health() map[string]reconcile.Health {
	all := map[string]reconcile.Health{}
	for id, p := range w.probers {
		all[id] = p.Health()
	}
	return all
}

func (w *Worker) dropProber(id string) {
	if p := w.probers[id]; p != nil {
		p.Stop()
		delete(w.probers, id)
	}
}

func (w *Worker) stopProbers() {
	for id := range w.probers {
		w.dropProber(id)
	}
}
