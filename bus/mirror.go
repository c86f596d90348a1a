package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nationtech/fleet/contracts"
)

const (
	// resyncInterval is how often a snapshot is taken although nothing hints at a
	// loss, give or take a quarter.
	resyncInterval = 10 * time.Minute
	// snapshotTimeout bounds the wait for one page.
	snapshotTimeout = 2 * time.Second
	// retryLimit bounds the wait before a snapshot is asked for again.
	retryLimit = 15 * time.Second

	// A device that does not keep up with more than this loses messages and takes
	// a snapshot instead.
	pendingMessages = 1024
	pendingBytes    = 16 << 20
)

// MirrorOptions say what becomes of what a Mirror sees.
type MirrorOptions struct {
	// OnChange is called, one call after the other, with all that the device was told,
	// what was withdrawn included, whenever that has changed; for the first time when
	// it is complete.
	OnChange func(map[contracts.DeploymentName]contracts.Order)
	// Known is what the device was told before, as it has it on disk.
	Known map[contracts.DeploymentName]contracts.Order
	// Operator is the public NKey whose signature counts, and HandedOver the number of
	// the handover that led to it; 0 for none.
	Operator   string
	HandedOver int64
	// OnHandover keeps that another key counts from now on. An error is tried again.
	// Nil keeps nothing.
	OnHandover func(contracts.Handover) error
	// OnRefused is called for each order that does not count, and why: it is not signed
	// by the operator, or not for this device. Nil is for nobody.
	OnRefused func(name contracts.DeploymentName, reason error)
	Logger    *slog.Logger

	// pending is how many messages may wait; 0 is pendingMessages.
	pending int
}

// Mirror is what a device is told, on the device. It is right again after
// anything: a lost connection, lost messages, a server or a stream made anew.
type Mirror struct {
	nc      *nats.Conn
	device  contracts.DeviceID
	options MirrorOptions

	mu       sync.Mutex
	merge    *merge
	operator string
	// handedOver is the number of the last handover.
	handedOver int64

	// changed wakes the delivery, resync the snapshots.
	changed, resync chan struct{}
}

// NewMirror makes the Mirror of a device; Run brings it to life.
func NewMirror(nc *nats.Conn, device contracts.DeviceID, o MirrorOptions) *Mirror {
	return &Mirror{
		nc: nc, device: device, options: o, merge: newMerge(o.Known), operator: o.Operator, handedOver: o.HandedOver,
		changed: make(chan struct{}, 1), resync: make(chan struct{}, 1),
	}
}

// Resync takes a snapshot soon.
func (m *Mirror) Resync() { poke(m.resync) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run mirrors until the context ends.
func (m *Mirror) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Subscribed before the first snapshot: what is written while it is on its way
	// arrives here.
	sub, err := m.nc.Subscribe(contracts.DesiredStateSubject(m.device, "*"), m.receive)
	if err != nil {
		return fmt.Errorf("subscribe to what device %s is told: %w", m.device, err)
	}
	if err := sub.SetPendingLimits(cmp.Or(m.options.pending, pendingMessages), pendingBytes); err != nil {
		return fmt.Errorf("subscribe to what device %s is told: %w", m.device, err)
	}
	var snapshots sync.WaitGroup
	snapshots.Go(func() { m.keepTakingSnapshots(ctx, sub) })
	for {
		select {
		case <-ctx.Done():
			cancel()
			snapshots.Wait()
			if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) && !errors.Is(err, nats.ErrBadSubscription) {
				return fmt.Errorf("unsubscribe from what device %s is told: %w", m.device, err)
			}
			return nil
		case <-m.changed:
			m.mu.Lock()
			complete, view := m.merge.complete, m.merge.view()
			m.mu.Unlock()
			if complete {
				m.options.OnChange(view)
			}
		}
	}
}

// receive takes in one republished write.
func (m *Mirror) receive(msg *nats.Msg) {
	name, err := m.read(msg)
	changed := false
	if err == nil {
		changed, err = m.take(name, msg.Data)
	}
	if err != nil {
		m.refuse(name, err)
		m.Resync()
		return
	}
	if changed {
		poke(m.changed)
	}
}

func (m *Mirror) refuse(name contracts.DeploymentName, err error) {
	m.options.Logger.Warn("refused an order, going on with what the device was told before", "deployment", name, "error", err)
	if m.options.OnRefused != nil {
		m.options.OnRefused(name, err)
	}
}

// read checks that a message is a republished write to this device's key, before
// its signature is looked at: an acknowledgement goes to any subject that is asked
// for, and to tell one from an order should not cost more than it does.
func (m *Mirror) read(msg *nats.Msg) (contracts.DeploymentName, error) {
	bucket := contracts.BucketDesiredState
	name, err := contracts.ParseDeploymentName(msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:])
	if err != nil {
		return "", err
	}
	if got := msg.Header.Get(jetstream.StreamHeader); got != bucket.Stream() {
		return name, fmt.Errorf("it is not of stream %s but of %q", bucket.Stream(), got)
	}
	want := bucket.Subject(contracts.DesiredStateKey(m.device, name))
	if got := msg.Header.Get(jetstream.SubjectHeader); got != want {
		return name, fmt.Errorf("it was not written to %s but to %q", want, got)
	}
	return name, nil
}

// take takes in an order if the operator has signed it for this device, and reports
// whether that changes anything.
func (m *Mirror) take(name contracts.DeploymentName, data []byte) (changed bool, err error) {
	envelope, err := contracts.DecodeEnvelope(data)
	if err != nil {
		return false, err
	}
	m.mu.Lock()
	operator := m.operator
	m.mu.Unlock()
	if err := envelope.Verify(m.device, name, operator); err != nil {
		return false, err
	}
	order, err := envelope.Order(data, name)
	if err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.merge.take(order)
}

// follow trusts the key that the trusted one has handed over to.
func (m *Mirror) follow(handovers []contracts.Handover) {
	for _, h := range handovers {
		m.mu.Lock()
		operator, last := m.operator, m.handedOver
		m.mu.Unlock()
		if h.From != operator || h.Issued <= last {
			continue // it is for devices that trust another key
		}
		err := h.Verify(operator)
		if err == nil && m.options.OnHandover != nil {
			err = m.options.OnHandover(h)
		}
		if err != nil {
			m.options.Logger.Error("can't follow the operator to another key, going on with the one that is trusted", "to", h.To, "error", err)
			continue
		}
		m.options.Logger.Info("the operator has another key, which is trusted from now on", "from", h.From, "to", h.To)
		m.mu.Lock()
		m.operator, m.handedOver = h.To, h.Issued
		m.mu.Unlock()
	}
}

// keepTakingSnapshots takes one at once, after everything that may have lost a
// message, and now and then.
func (m *Mirror) keepTakingSnapshots(ctx context.Context, sub *nats.Subscription) {
	connected := m.nc.StatusChanged(nats.CONNECTED)
	defer m.nc.RemoveStatusListener(connected)
	slow := sub.StatusChanged(nats.SubscriptionSlowConsumer)
	timer := time.NewTimer(0)
	defer timer.Stop()
	attempt := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.resync:
		case <-connected:
			attempt = 0
		case _, open := <-slow:
			if !open {
				slow = nil
				continue
			}
			m.options.Logger.Warn("messages of desired state were lost, taking a snapshot")
		case <-timer.C:
		}
		err := m.snapshot(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			wait := Backoff(attempt, firstDelay, retryLimit)
			if attempt == 3 {
				m.options.Logger.Warn("no snapshot of desired state, going on with what is known", "error", err)
			}
			attempt++
			timer.Reset(wait)
		default:
			attempt = 0
			timer.Reset(resyncInterval*3/4 + rand.N(resyncInterval/2))
		}
	}
}

// snapshot asks for every page and merges it.
func (m *Mirror) snapshot(ctx context.Context) error {
	if err := m.flush(ctx); err != nil {
		return err
	}
	var after contracts.DeploymentName
	for {
		s, err := m.ask(ctx, after)
		if err != nil {
			return err
		}
		m.follow(s.Handovers)
		names := make([]contracts.DeploymentName, 0, len(s.Entries))
		changed := false
		for _, e := range s.Entries {
			names = append(names, e.Deployment)
			news, err := m.take(e.Deployment, e.Value)
			if err != nil {
				m.refuse(e.Deployment, err)
			}
			changed = changed || news
		}
		m.mu.Lock()
		complete, err := m.merge.page(after, names, s.More)
		m.mu.Unlock()
		if changed || complete {
			poke(m.changed)
		}
		if err != nil {
			return fmt.Errorf("snapshot of device %s: %w", m.device, err)
		}
		if !s.More {
			return nil
		}
		after = names[len(names)-1]
	}
}

// flush makes sure that the server knows the subscription.
func (m *Mirror) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	if err := m.nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("reach the NATS server: %w", err)
	}
	return nil
}

func (m *Mirror) ask(ctx context.Context, after contracts.DeploymentName) (contracts.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	request, err := contracts.Encode(contracts.SnapshotRequest{After: after})
	if err != nil {
		return contracts.Snapshot{}, err
	}
	reply, err := m.nc.RequestWithContext(ctx, contracts.SnapshotSubject(m.device), request)
	if err != nil {
		return contracts.Snapshot{}, fmt.Errorf("ask an operator for the snapshot of device %s: %w", m.device, err)
	}
	return contracts.DecodeSnapshot(reply.Data)
}
