package main

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/simulated"
)

// turns are taken by the devices of a fleet that this process has no room for: they are
// divided into lots, of which one is connected at a time. For those that are away a stand-in
// sends heartbeats, so that the operator has all of them; what they are told waits for their
// turn, as it does for a device without a connection. Where there is room for all there is
// one lot.
type turns struct {
	lots [][]*simulated.Agent
	// taken is how many turns there were, the present one included.
	taken atomic.Int64
}

// lotSize is how many devices are in a lot, of which there are as few as possible and none is
// much smaller than another.
func lotSize(devices, connected int) int {
	lots := (devices + connected - 1) / connected
	return (devices + lots - 1) / lots
}

// there are the devices whose turn it is.
func (t *turns) there() []*simulated.Agent {
	taken := int(t.taken.Load())
	if taken == 0 {
		return nil
	}
	return t.lots[(taken-1)%len(t.lots)]
}

// away reports whether the devices of a lot have had a turn and have none now.
func (t *turns) away(lot int) bool {
	taken := int(t.taken.Load())
	return lot < taken && lot != (taken-1)%len(t.lots)
}

// atOnce is how many devices connect before they are awaited. They come at the pace at which
// they are let in, their Devices get Ready and they do what they are told: the API server takes
// as much of the processors for that as all else together. What happens when all come at once
// is a storm, see natsRestarts.
const atOnce = 1000

// everybody has each lot take a turn, and awaits something of each part of it that has
// connected; it is told how many devices have had their turn by then. Those that are there
// already are the first, and the last stay.
func (l *load) everybody(ctx context.Context, await func(ctx context.Context, had int) error) error {
	had := 0
	for range l.turns.lots {
		if there := l.turns.there(); had == 0 && there != nil {
			had = len(there)
			if err := await(ctx, had); err != nil {
				return err
			}
			continue
		}
		stopAll(l.turns.there())
		l.turns.taken.Add(1)
		for part := range slices.Chunk(l.turns.there(), atOnce) {
			if err := l.each(ctx, len(part), "", func(ctx context.Context, n int) error {
				if err := part[n].Start(l.agents); err != nil {
					return err
				}
				return part[n].Connected(ctx)
			}); err != nil {
				return err
			}
			had += len(part)
			if err := await(ctx, had); err != nil {
				return err
			}
		}
	}
	return nil
}

func stopAll(devs []*simulated.Agent) {
	var group errgroup.Group
	group.SetLimit(256)
	for _, d := range devs {
		group.Go(func() error { d.Stop(); return nil })
	}
	_ = group.Wait() // stopping has no error
}

// standIn sends the heartbeats of devices that are away, each at a time of its own.
func (l *load) standIn(ctx context.Context) error {
	publishers := make([]*bus.Publisher, len(l.devs))
	for n, d := range l.devs {
		var err error
		if publishers[n], err = bus.NewPublisher(l.conn, d.ID); err != nil {
			return err
		}
	}
	l.standingIn.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		begun, lot := time.Now(), len(l.turns.lots[0])
		for sent := 0; ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			now := time.Now()
			for due := int(now.Sub(begun) * time.Duration(len(l.devs)) / l.heartbeat); sent < due; sent++ {
				n, round := sent%len(l.devs), sent/len(l.devs)
				if !l.turns.away(n / lot) {
					continue
				}
				if err := publishers[n].Heartbeat(contracts.HeartbeatPayload{
					Seq: uint64(round) + 1, Time: now.UnixMilli(), Interval: max(1, int(l.heartbeat/time.Second)), Uptime: int64(now.Sub(begun) / time.Second),
				}); err != nil {
					l.progress.Say("  %v", err)
				}
			}
		}
	})
	return nil
}
