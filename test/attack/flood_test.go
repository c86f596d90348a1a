package attack

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/simulated"
)

// byFlood sends as much as it can of what it may, while others want something.
func (w *world) byFlood() {
	d := contracts.DeviceID(w.attacker.ID)
	stranger, public := newKey(w.T)
	for _, flood := range []struct {
		name    string
		joining bool
		message func(n int) *nats.Msg
	}{
		{"asks for snapshots", false, func(int) *nats.Msg {
			return &nats.Msg{Subject: contracts.SnapshotSubject(d), Reply: "_INBOX_" + w.attacker.ID + ".x", Data: encode(contracts.SnapshotRequest{})}
		}},
		{"reports", false, func(n int) *nats.Msg {
			state := contracts.DeploymentState{Deployment: own, Revision: "own-1", Digest: "0123456789abcdef", Phase: contracts.PhaseRunning, Message: fmt.Sprint(n), Log: string(make([]byte, 1000))}
			return &nats.Msg{Subject: keyOf(contracts.BucketDeviceState, w.attacker.ID, own), Data: encode(state)}
		}},
		{"sends heartbeats", false, func(n int) *nats.Msg {
			return &nats.Msg{Subject: keyOf(contracts.BucketDeviceHeartbeat, w.attacker.ID, ""), Data: encode(contracts.HeartbeatPayload{Seq: uint64(n), Interval: 1})}
		}},
		{"asks to join, as a stranger", true, func(int) *nats.Msg {
			return &nats.Msg{Subject: contracts.JoinSubject(public), Reply: "_INBOX_" + public + ".x", Data: encode(contracts.JoinRequest{Device: "flood", Nonce: "0123456789abcdef"})}
		}},
	} {
		w.Run(flood.name, func(t *testing.T) {
			w := w.at(t)
			h := w.connect(w.attacker.ID, w.key(w.attacker), false)
			if flood.joining {
				h = w.connect("flood", stranger, true)
			}
			bystander := w.connect(w.bystander.ID, w.key(w.bystander), false)
			newcomer, newcomerPublic := newKey(t)
			joiner := w.connect("newcomer", newcomer, true)
			ctx, stop := context.WithCancel(t.Context())
			var sent atomic.Int64
			var flooding sync.WaitGroup
			defer flooding.Wait()
			defer stop()
			flooding.Go(func() {
				for n := 1; ctx.Err() == nil; n++ {
					// What the connection has no room for is not sent.
					if h.PublishMsg(flood.message(n)) == nil {
						sent.Add(1)
					}
					if n%1000 == 0 {
						_ = h.FlushWithContext(ctx)
					}
				}
			})
			w.until("the flood is on", func(context.Context) error {
				if sent.Load() < 5000 {
					return errors.New("not yet")
				}
				return nil
			})
			if limit := h.MaxPayload(); limit > 128<<10 {
				t.Errorf("the server takes messages of %d bytes from it", limit)
			}
			start := time.Now()
			took := func(what string, do func()) {
				begin := time.Now()
				do()
				took := time.Since(begin)
				t.Logf("%s: %s", what, took.Round(time.Millisecond))
				if took > limit/2 {
					t.Errorf("%s took %s", what, took)
				}
			}
			took("a device's report is seen", func() {
				told, mark := w.victim.Told(app), "under "+flood.name
				must(t, w.victim.Report(t.Context(), contracts.DeploymentState{Deployment: app, Revision: told.Revision, Digest: told.Digest, Issued: told.Issued, Phase: contracts.PhaseRunning, Message: mark}))
				w.until("it is seen", func(ctx context.Context) error {
					for _, p := range w.placements(ctx) {
						if p.Spec.Device == w.victim.ID && p.Status.Message == mark {
							return nil
						}
					}
					return errors.New("not yet")
				})
			})
			took("a device is told another revision", func() {
				before := w.victim.Told(app).Revision
				w.roll("registry.example.com/" + fmt.Sprint(time.Now().UnixNano()) + ":1")
				w.until("the victim is told", func(context.Context) error {
					if w.victim.Told(app).Revision == before {
						return errors.New("not yet")
					}
					return nil
				})
			})
			asks := func(c *hostile, subject string, data []byte) func() {
				return func() {
					attempts := 0
					w.until("it is answered", func(ctx context.Context) error {
						attempts++
						ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
						defer cancel()
						_, err := c.RequestWithContext(ctx, subject, data)
						return err
					})
					if attempts > 1 {
						t.Logf("it took %d attempts", attempts)
					}
				}
			}
			took("a device's snapshot is taken", asks(bystander, contracts.SnapshotSubject(contracts.DeviceID(w.bystander.ID)), encode(contracts.SnapshotRequest{})))
			took("somebody else asks to join", asks(joiner, contracts.JoinSubject(newcomerPublic), encode(contracts.JoinRequest{Device: "newcomer", Nonce: "0123456789abcdef"})))
			took("a device connects", func() {
				must(t, w.dial(nats.Token("device."+w.victim.ID), nats.Nkey(w.victim.PublicKey, w.key(w.victim).Sign)))
			})
			t.Logf("the flood was of %.0f messages a second", float64(sent.Load())/time.Since(start).Seconds())
			stop()
			flooding.Wait()
			h.Close()
			w.attacker.AnswerAgain(simulated.Running)
			w.settled()
		})
	}
}
