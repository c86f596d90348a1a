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

// timeout bounds one batch. Each request in it has its own limit besides, bus.Timeout: one
// that is made while a stream has no leader is never answered, also when there is one again.
const timeout = 30 * time.Second

// Store is the buckets as the leader writes them.
type Store struct {
	JetStream jetstream.JetStream
	View      *fleetview.View
	Clock     clock.PassiveClock
	// Signer signs what devices are told, Previous are those that did so before.
	Signer   *contracts.Signer
	Previous []*contracts.Signer

	puts, deletes, renewals atomic.Uint64
}

// Telling is what one device is to do. Value is State as it is written; devices that
// are told the same share both.
type Telling struct {
	Device contracts.DeviceID
	State  *contracts.DesiredState
	Value  []byte
	// Seal makes State and Value for this device alone, where there are secrets among
	// them; nil where there are none.
	Seal func() (*contracts.DesiredState, []byte, error)
}

// Tell signs and writes what devices are to do, together.
func (s *Store) Tell(ctx context.Context, tellings []Telling) error {
	return s.write(ctx, len(tellings), func(i int) (order, error) {
		t := tellings[i]
		if t.Seal != nil {
			var err error
			if t.State, t.Value, err = t.Seal(); err != nil {
				return order{}, fmt.Errorf("tell device %s of deployment %s: %w", t.Device, tellings[i].State.Deployment, err)
			}
		}
		envelope, err := s.Signer.Tell(t.Device, t.State.Deployment, t.Value)
		if err != nil {
			return order{}, fmt.Errorf("tell device %s of deployment %s: %w", t.Device, t.State.Deployment, err)
		}
		return order{envelope, fleetview.Write{Device: t.Device, Deployment: t.State.Deployment, Order: fleetview.OrderOf(t.State), Sum: fleetview.Sum(envelope)}}, nil
	})
}

// Withdraw takes back what devices were told, together.
func (s *Store) Withdraw(ctx context.Context, keys []fleetview.Key) error {
	issued := s.View.NextIssued()
	return s.write(ctx, len(keys), func(i int) (order, error) {
		k := keys[i]
		value, err := contracts.Encode(contracts.Withdrawal{Deployment: k.Deployment, Issued: issued})
		if err != nil {
			return order{}, fmt.Errorf("withdraw deployment %s from device %s: %w", k.Deployment, k.Device, err)
		}
		envelope, err := s.Signer.Withdraw(k.Device, k.Deployment, value)
		if err != nil {
			return order{}, fmt.Errorf("withdraw deployment %s from device %s: %w", k.Deployment, k.Device, err)
		}
		return order{envelope, fleetview.Write{Device: k.Device, Deployment: k.Deployment, Order: fleetview.Withdrawn(issued), Sum: fleetview.Sum(envelope)}}, nil
	})
}

// order is one to write, signed.
type order struct {
	envelope []byte
	write    fleetview.Write
}

// write writes n orders and waits until they are stored, and then lets the view know.
// After an error the view is as before and catches up with what was stored by itself.
func (s *Store) write(ctx context.Context, n int, sign func(i int) (order, error)) error {
	if n == 0 {
		return nil
	}
	// Nothing that the stream has at this moment may overwrite, in the view, what is
	// written here.
	floor, err := s.last(ctx)
	if err != nil {
		return err
	}
	writer := bus.NewWriter(s.JetStream)
	written := make([]fleetview.Write, 0, n)
	err = signAhead(n, sign, func(o order) error {
		put := writer.Delete
		if o.write.Order.Told {
			put = writer.Put
		}
		if err := put(ctx, o.write.Device, o.write.Deployment, o.envelope); err != nil {
			return err
		}
		written = append(written, o.write)
		return nil
	})
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := errors.Join(err, writer.Flush(ctx)); err != nil {
		return fmt.Errorf("write desired state: %w", err)
	}
	for _, w := range written {
		if w.Order.Told {
			s.puts.Add(1)
		} else {
			s.deletes.Add(1)
		}
	}
	s.View.Wrote(written, floor+1, s.Clock.Now())
	return nil
}

// last is the sequence of the last message that the stream has.
func (s *Store) last(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, bus.Timeout)
	defer cancel()
	stream, err := s.JetStream.Stream(ctx, contracts.BucketDesiredState.Stream())
	if err != nil {
		return 0, fmt.Errorf("look at bucket %s: %w", contracts.BucketDesiredState, err)
	}
	return stream.CachedInfo().State.LastSeq, nil
}

// Writes returns how many keys were written and deleted since the start.
func (s *Store) Writes() (puts, deletes uint64) { return s.puts.Load(), s.deletes.Load() }

// Renewals returns how many orders were given again since the start, see Renewer.
func (s *Store) Renewals() uint64 { return s.renewals.Load() }

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
			asking, stop := context.WithTimeout(ctx, bus.Timeout)
			ack, err := s.JetStream.PublishMsg(asking, m)
			stop()
			if err != nil {
				errs = append(errs, fmt.Errorf("forget key %s of bucket %s: %w", key, bucket, err))
				continue
			}
			s.View.Fold(bus.Entry{Bucket: bucket, Key: key, Deleted: true, Sequence: ack.Sequence, Time: s.Clock.Now()})
		}
	}
	return errors.Join(errs...)
}
