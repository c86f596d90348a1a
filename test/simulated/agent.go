package simulated

import (
	"context"
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

// Agent is an agent with a simulated runtime below it and its memory in this process:
// unlike a Device it does all that one on a machine does.
type Agent struct {
	ID contracts.DeviceID
	// Public is the public half of its identity.
	Public string
	key    nkeys.KeyPair
	// curve is what secrets are sealed to, and stays when the Agent starts anew.
	curve   *contracts.CurveKey
	runtime *runtime

	nc     *nats.Conn
	cancel context.CancelFunc
	done   chan struct{}
}

// NewAgent makes an Agent with a key of its own.
func NewAgent(id contracts.DeviceID) (*Agent, error) {
	key, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	pair, err := nkeys.CreateCurveKeys()
	if err != nil {
		return nil, err
	}
	curve, err := pair.PublicKey()
	if err != nil {
		return nil, err
	}
	vouched, err := contracts.NewCurveKey(key, id, curve)
	return &Agent{ID: id, key: key, Public: public, curve: vouched, runtime: newRuntime()}, err
}

// AgentOptions are what Agents may share.
type AgentOptions struct {
	// Bus is how to connect, the Agent's identity left out.
	Bus bus.Options
	// Operator is the public key that signs what the device is told.
	Operator  string
	Heartbeat time.Duration
	// Told is called for each order that a device has taken in.
	Told func(contracts.DeviceID, contracts.Order)
}

// Crash ends every container of a deployment, as a program that fails does.
func (a *Agent) Crash(n contracts.DeploymentName) { a.runtime.crash(n) }

// Start connects the device.
func (a *Agent) Start(s AgentOptions) error {
	o := s.Bus
	o.Key, o.Device, o.Name, o.Logger = a.key, a.ID, string(a.ID), quiet
	var err error
	if a.nc, err = bus.Connect(o); err != nil {
		return err
	}
	one := &agent.Device{
		Config: config.Config{
			Device: a.ID, HeartbeatInterval: s.Heartbeat, Trust: trust.Trust{Operator: s.Operator}, Commands: config.Commands{Ping: true},
		},
		Conn: a.nc, Podman: a.runtime, Memory: &memory{told: func(o contracts.Order) { s.Told(a.ID, o) }}, PublicKey: a.Public, Curve: a.curve, Log: quiet,
		Facts: func() contracts.DeviceInfo {
			return contracts.DeviceInfo{Hostname: string(a.ID), OS: "simulated", Arch: "none"}
		},
		WhyRefused: func() string { return "" },
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel, a.done = cancel, make(chan struct{})
	go func() {
		defer close(a.done)
		// It ends with the context, or because its connection was closed.
		_ = one.Run(ctx)
	}()
	return nil
}

// Connected waits until the fleet has let the device in.
func (a *Agent) Connected(ctx context.Context) error { return bus.Await(ctx, a.nc) }

// Server is the URL of the server that the device is connected to; empty for none.
func (a *Agent) Server() string { return a.nc.ConnectedUrl() }

// Seed is that of its identity: whoever has it can connect as the device.
func (a *Agent) Seed() ([]byte, error) { return a.key.Seed() }

// Stop takes the device offline.
func (a *Agent) Stop() {
	if a.cancel == nil {
		return
	}
	a.cancel()
	<-a.done
	a.nc.Close()
	// A closed connection keeps its buffers.
	a.nc, a.cancel, a.done = nil, nil, nil
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
