package agent

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleet/agent/commands"
	"github.com/nationtech/fleet/agent/config"
	"github.com/nationtech/fleet/agent/driver/podman"
	"github.com/nationtech/fleet/agent/facts"
	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/agent/report"
	"github.com/nationtech/fleet/agent/store"
	"github.com/nationtech/fleet/agent/worker"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
)

// Driver is the runtime of a device.
type Driver interface {
	worker.Driver
	commands.Driver
	// Watch calls handle for every event until the context ends, and with All when
	// events may have been missed.
	Watch(ctx context.Context, handle func(podman.Event))
	// Version of the runtime.
	Version(ctx context.Context) (string, error)
	// Deployments are those of which the runtime has anything.
	Deployments(ctx context.Context) (map[contracts.DeploymentName]bool, error)
}

// Memory is what a device must not forget when it starts again. See store.Store.
type Memory interface {
	PutOrder(contracts.Order) error
	Orders() (map[contracts.DeploymentName]contracts.Order, error)
	PutRecord(store.Record) error
	DeleteRecord(contracts.DeploymentName) error
	Records() (map[contracts.DeploymentName]store.Record, error)
	PutGood(contracts.DesiredState) error
	Good() (map[contracts.DeploymentName]contracts.DesiredState, error)
	PutAgent(store.Agent) error
}

// Device is what an agent does with a connection to the fleet, a runtime and a memory,
// whichever they are.
type Device struct {
	// Config says which device it is, whom it trusts, what it allows and how often it
	// sends a heartbeat.
	Config config.Config
	Conn   *nats.Conn
	Driver Driver
	Memory Memory
	// PublicKey is the device's identity; Curve is what secrets are sealed to.
	PublicKey string
	Curve     *contracts.CurveKey
	// Facts is what the device knows of its machine.
	Facts func() contracts.DeviceInfo
	// WhyRefused is in words why the fleet does not let the device in; empty if it does
	// or nobody knows.
	WhyRefused func() string
	// OnHandover keeps the operator that follows the one trusted so far.
	OnHandover func(contracts.Handover) error
	Log        *slog.Logger
}

// Run carries out what the device is told until the context ends.
func (d *Device) Run(ctx context.Context) error {
	c, log := d.Config, d.Log
	publisher, err := bus.NewPublisher(d.Conn, c.Device)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := &fleet{ctx: ctx, disk: d.Memory, log: log, workers: map[contracts.DeploymentName]*running{}, known: map[contracts.DeploymentName]contracts.Order{}}
	sender := report.New(publisher.State, f.gone, log)
	f.options = worker.Options{
		Driver: d.Driver, Settings: reconcile.Settings{Device: c.Device, HostIP: c.HostIP}, Allow: c.Podman.Allow, BootID: facts.BootID(),
		Save: d.Memory.PutRecord, SaveGood: d.Memory.PutGood, Report: sender.Report, Logger: log,
	}
	if err := f.resume(sender); err != nil {
		return err
	}
	defer f.wait()
	p := &presence{device: d, publisher: publisher, started: time.Now(), connected: sender.All, news: make(chan struct{}, 1)}
	mirror := bus.NewMirror(d.Conn, c.Device, bus.MirrorOptions{
		Logger: log, Known: maps.Clone(f.known), Operator: c.Trust.Operator, HandedOver: c.Trust.HandedOver,
		OnChange:   func(view map[contracts.DeploymentName]contracts.Order) { f.adopt(ctx, view, d.Driver) },
		OnHandover: d.OnHandover,
		OnRefused:  p.refuse,
	})
	handler := &commands.Handler{Allow: c.Commands, Driver: d.Driver, Restart: f.restart, Started: p.started}
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	parts.Go(func() { sender.Run(ctx) })
	parts.Go(func() { d.Driver.Watch(ctx, f.event) })
	parts.Go(func() { p.heartbeats(ctx) })
	parts.Go(func() { p.inform(ctx) })
	parts.Go(func() {
		if err := bus.ServeCommands(ctx, d.Conn, c.Device, handler, bus.CommandOptions{Logger: log}); err != nil {
			log.Error("commands are not served", "error", err)
		}
	})
	if err := mirror.Run(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	log.Info("stopping; what runs goes on running")
	return nil
}

// fleet is every deployment of the device, each with a worker.
type fleet struct {
	ctx     context.Context
	disk    Memory
	log     *slog.Logger
	options worker.Options
	// known is what the disk says the device was told. It belongs to the goroutine
	// of the mirror, after resume.
	known map[contracts.DeploymentName]contracts.Order
	// looked tells that podman was asked for what nobody knows of.
	looked bool

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
func (f *fleet) adopt(ctx context.Context, view map[contracts.DeploymentName]contracts.Order, driver Driver) {
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
	f.removeUnknown(ctx, driver)
}

// removeUnknown removes, once, what carries the device's label and is of no
// deployment that it is told: the disk was lost, or the device's identity moved.
func (f *fleet) removeUnknown(ctx context.Context, driver Driver) {
	if f.looked {
		return
	}
	names, err := driver.Deployments(ctx)
	if err != nil {
		f.log.Debug("podman was not asked for what nobody knows of", "error", err)
		return
	}
	f.looked = true
	for name := range names {
		if o := f.known[name]; o.Desired == nil {
			f.log.Warn("containers of a deployment that the device is not told are removed", "deployment", name)
			f.remove(name, o.Issued)
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
