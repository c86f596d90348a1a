package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleet/agent"
	"github.com/nationtech/fleet/agent/config"
	"github.com/nationtech/fleet/agent/store"
	"github.com/nationtech/fleet/agent/trust"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
)

// device is an agent with a simulated runtime below it and its memory in this process.
type device struct {
	id      contracts.DeviceID
	key     nkeys.KeyPair
	public  string
	runtime *runtime

	nc     *nats.Conn
	cancel context.CancelFunc
	done   chan struct{}
}

func newDevice(n int) (*device, error) {
	key, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	public, err := key.PublicKey()
	return &device{id: contracts.DeviceID(fmt.Sprintf("load-%06d", n)), key: key, public: public, runtime: newRuntime()}, err
}

// settings are what all devices share.
type settings struct {
	bus       bus.Options
	operator  string
	heartbeat time.Duration
	// told is called for each order that a device has taken in.
	told func(contracts.Order)
}

// start connects the device by TCP or, with a server, in this process.
func (d *device) start(s settings, server nats.InProcessConnProvider) error {
	o := s.bus
	o.Key, o.Device, o.Name, o.InProcess, o.Logger = d.key, d.id, string(d.id), server, quiet
	if server != nil {
		o.URL, o.CAFile = nats.DefaultURL, "" // of the same server; there is no network to encrypt
	}
	curve, err := nkeys.CreateCurveKeys()
	if err != nil {
		return err
	}
	public, err := curve.PublicKey()
	if err != nil {
		return err
	}
	vouched, err := contracts.NewCurveKey(d.key, d.id, public)
	if err != nil {
		return err
	}
	if d.nc, err = bus.Connect(o); err != nil {
		return err
	}
	one := &agent.Device{
		Config: config.Config{
			Device: d.id, HeartbeatInterval: s.heartbeat, Trust: trust.Trust{Operator: s.operator}, Commands: config.Commands{Ping: true},
		},
		Conn: d.nc, Driver: d.runtime, Memory: &memory{told: s.told}, PublicKey: d.public, Curve: vouched, Log: quiet,
		Facts: func() contracts.DeviceInfo {
			return contracts.DeviceInfo{Hostname: string(d.id), OS: "simulated", Arch: "none"}
		},
		WhyRefused: func() string { return "" },
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel, d.done = cancel, make(chan struct{})
	go func() {
		defer close(d.done)
		// It ends with the context, or because its connection was closed.
		_ = one.Run(ctx)
	}()
	return nil
}

func (d *device) stop() {
	if d.cancel == nil {
		return
	}
	d.cancel()
	<-d.done
	d.nc.Close()
}

var quiet = slog.New(slog.DiscardHandler)

// memory is that of a device that does not start again: what it is told is counted, and
// nothing is kept.
type memory struct{ told func(contracts.Order) }

func (m *memory) PutOrder(o contracts.Order) error {
	m.told(o)
	return nil
}

func (*memory) Orders() (map[contracts.DeploymentName]contracts.Order, error) {
	return map[contracts.DeploymentName]contracts.Order{}, nil
}
func (*memory) PutRecord(store.Record) error                                       { return nil }
func (*memory) DeleteRecord(contracts.DeploymentName) error                        { return nil }
func (*memory) Records() (map[contracts.DeploymentName]store.Record, error)        { return nil, nil }
func (*memory) PutGood(contracts.DesiredState) error                               { return nil }
func (*memory) Good() (map[contracts.DeploymentName]contracts.DesiredState, error) { return nil, nil }
func (*memory) PutAgent(store.Agent) error                                         { return nil }
