package desired

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/operator/gate"
)

// renewRetry is how soon what the bus did not take is tried again.
const renewRetry = time.Second

// Renewer gives orders again that are right and don't count any longer: after the
// operator's key has changed, and after the bus has lost what it held. Nothing in them
// changes, so no device does anything for it. It does one after the other, which leaves
// the bus to those who have something to say.
type Renewer struct {
	Store  *Store
	Gate   *gate.Gate
	Logger *slog.Logger
}

// NeedLeaderElection says that the leader alone writes.
func (r *Renewer) NeedLeaderElection() bool { return true }

// Start renews until the context ends.
func (r *Renewer) Start(ctx context.Context) error {
	if r.Gate.Wait(ctx) != nil {
		return nil
	}
	outdated := r.Store.View.Outdated()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-outdated.Ready():
		case <-timer.C:
		}
		keys, renewed := outdated.Take(), 0
		for i, k := range keys {
			again, err := r.Store.Renew(ctx, k)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				r.Logger.Error("orders are not renewed, trying again", "left", len(keys)-i, "error", err)
				outdated.Add(keys[i:]...)
				// What Add has signalled is taken back: at once would be too soon.
				<-outdated.Ready()
				timer.Reset(renewRetry)
				break
			}
			if again {
				renewed++
			}
		}
		if renewed > 0 {
			r.Logger.Info("orders were given again", "orders", renewed)
		}
	}
}

// Renew gives the order that the bus has for a key again, if it is one of the operator's
// and has to be: signed with the operator's key, and with a new number where the device
// was given the same with a newer one. It reports whether it did.
func (s *Store) Renew(ctx context.Context, k fleetview.Key) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, bus.Timeout)
	defer cancel()
	fail := func(err error) (bool, error) {
		return false, fmt.Errorf("renew the order to device %s for deployment %s: %w", k.Device, k.Deployment, err)
	}
	stream, err := s.JetStream.Stream(ctx, contracts.BucketDesiredState.Stream())
	if err != nil {
		return fail(err)
	}
	stored, err := stream.GetLastMsgForSubject(ctx, contracts.BucketDesiredState.Subject(contracts.DesiredStateKey(k.Device, k.Deployment)))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	if err != nil {
		return fail(err)
	}
	envelope, err := contracts.DecodeEnvelope(stored.Data)
	if err != nil {
		return false, nil // the view has told of it
	}
	// What is signed here, devices obey: it must be what the operator itself has said.
	if !s.mine(k, &envelope) {
		return false, nil
	}
	order, err := envelope.Order(stored.Data, k.Deployment)
	if err != nil {
		return false, nil
	}
	stale, same := s.View.Stale(k, order)
	// Old orders are no secret: whoever has the bus may put one there, and a new number
	// would make the device go back to it. What it is to do is decided anew.
	if stale && !same || !stale && envelope.Key == s.Signer.Public() {
		return false, nil
	}
	if stale {
		order.Issued = s.View.NextIssued()
		if err := renumber(&envelope, &order); err != nil {
			return fail(err)
		}
	}
	signed, err := s.Signer.Again(k.Device, k.Deployment, envelope)
	if err != nil {
		return fail(err)
	}
	sequence, err := bus.Replace(ctx, s.JetStream, k.Device, k.Deployment, signed, order.Desired == nil, stored.Sequence)
	if bus.IsReplaced(err) {
		return false, nil // something newer was said meanwhile
	}
	if err != nil {
		return fail(err)
	}
	s.renewals.Add(1)
	s.View.Fold(bus.Entry{
		Bucket: contracts.BucketDesiredState, Key: contracts.DesiredStateKey(k.Device, k.Deployment), Value: signed,
		Deleted: order.Desired == nil, Sequence: sequence, Time: stored.Time,
	})
	return true, nil
}

// mine reports whether the operator has signed an envelope, now or with an earlier key.
func (s *Store) mine(k fleetview.Key, e *contracts.Envelope) bool {
	if e.Verify(k.Device, k.Deployment, s.Signer.Public()) == nil {
		return true
	}
	for _, p := range s.Previous {
		if e.Verify(k.Device, k.Deployment, p.Public()) == nil {
			return true
		}
	}
	return false
}

// renumber puts the order's number into the envelope.
func renumber(e *contracts.Envelope, o *contracts.Order) (err error) {
	if o.Desired == nil {
		e.Withdrawal, err = contracts.Encode(contracts.Withdrawal{Deployment: o.Deployment, Issued: o.Issued})
		return err
	}
	o.Desired.Issued = o.Issued
	e.Value, err = contracts.Encode(*o.Desired)
	return err
}
