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
	"github.com/nationtech/fleet/agent/policy"
	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/agent/report"
	"github.com/nationtech/fleet/agent/store"
	"github.com/nationtech/fleet/agent/worker"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
)

// Podman is the runtime of a device's pods.
type Podman interface {
	worker.Pods
	commands.Driver
	// Watch calls handle for every event until the context ends, and with All when
	// events may have been missed.
	Watch(ctx context.Context, handle func(podman.Event))
	// Version of the runtime.
	Version(ctx context.Context) (string, error)
	// Deployments are those of which the runtime has anything.
	Deployments(ctx context.Context) (map[contracts.DeploymentName]bool, error)
}

// KVM is the runtime of a device's machines.
type KVM interface {
	worker.Machines
	commands.Machines
	// Watch calls handle when something has happened to machines, or may have, until the
	// context ends.
	Watch(ctx context.Context, handle func())
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

// Device is what an agent does with a connection to the fleet, runtimes and a memory,
// whichever they are.
type Device struct {
	// Config says which device it is, whom it trusts, what it allows and how often it
	// sends a heartbeat.
	Config config.Config
	Conn   *nats.Conn
	// Podman and KVM are nil for what the device does not have.
	Podman Podman
	KVM    KVM
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

// driver is what a device asks of any runtime.
type driver interface {
	Version(ctx context.Context) (string, error)
	Deployments(ctx context.Context) (map[contracts.DeploymentName]bool, error)
}

// drivers are the runtimes that the device has, by the names of what they run.
func (d *Device) drivers() map[string]driver {
	all := map[string]driver{}
	if d.Podman != nil {
		all[contracts.DriverPodman] = d.Podman
	}
	if d.KVM != nil {
		all[contracts.DriverKVM] = d.KVM
	}
	return all
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
	f := &fleet{ctx: ctx, disk: d.Memory, log: log, looked: map[string]bool{}, workers: map[contracts.DeploymentName]*running{}, known: map[contracts.DeploymentName]contracts.Order{}}
	sender := report.New(publisher.State, f.gone, log)
	f.options = worker.Options{
		Settings: reconcile.Settings{Device: c.Device, HostIP: c.HostIP}, Allow: policy.Device{Podman: c.Podman.Allow}, BootID: facts.BootID(),
		Save: d.Memory.PutRecord, SaveGood: d.Memory.PutGood, Report: sender.Report, Logger: log,
	}
	handler := &commands.Handler{Allow: c.Commands, Restart: f.restart, DriverOf: f.driverOf}
	// What is nil in an interface has to be so in the next.
	if d.Podman != nil {
		f.options.Pods, handler.Driver = d.Podman, d.Podman
	}
	if d.KVM != nil {
		f.options.Machines, handler.Machines = d.KVM, d.KVM
	}
	if c.KVM != nil {
		f.options.Allow.KVM = c.KVM.Allow
	}
	if err := f.resume(sender); err != nil {
		return err
	}
	defer f.wait()
	p := &presence{device: d, publisher: publisher, started: time.Now(), connected: sender.All, news: make(chan struct{}, 1)}
	mirror := bus.NewMirror(d.Conn, c.Device, bus.MirrorOptions{
		Logger: log, Known: maps.Clone(f.known), Operator: c.Trust.Operator, HandedOver: c.Trust.HandedOver,
		OnChange:   func(view map[contracts.DeploymentName]contracts.Order) { f.adopt(ctx, view, d.drivers()) },
		OnHandover: d.OnHandover,
		OnRefused:  p.refuse,
	})
	handler.Started = p.started
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	parts.Go(func() { sender.Run(ctx) })
	if d.Podman != nil {
		parts.Go(func() { d.Podman.Watch(ctx, f.event) })
	}
	if d.KVM != nil {
		parts.Go(func() { d.KVM.Watch(ctx, f.machineEvent) })
	}
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
