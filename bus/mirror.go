package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
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
	// OnChange is called, one call after the other, with all that the device is
	// told, whenever that has changed; for the first time when it is complete.
	OnChange func(map[contracts.DeploymentName]Desired)
	// Known is what the device was told before, as it has it on disk.
	Known map[contracts.DeploymentName]contracts.DesiredState
	// Verify refuses a value that the operator has not made; nil accepts all.
	Verify func(contracts.DesiredState, []byte) error
	Logger *slog.Logger
}

// Mirror is what a device is told, on the device. It is right again after
// anything: a lost connection, lost messages, a server or a stream made anew.
type Mirror struct {
	nc      *nats.Conn
	device  contracts.DeviceID
	options MirrorOptions

	mu    sync.Mutex
	merge *merge

	// changed wakes the delivery, resync the snapshots.
	changed, resync chan struct{}
}

// NewMirror makes the Mirror of a device; Run brings it to life.
func NewMirror(nc *nats.Conn, device contracts.DeviceID, o MirrorOptions) *Mirror {
	return &Mirror{
		nc: nc, device: device, options: o, merge: newMerge(o.Known),
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
	if err := sub.SetPendingLimits(pendingMessages, pendingBytes); err != nil {
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
	name, sequence, desired, err := m.read(msg)
	if err != nil {
		m.options.Logger.Warn("refused a message of desired state, taking a snapshot", "subject", msg.Subject, "error", err)
		m.Resync()
		return
	}
	m.mu.Lock()
	changed, doubtful := m.merge.live(name, sequence, desired)
	m.mu.Unlock()
	if doubtful {
		m.Resync()
	}
	if changed {
		poke(m.changed)
	}
}

// read checks that a message is a republished write of the operator's. Anybody
// who can have the server send something to this subject could otherwise pass for
// the operator: an acknowledgement goes to any subject that is asked for.
func (m *Mirror) read(msg *nats.Msg) (contracts.DeploymentName, uint64, *contracts.DesiredState, error) {
	bucket := contracts.BucketDesiredState
	name, err := contracts.ParseDeploymentName(msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:])
	if err != nil {
		return "", 0, nil, err
	}
	if got := msg.Header.Get(jetstream.StreamHeader); got != bucket.Stream() {
		return "", 0, nil, fmt.Errorf("it is not of stream %s but of %q", bucket.Stream(), got)
	}
	want := bucket.Subject(contracts.DesiredStateKey(m.device, name))
	if got := msg.Header.Get(jetstream.SubjectHeader); got != want {
		return "", 0, nil, fmt.Errorf("it was not written to %s but to %q", want, got)
	}
	sequence, err := strconv.ParseUint(msg.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return "", 0, nil, fmt.Errorf("its sequence: %w", err)
	}
	if msg.Header.Get(headerOperation) != "" {
		return name, sequence, nil, nil
	}
	desired, err := m.decode(name, msg.Data)
	return name, sequence, desired, err
}

func (m *Mirror) decode(name contracts.DeploymentName, data []byte) (*contracts.DesiredState, error) {
	desired, err := contracts.DecodeDesiredState(data)
	if err != nil {
		return nil, err
	}
	if desired.Deployment != name {
		return nil, fmt.Errorf("the value of deployment %s is of deployment %s", name, desired.Deployment)
	}
	if m.options.Verify != nil {
		if err := m.options.Verify(desired, data); err != nil {
			return nil, err
		}
	}
	return &desired, nil
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
		again, err := m.snapshot(ctx)
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
		case again:
			timer.Reset(0)
		default:
			attempt = 0
			timer.Reset(resyncInterval*3/4 + rand.N(resyncInterval/2))
		}
	}
}

// snapshot asks for every page and merges it.
func (m *Mirror) snapshot(ctx context.Context) (again bool, err error) {
	if err := m.flush(ctx); err != nil {
		return false, err
	}
	m.mu.Lock()
	asked := m.merge.highest
	m.mu.Unlock()
	var after contracts.DeploymentName
	for {
		s, err := m.ask(ctx, after)
		if err != nil {
			return false, err
		}
		entries := make([]entry, 0, len(s.Entries))
		for _, e := range s.Entries {
			out := entry{name: e.Deployment, sequence: e.Sequence, deleted: e.Deleted}
			if !e.Deleted {
				if out.desired, err = m.decode(e.Deployment, e.Value); err != nil {
					m.options.Logger.Error("can't read what this device is told, keeping what it was told before", "deployment", e.Deployment, "error", err)
				}
			}
			entries = append(entries, out)
		}
		m.mu.Lock()
		changed, anew, err := m.merge.page(after, asked, s.Sequence, entries, s.More)
		m.mu.Unlock()
		if err != nil {
			return false, fmt.Errorf("snapshot of device %s: %w", m.device, err)
		}
		if again = again || anew; anew {
			asked = 0
		}
		if changed {
			poke(m.changed)
		}
		if !s.More {
			return again, nil
		}
		after = entries[len(entries)-1].name
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
