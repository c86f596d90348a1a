package attack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleet/contracts"
)

// byBroker has the operator's account on the broker and so every bucket, and not the key
// that the operator signs with.
func (w *world) byBroker() {
	w.Run("looks for secrets", func(t *testing.T) { w.at(t).looksForSecrets() })
	w.Run("tells the victim what the operator has not", func(t *testing.T) { w.at(t).tells() })
}

func (w *world) looksForSecrets() {
	read := 0
	for _, bucket := range []contracts.Bucket{contracts.BucketDesiredState, contracts.BucketDeviceState, contracts.BucketDeviceInfo, contracts.BucketDeviceHeartbeat} {
		stream, err := w.js.Stream(w.Context(), bucket.Stream())
		must(w.T, err)
		info, err := stream.Info(w.Context(), jetstream.WithSubjectFilter(">"))
		must(w.T, err)
		for subject := range info.State.Subjects {
			if strings.Contains(subject, "."+w.attacker.ID) && !strings.HasSuffix(subject, "."+own) {
				continue // nonsense that it has written
			}
			m, err := stream.GetLastMsgForSubject(w.Context(), subject)
			must(w.T, err)
			read++
			if bytes.Contains(m.Data, []byte(password)) {
				w.Errorf("%s holds the password: %s", subject, m.Data)
			}
		}
	}
	if opened, err := w.victim.Open(app); err != nil || !strings.Contains(fmt.Sprintf("%s", opened), password) {
		w.Errorf("the device itself reads %q, %v", opened, err)
	}
	w.Logf("%d values", read)
}

// stored is what the broker has for a device's app.
func (w *world) stored(id string) []byte {
	w.Helper()
	stream, err := w.js.Stream(w.Context(), contracts.BucketDesiredState.Stream())
	must(w.T, err)
	m, err := stream.GetLastMsgForSubject(w.Context(), contracts.BucketDesiredState.Subject(id+"."+app))
	must(w.T, err)
	return m.Data
}

func (w *world) tells() {
	// Orders that were signed: an older one, and the one that counts.
	before := w.victim.Told(app)
	old := w.stored(w.victim.ID)
	w.roll("registry.example.com/app:2")
	w.until("the victim is told", func(context.Context) error {
		if w.victim.Told(app).Revision == before.Revision {
			return fmt.Errorf("it has %s", before.Revision)
		}
		return nil
	})
	w.settled()
	now, told := w.stored(w.victim.ID), w.told.all()
	counts := w.victim.Told(app)

	pair, err := nkeys.CreateOperator()
	must(w.T, err)
	mine, err := contracts.NewSigner(pair)
	must(w.T, err)
	evil := counts
	evil.Issued, evil.Revision = counts.Issued+1, "app-evil"
	value := encode(evil)
	withdrawal := encode(contracts.Withdrawal{Deployment: app, Issued: counts.Issued + 1})
	signed, err := mine.Tell(contracts.DeviceID(w.victim.ID), app, value)
	must(w.T, err)
	withdrawn, err := mine.Withdraw(contracts.DeviceID(w.victim.ID), app, withdrawal)
	must(w.T, err)
	changed := func(data []byte, change func(*contracts.Envelope)) []byte {
		e, err := contracts.DecodeEnvelope(data)
		must(w.T, err)
		change(&e)
		return encode(e)
	}
	real, err := contracts.DecodeEnvelope(now)
	must(w.T, err)
	handover, err := mine.HandOver(mine.Public(), counts.Issued+1)
	must(w.T, err)
	handover.From = real.Key

	// Whoever answers first for the snapshot that a device takes after each refusal: this
	// does, too.
	var answers atomic.Int64
	var forgedSnapshot atomic.Pointer[[]byte]
	snapshots, err := w.ops.Subscribe(contracts.SnapshotSubject(contracts.DeviceID(w.victim.ID)), func(m *nats.Msg) {
		if forged := forgedSnapshot.Load(); forged != nil {
			answers.Add(1)
			_ = m.Respond(*forged)
		}
	})
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = snapshots.Unsubscribe() }()

	for name, order := range map[string][]byte{
		"an order that nobody has signed":      value,
		"an order signed by somebody else":     signed,
		"one that names the operator's key":    changed(signed, func(e *contracts.Envelope) { e.Key = real.Key }),
		"a withdrawal signed by somebody else": withdrawn,
		"an order for another device":          w.stored(w.bystander.ID),
		"an order that was changed":            changed(now, func(e *contracts.Envelope) { e.Value = value }),
		"an order made a withdrawal":           changed(now, func(e *contracts.Envelope) { e.Value, e.Withdrawal = nil, withdrawal }),
		"an older order":                       old,
		"nothing":                              nil,
		"lists in lists":                       bytes.Repeat([]byte("["), contracts.MaxEnvelopeSize),
	} {
		snapshot := encodeSnapshot(order, handover)
		forgedSnapshot.Store(&snapshot)
		for _, deployment := range []string{app, "new"} {
			_, err := w.js.Publish(w.Context(), contracts.BucketDesiredState.Subject(w.victim.ID+"."+deployment), order)
			if err != nil {
				w.Errorf("%s: the broker does not take it: %v", name, err)
			}
		}
		// The operator mends what it reads there.
		w.until("the victim's order is the operator's again after "+name, func(context.Context) error {
			e, err := contracts.DecodeEnvelope(w.stored(w.victim.ID))
			if err != nil {
				return err
			}
			if err := e.Verify(contracts.DeviceID(w.victim.ID), app, real.Key); err != nil {
				return err
			}
			o, err := e.Order(nil, app)
			if err == nil && (o.Desired == nil || o.Desired.Revision != counts.Revision) {
				err = fmt.Errorf("it is of revision %+v", o.Desired)
			}
			return err
		})
		if got := w.victim.Told(app); got.Revision != counts.Revision || got.Digest != counts.Digest {
			w.Errorf("%s: the victim obeys %s %s", name, got.Revision, got.Digest)
		}
		if got := w.victim.Told("new"); got.Revision != "" {
			w.Errorf("%s: the victim obeys for another Deployment: %s", name, got.Revision)
		}
	}
	if got := w.told.all(); len(got) != len(told) {
		w.Errorf("the victim was told in between: %v", got[len(told):])
	}
	// All of it out of order, then in another.
	for _, order := range [][]byte{now, old, signed, now, withdrawn, old} {
		_, err := w.js.Publish(w.Context(), contracts.BucketDesiredState.Subject(w.victim.ID+"."+app), order)
		must(w.T, err)
	}
	must(w.T, snapshots.Unsubscribe())
	w.settled()
	if got := w.victim.Told(app); got.Revision != counts.Revision || got.Digest != counts.Digest {
		w.Errorf("out of order: the victim obeys %s %s", got.Revision, got.Digest)
	}
	if answers.Load() == 0 {
		w.Error("the victim never took a forged snapshot: nothing was tried with one")
	}
	w.Logf("%d forged snapshots were taken and gained nothing", answers.Load())
	// And it still obeys the operator.
	w.roll("registry.example.com/app:3")
	w.until("the victim obeys the operator", func(context.Context) error {
		if got := w.victim.Told(app).Revision; got == counts.Revision {
			return fmt.Errorf("it has %s", got)
		}
		return nil
	})
	w.settled()
}

func encodeSnapshot(order []byte, h contracts.Handover) []byte {
	if !json.Valid(order) {
		order = []byte("null")
	}
	return encode(contracts.Snapshot{Entries: []contracts.SnapshotEntry{{Deployment: app, Value: order}, {Deployment: "new", Value: order}}, Handovers: []contracts.Handover{h}})
}
