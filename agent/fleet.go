package agent

import (
	"context"
	"log/slog"
	"sync"

	"github.com/nationtech/fleet/agent/driver/podman"
	"github.com/nationtech/fleet/agent/report"
	"github.com/nationtech/fleet/agent/store"
	"github.com/nationtech/fleet/agent/worker"
	"github.com/nationtech/fleet/contracts"
)

// fleet is every deployment of the device, each with a worker.
type fleet struct {
	ctx     context.Context
	disk    Memory
	log     *slog.Logger
	options worker.Options
	// known is what the disk says the device was told. It belongs to the goroutine
	// of the mirror, after resume.
	known map[contracts.DeploymentName]contracts.Order
	// looked are the drivers that were asked for what nobody knows of.
	looked map[string]bool

	mu      sync.Mutex
	workers map[contracts.DeploymentName]*running
}

type running struct {
	*worker.Worker
	stop context.CancelFunc
	done chan struct{}
}

// resume goes on with what the device knew when the agent last ran, at once and
// without asking anybody.
func (f *fleet) resume(sender *report.Sender) error {
	var err error
	if f.known, err = f.disk.Orders(); err != nil {
		return err
	}
	records, err := f.disk.Records()
	if err != nil {
		return err
	}
	good, err := f.disk.Good()
	if err != nil {
		return err
	}
	for name, r := range records {
		f.mu.Lock()
		if g, ok := good[name]; ok {
			f.start(name, r, &g)
		} else {
			f.start(name, r, nil)
		}
		f.mu.Unlock()
		if r.Report.Seq > 0 {
			sender.Report(r.Report)
		}
		if o := f.known[name]; o.Desired == nil {
			// It was told to go, and the agent ended before it was gone.
			f.remove(name, o.Issued)
		}
	}
	running := 0
	for _, o := range f.known {
		if o.Desired != nil {
			f.set(*o.Desired)
			running++
		}
	}
	f.log.Info("going on with what the device was told before", "deployments", running)
	return nil
}

// adopt takes over what the device is told now: first on disk, then in deed.
func (f *fleet) adopt(ctx context.Context, view map[contracts.DeploymentName]contracts.Order, drivers map[string]driver) {
	for name, o := range view {
		if before, ok := f.known[name]; ok && before.Issued == o.Issued {
			continue
		}
		if err := f.disk.PutOrder(o); err != nil {
			// A full disk must not keep the fix for it from being carried out.
			f.log.Error("what the device is told is not on disk and is lost with the next reboot", "error", err)
			if o.Desired == nil {
				continue // but what is removed now would be back after a reboot
			}
		}
		f.known[name] = o
		if o.Desired == nil {
			f.log.Info("told no longer", "deployment", name)
			f.remove(name, o.Issued)
			continue
		}
		f.log.Info("told", "deployment", name, "revision", o.Desired.Revision, "commit", o.Desired.Commit)
		f.set(*o.Desired)
	}
	f.removeUnknown(ctx, drivers)
}

// removeUnknown removes, once, what is marked as the device's and is of no deployment
// that it is told: the disk was lost, or the device's identity moved.
func (f *fleet) removeUnknown(ctx context.Context, drivers map[string]driver) {
	for kind, d := range drivers {
		if f.looked[kind] {
			continue
		}
		names, err := d.Deployments(ctx)
		if err != nil {
			f.log.Debug("a driver was not asked for what nobody knows of", "driver", kind, "error", err)
			continue
		}
		f.looked[kind] = true
		for name := range names {
			if o := f.known[name]; o.Desired == nil {
				f.log.Warn("what is left of a deployment that the device is not told is removed", "deployment", name, "driver", kind)
				f.removeFrom(name, kind, o.Issued)
			}
		}
	}
}

// set tells a deployment's worker what shall run. The lock is held until it knows:
// gone must not stop it in between.
func (f *fleet) set(d contracts.DesiredState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.worker(d.Deployment).Set(d)
}

// remove tells a deployment's worker that nothing shall run, by the order of that
// number.
func (f *fleet) remove(name contracts.DeploymentName, issued int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.worker(name).Remove(issued)
}

// removeFrom is remove for what a driver has of a deployment of which nothing else is
// known.
func (f *fleet) removeFrom(name contracts.DeploymentName, driver string, issued int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.workers[name] == nil {
		f.start(name, store.Record{Driver: driver}, nil)
	}
	f.workers[name].Remove(issued)
}

// worker returns the worker of a deployment, a new one if there is none. The lock
// is held.
func (f *fleet) worker(name contracts.DeploymentName) *running {
	if w := f.workers[name]; w != nil {
		return w
	}
	return f.start(name, store.Record{}, nil)
}

// start starts a worker. The lock is held.
func (f *fleet) start(name contracts.DeploymentName, r store.Record, good *contracts.DesiredState) *running {
	ctx, stop := context.WithCancel(f.ctx)
	w := &running{Worker: worker.New(name, r, good, f.options), stop: stop, done: make(chan struct{})}
	f.workers[name] = w
	go func() {
		defer close(w.done)
		w.Run(ctx)
	}()
	return w
}

// gone forgets a deployment of which the server knows that it was removed, unless
// it was told again meanwhile. The lock is held to the end, so that whoever is told
// of it next begins with a worker and a record of its own. A worker never takes the
// lock, and this one has nothing left to do: it ends at once.
func (f *fleet) gone(name contracts.DeploymentName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.workers[name]
	if w == nil || !w.Removed() {
		return
	}
	w.stop()
	<-w.done
	delete(f.workers, name)
	if err := f.disk.DeleteRecord(name); err != nil {
		f.log.Error("the record of a removed deployment is still on disk", "error", err)
	}
}

// restart has a deployment's worker restart containers.
func (f *fleet) restart(ctx context.Context, name contracts.DeploymentName, container string) ([]string, error) {
	f.mu.Lock()
	w := f.workers[name]
	f.mu.Unlock()
	if w == nil {
		return nil, contracts.CommandErrorf(contracts.CodeNotFound, "this device has no deployment %s", name)
	}
	return w.Restart(ctx, container)
}

// driverOf is the name of the driver that a deployment is told to run with.
func (f *fleet) driverOf(name contracts.DeploymentName) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w := f.workers[name]; w != nil {
		return w.Driver()
	}
	return ""
}

// machineEvent has everybody look who runs machines.
func (f *fleet) machineEvent() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.workers {
		if w.Driver() == contracts.DriverKVM {
			w.Look()
		}
	}
}

// event passes on what podman tells.
func (f *fleet) event(e podman.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.All {
		for _, w := range f.workers {
			w.Look()
		}
		return
	}
	if w := f.workers[e.Deployment]; w != nil {
		w.Event(e.Container, e.ByHand)
	}
}

// wait waits until every worker has ended.
func (f *fleet) wait() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.workers {
		w.stop()
	}
	for _, w := range f.workers {
		<-w.done
	}
}
