// Package simulated has devices without a machine, for the many that one machine has no
// room for. A Device speaks to NATS as an agent does and has no driver: what it reports is
// what the test says, also what no container does on demand. An Agent is the agent itself
// above a runtime that only takes its time.
package simulated

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
)

// Answer makes the report of what a device is told; nil reports nothing.
type Answer func(contracts.DesiredState) *contracts.DeploymentState

// Running says that everything runs.
func Running(contracts.DesiredState) *contracts.DeploymentState {
	return &contracts.DeploymentState{Phase: contracts.PhaseRunning}
}

// Failing says that nothing does.
func Failing(reason string) Answer {
	return func(contracts.DesiredState) *contracts.DeploymentState {
		return &contracts.DeploymentState{Phase: contracts.PhaseFailed, Reason: reason, Message: "it does not work"}
	}
}

// Silent says nothing.
func Silent(contracts.DesiredState) *contracts.DeploymentState { return nil }

// Options of a Device.
type Options struct {
	ID contracts.DeviceID
	// URL of the NATS server, SeedFile and PublicKey of the device's key.
	URL, SeedFile, PublicKey string
	// CAFile is what the server's certificate is checked against; empty for a server in
	// clear.
	CAFile string
	// Operator is the public key that signs what the device is told.
	Operator string
	// Stranger has another identity vouch for the key that secrets are sealed to.
	Stranger bool
	Answer   Answer
}

// Device is a simulated one. Its methods may be called at any time.
type Device struct {
	o         Options
	nc        *nats.Conn
	publisher *bus.Publisher
	// curve is what secrets are sealed to, another one each time that the device starts.
	curve   nkeys.KeyPair
	vouched *contracts.CurveKey
	cancel  context.CancelFunc
	done    chan struct{}

	mu       sync.Mutex
	answer   Answer
	told     map[contracts.DeploymentName]contracts.DesiredState
	seq      uint64
	watching func(map[contracts.DeploymentName]contracts.DesiredState)
}

// Start connects a device, which says what it is and sends a heartbeat every half
// second until Stop.
func Start(ctx context.Context, o Options) (*Device, error) {
	nc, err := bus.Connect(bus.Options{
		URL: o.URL, SeedFile: o.SeedFile, CAFile: o.CAFile, Name: string(o.ID), Device: o.ID, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	publisher, err := bus.NewPublisher(nc, o.ID)
	if err != nil {
		nc.Close()
		return nil, err
	}
	curve, vouched, err := newCurve(o)
	if err != nil {
		nc.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	d := &Device{o: o, nc: nc, publisher: publisher, curve: curve, vouched: vouched, cancel: cancel, done: make(chan struct{}), answer: o.Answer}
	mirror := bus.NewMirror(nc, o.ID, bus.MirrorOptions{Logger: slog.New(slog.DiscardHandler), OnChange: d.adopt, Operator: o.Operator})
	var parts sync.WaitGroup
	parts.Go(func() { d.inform(ctx) })
	parts.Go(func() { _ = mirror.Run(ctx) })
	parts.Go(func() { d.beat(ctx) })
	go func() {
		parts.Wait()
		nc.Close()
		close(d.done)
	}()
	return d, nil
}

// newCurve makes the key that secrets are sealed to.
func newCurve(o Options) (nkeys.KeyPair, *contracts.CurveKey, error) {
	seed, err := os.ReadFile(o.SeedFile)
	if err != nil {
		return nil, nil, err
	}
	identity, err := nkeys.FromSeed(bytes.TrimSpace(seed))
	if o.Stranger {
		identity, err = nkeys.CreateUser()
	}
	if err != nil {
		return nil, nil, err
	}
	curve, err := nkeys.CreateCurveKeys()
	if err != nil {
		return nil, nil, err
	}
	public, err := curve.PublicKey()
	if err != nil {
		return nil, nil, err
	}
	vouched, err := contracts.NewCurveKey(identity, o.ID, public)
	return curve, vouched, err
}

// Open opens the secrets that the device was told with a Deployment.
func (d *Device) Open(name string) (map[string][]byte, error) {
	told := d.Told(name)
	if told.Sealed == nil {
		return nil, errors.New("no secrets were told")
	}
	return told.Sealed.Open(d.curve)
}

// Connected reports whether the device is.
func (d *Device) Connected() bool { return d.nc.IsConnected() }

// Stop takes the device offline.
func (d *Device) Stop() {
	d.cancel()
	<-d.done
}

// inform says what the device is until the server has it.
func (d *Device) inform(ctx context.Context) {
	info := contracts.DeviceInfo{Device: d.o.ID, Hostname: "host-" + string(d.o.ID), PublicKey: d.o.PublicKey, Curve: d.vouched, AgentVersion: "test"}
	for attempt := 0; ctx.Err() == nil && d.publisher.Info(ctx, info) != nil; attempt++ {
		timer := time.NewTimer(bus.Backoff(attempt, 20*time.Millisecond, time.Second))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

func (d *Device) beat(ctx context.Context) {
	up := d.nc.StatusChanged(nats.CONNECTED)
	defer d.nc.RemoveStatusListener(up)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for n := uint64(1); ; n++ {
		// One that is not sent is one that is missed.
		_ = d.publisher.Heartbeat(contracts.HeartbeatPayload{Seq: n, Time: time.Now().UnixMilli(), Interval: 1})
		select {
		case <-ctx.Done():
			return
		case <-up:
		case <-tick.C:
		}
	}
}

// adopt answers for what is new.
func (d *Device) adopt(orders map[contracts.DeploymentName]contracts.Order) {
	view := map[contracts.DeploymentName]contracts.DesiredState{}
	for name, o := range orders {
		if o.Desired != nil {
			view[name] = *o.Desired
		}
	}
	d.mu.Lock()
	before := d.told
	d.told = view
	watching := d.watching
	d.mu.Unlock()
	if watching != nil {
		watching(view)
	}
	for name, now := range view {
		if was, ok := before[name]; !ok || was.Issued != now.Issued {
			d.report(now)
		}
	}
}

// report sends what the answer to something is.
func (d *Device) report(now contracts.DesiredState) {
	d.mu.Lock()
	answer := d.answer
	d.seq++
	seq := d.seq
	d.mu.Unlock()
	state := answer(now)
	if state == nil {
		return
	}
	state.Deployment, state.Revision, state.Digest, state.Issued, state.Seq = now.Deployment, now.Revision, now.Digest, now.Issued, seq
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	// What is lost the test waits for in vain.
	_ = d.Report(ctx, *state)
}

// Report says how a Deployment stands, told or not. It returns when that is stored.
func (d *Device) Report(ctx context.Context, state contracts.DeploymentState) error {
	state.Time = time.Now().UTC()
	state.Since = state.Time
	return d.publisher.State(ctx, state)
}

// Answer changes what the device answers from now on.
func (d *Device) Answer(answer Answer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer = answer
}

// AnswerAgain changes what the device answers, and has it answer for everything
// that it was told.
func (d *Device) AnswerAgain(answer Answer) {
	d.Answer(answer)
	d.mu.Lock()
	told := maps.Clone(d.told)
	d.mu.Unlock()
	for _, now := range told {
		d.report(now)
	}
}

// Watch shows each new view of what the device is told.
func (d *Device) Watch(show func(map[contracts.DeploymentName]contracts.DesiredState)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watching = show
}

// Told is what the device was told for a Deployment; the zero value for nothing.
func (d *Device) Told(name string) contracts.DesiredState {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.told[contracts.DeploymentName(name)]
}

// String is the device's ID.
func (d *Device) String() string { return fmt.Sprint(d.o.ID) }
