// Package desired writes what the devices are told, and lets the fleet view know
// it before the bus plays it back: a reconciler that looked again too early would
// tell everybody a second time.
package desired

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/utils/clock"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/fleetview"
)

// timeout bounds one batch: the API of JetStream hangs while it has no leader.
const timeout = 30 * time.Second

// Store is the buckets as the leader writes them.
type Store struct {
	JetStream jetstream.JetStream
	View      *fleetview.View
	Clock     clock.PassiveClock

	puts, deletes atomic.Uint64
}

// Batch is a number of writes that are flushed together. It is for one goroutine.
type Batch struct {
	store   *Store
	writer  *bus.Writer
	floor   uint64
	pending []fleetview.Write
}

// Begin starts a batch. Nothing that the stream has at this moment may overwrite,
// in the view, what the batch writes.
func (s *Store) Begin(ctx context.Context) (*Batch, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	stream, err := s.JetStream.Stream(ctx, contracts.BucketDesiredState.Stream())
	if err != nil {
		return nil, fmt.Errorf("look at bucket %s: %w", contracts.BucketDesiredState, err)
	}
	return &Batch{
		store: s, writer: bus.NewWriter(s.JetStream),
		floor: stream.CachedInfo().State.LastSeq,
	}, nil
}

// Tell writes what a device is to do; value is d as it is written.
func (b *Batch) Tell(ctx context.Context, device contracts.DeviceID, d *contracts.DesiredState, value []byte) error {
	if err := b.writer.Put(ctx, device, d.Deployment, value); err != nil {
		return fmt.Errorf("tell device %s of deployment %s: %w", device, d.Deployment, err)
	}
	b.pending = append(b.pending, fleetview.Write{
		Device: device, Deployment: d.Deployment, Namespace: d.Namespace, Revision: d.Revision, Digest: d.Digest,
		Wave: d.Wave, FailedBefore: d.FailedBefore, Number: d.Number,
	})
	return nil
}

// Withdraw deletes what a device was told for a Deployment of the namespace.
func (b *Batch) Withdraw(ctx context.Context, device contracts.DeviceID, name contracts.DeploymentName) error {
	if err := b.writer.Delete(ctx, device, name); err != nil {
		return fmt.Errorf("withdraw deployment %s from device %s: %w", name, device, err)
	}
	b.pending = append(b.pending, fleetview.Write{Device: device, Deployment: name, Deleted: true})
	return nil
}

// Key is what one device is told for one Deployment.
type Key struct {
	Device     contracts.DeviceID
	Deployment contracts.DeploymentName
}

// Withdraw deletes what devices were told, together.
func (s *Store) Withdraw(ctx context.Context, keys []Key) error {
	if len(keys) == 0 {
		return nil
	}
	batch, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := batch.Withdraw(ctx, k.Device, k.Deployment); err != nil {
			return errors.Join(err, batch.Commit(ctx))
		}
	}
	return batch.Commit(ctx)
}

// Commit waits until everything is stored, and then lets the view know. After an
// error the view is as before and catches up with what was stored by itself.
func (b *Batch) Commit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := b.writer.Flush(ctx); err != nil {
		return fmt.Errorf("write desired state: %w", err)
	}
	for _, w := range b.pending {
		if w.Deleted {
			b.store.deletes.Add(1)
		} else {
			b.store.puts.Add(1)
		}
	}
	b.store.View.Wrote(b.pending, b.floor+1, b.store.Clock.Now())
	return nil
}

// Writes returns how many keys were written and deleted since the start.
func (s *Store) Writes() (puts, deletes uint64) { return s.puts.Load(), s.deletes.Load() }

// Forget marks what a device has written as deleted. The streams of the devices
// deny deleting messages, so that no device deletes another's; a marker is an
// ordinary message. The next thing that the device sends counts again.
//
// What a device is, and its sign of life, stay while its heartbeats arrive: an agent
// that is connected says what it is every few minutes only, and for so long a Device
// made anew would be one that nobody has seen. With all, they go too.
func (s *Store) Forget(ctx context.Context, device contracts.DeviceID, all bool) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	keys := map[contracts.Bucket][]string{}
	if all || !s.View.Device(device).Online {
		keys[contracts.BucketDeviceInfo] = []string{contracts.DeviceInfoKey(device)}
		keys[contracts.BucketDeviceHeartbeat] = []string{contracts.HeartbeatKey(device)}
	}
	for _, name := range s.View.ReportedBy(device) {
		keys[contracts.BucketDeviceState] = append(keys[contracts.BucketDeviceState], contracts.DeviceStateKey(device, name))
	}
	var errs []error
	for bucket, list := range keys {
		for _, key := range list {
			// https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-8.md
			m := &nats.Msg{Subject: bucket.Subject(key), Header: nats.Header{"KV-Operation": []string{"DEL"}}}
			ack, err := s.JetStream.PublishMsg(ctx, m)
			if err != nil {
				errs = append(errs, fmt.Errorf("forget key %s of bucket %s: %w", key, bucket, err))
				continue
			}
			s.View.Fold(bus.Entry{Bucket: bucket, Key: key, Deleted: true, Sequence: ack.Sequence, Time: s.Clock.Now()})
		}
	}
	return errors.Join(errs...)
}
