package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nationtech/fleet/contracts"
)

// responders is the queue group of the operators that answer for snapshots.
const responders = "fleet-operator"

// concurrent bounds how many snapshots are made at once, and queued how many wait.
// A device that gets no answer asks again later.
const (
	concurrent = 32
	queued     = 4096
)

// SnapshotOptions are what goes along with snapshots.
type SnapshotOptions struct {
	// Handovers returns those that lead to the operator's key; nil is for none.
	Handovers func() []contracts.Handover
	Logger    *slog.Logger
}

// ServeSnapshots answers the devices' requests for snapshots until the context
// ends. Any number of operators may, each request is answered by one.
func ServeSnapshots(ctx context.Context, js jetstream.JetStream, o SnapshotOptions) error {
	r := responder{handovers: o.Handovers}
	err := serveInTurn(ctx, js.Conn(), contracts.SnapshotPrefix+".*", responders, concurrent, snapshotTimeout, func(ctx context.Context, m *nats.Msg) {
		if err := r.answer(ctx, js, m); err != nil {
			o.Logger.Warn("snapshot not answered, the device will ask again", "subject", m.Subject, "error", err)
		}
	})
	if err != nil {
		return fmt.Errorf("serve snapshots: %w", err)
	}
	return nil
}

// responder makes snapshots.
type responder struct {
	// stream of desired state, once it was found.
	stream    atomic.Pointer[jetstream.Stream]
	handovers func() []contracts.Handover
}

// answer makes one page. While the stream has no leader it comes to an end with the
// context only.
func (r *responder) answer(ctx context.Context, js jetstream.JetStream, m *nats.Msg) error {
	device, err := contracts.ParseDeviceID(strings.TrimPrefix(m.Subject, contracts.SnapshotPrefix+"."))
	if err != nil {
		return err
	}
	request, err := contracts.DecodeSnapshotRequest(m.Data)
	if err != nil {
		return err
	}
	stream := r.stream.Load()
	if stream == nil {
		found, err := js.Stream(ctx, contracts.BucketDesiredState.Stream())
		if err != nil {
			return fmt.Errorf("look at bucket %s: %w", contracts.BucketDesiredState, err)
		}
		stream = &found
		r.stream.Store(stream)
	}
	snapshot, err := takeSnapshot(ctx, *stream, device, request.After)
	if err != nil {
		return err
	}
	if request.After == "" && r.handovers != nil {
		snapshot.Handovers = r.handovers()
	}
	data, err := contracts.Encode(snapshot)
	if err != nil {
		return err
	}
	if err := m.Respond(data); err != nil {
		return fmt.Errorf("answer device %s: %w", device, err)
	}
	return nil
}

// takeSnapshot reads one page of what a device is told from the stream's leader. A
// key that is written meanwhile may be in it as it was or as it is; its own
// number tells.
func takeSnapshot(ctx context.Context, stream jetstream.Stream, device contracts.DeviceID, after contracts.DeploymentName) (contracts.Snapshot, error) {
	bucket := contracts.BucketDesiredState
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(bucket.Subject(contracts.DesiredStateKey(device, "*"))))
	if err != nil {
		return contracts.Snapshot{}, fmt.Errorf("list what device %s is told: %w", device, err)
	}
	var names []contracts.DeploymentName
	for subject := range info.State.Subjects {
		key, _ := bucket.KeyOf(subject)
		if _, name, err := contracts.ParseDesiredStateKey(key); err == nil && name > after {
			names = append(names, name)
		}
	}
	slices.Sort(names)

	snapshot := contracts.Snapshot{Entries: []contracts.SnapshotEntry{}}
	size := 0
	for _, name := range names {
		m, err := stream.GetLastMsgForSubject(ctx, bucket.Subject(contracts.DesiredStateKey(device, name)))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return contracts.Snapshot{}, fmt.Errorf("read what device %s is told of deployment %s: %w", device, name, err)
		}
		e := contracts.SnapshotEntry{Deployment: name, Value: value(m.Data)}
		if len(snapshot.Entries) > 0 && size+len(m.Data) > contracts.MaxDesiredStateSize {
			snapshot.More = true
			break
		}
		size += len(m.Data) + 128
		snapshot.Entries = append(snapshot.Entries, e)
	}
	return snapshot, nil
}

// value is a stored value as the snapshot carries it. One that is not JSON would
// make the whole snapshot unreadable; it becomes one that the device refuses alone.
func value(data []byte) json.RawMessage {
	if !json.Valid(data) {
		return json.RawMessage(`null`)
	}
	return data
}
