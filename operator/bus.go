package operator

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/operator/gate"
)

// follower feeds the fleet view from the bus and answers the devices' requests for
// snapshots. Every replica does.
type follower struct {
	js      jetstream.JetStream
	view    *fleetview.View
	gate    *gate.Gate
	streams bus.StreamOptions
	// handovers lead devices to the operator's key.
	handovers func() []contracts.Handover
	log       *slog.Logger
}

// NeedLeaderElection says that every replica follows.
func (f *follower) NeedLeaderElection() bool { return false }

// Start follows until the context ends or a stream is lost; then the operator has
// to begin anew, with nothing remembered.
func (f *follower) Start(ctx context.Context) error {
	if err := f.ensureStreams(ctx); err != nil {
		return nil // the context has ended
	}
	group, ctx := errgroup.WithContext(ctx)
	var watchers []*bus.Watcher
	for _, bucket := range []contracts.Bucket{
		contracts.BucketDesiredState, contracts.BucketDeviceState, contracts.BucketDeviceInfo, contracts.BucketDeviceHeartbeat,
	} {
		w := bus.Watch(ctx, f.js, bucket, f.log, f.view.Fold)
		watchers = append(watchers, w)
		group.Go(func() error {
			<-w.Done()
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("follow bucket %s: %w", bucket, w.Err())
		})
	}
	group.Go(func() error {
		return bus.ServeSnapshots(ctx, f.js, bus.SnapshotOptions{Handovers: f.handovers, Logger: f.log})
	})
	group.Go(func() error { return f.view.Run(ctx) })
	group.Go(func() error { f.minds(ctx); return nil })
	group.Go(func() error {
		for _, w := range watchers {
			select {
			case <-w.Ready():
			case <-ctx.Done():
				return nil
			}
		}
		t := f.view.Totals()
		f.log.Info("the fleet is in view", "devices", t.Devices, "online", t.Online, "told", t.Told, "entries", t.Folded)
		f.gate.Open()
		return nil
	})
	return group.Wait()
}

// ensureStreams tries until it has worked.
func (f *follower) ensureStreams(ctx context.Context) error {
	last := ""
	for attempt := 0; ; attempt++ {
		err := bus.EnsureStreams(ctx, f.js, f.streams)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err.Error() != last {
			last = err.Error()
			f.log.Warn("streams are not set up, trying again", "error", err)
		}
		timer := time.NewTimer(bus.Backoff(attempt, 100*time.Millisecond, 2*time.Second))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// minds keeps the silence of an unreachable bus from being taken for the silence
// of the devices.
func (f *follower) minds(ctx context.Context) {
	changed := f.js.Conn().StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.DISCONNECTED)
	defer f.js.Conn().RemoveStatusListener(changed)
	for {
		if f.js.Conn().IsConnected() {
			f.view.Resume()
		} else {
			f.view.Suspend()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
