package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleet/contracts"
)

func publicKey(t testing.TB) string {
	t.Helper()
	key, err := nkeys.CreateUser()
	must(t, err)
	public, err := key.PublicKey()
	must(t, err)
	return public
}

// serving answers for snapshots until the test ends.
func serving(t testing.TB, js jetstream.JetStream) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ServeSnapshots(ctx, js, SnapshotOptions{Logger: slog.New(slog.DiscardHandler)}) }()
	stop = sync.OnceFunc(func() {
		cancel()
		must(t, <-done)
	})
	t.Cleanup(stop)
	return stop
}

// watched is a mirror and the last that it showed.
type watched struct {
	*Mirror
	mu   sync.Mutex
	last map[contracts.DeploymentName]contracts.Order
	// refused are the reasons for which orders did not count.
	refused []string
}

func mirror(t testing.TB, nc *nats.Conn, device contracts.DeviceID) *watched {
	t.Helper()
	return mirrorOf(t, nc, device, MirrorOptions{})
}

func mirrorOf(t testing.TB, nc *nats.Conn, device contracts.DeviceID, o MirrorOptions) *watched {
	t.Helper()
	w := &watched{}
	o.Logger = slog.New(slog.DiscardHandler)
	if o.Operator == "" {
		o.Operator = theOperator(t).Public()
	}
	show := o.OnChange
	o.OnChange = func(v map[contracts.DeploymentName]contracts.Order) {
		if show != nil {
			show(v)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.last = v
	}
	o.OnRefused = func(name contracts.DeploymentName, reason error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.refused = append(w.refused, string(name)+": "+reason.Error())
	}
	w.Mirror = NewMirror(nc, device, o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-done)
	})
	return w
}

// shows is empty when the mirror shows that exactly these revisions are to run.
func (w *watched) shows(want map[contracts.DeploymentName]string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		return "it has shown nothing"
	}
	got := map[contracts.DeploymentName]string{}
	for n, o := range w.last {
		if o.Desired != nil {
			got[n] = o.Desired.Revision
		}
	}
	if !maps.Equal(got, want) {
		return fmt.Sprintf("it shows %v, want %v", got, want)
	}
	return ""
}

// hasRefused is empty when an order did not count for that reason.
func (w *watched) hasRefused(reason string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.refused {
		if strings.Contains(r, reason) {
			return ""
		}
	}
	return fmt.Sprintf("refused for %q, not for %q", w.refused, reason)
}

func put(t testing.TB, js jetstream.JetStream, device contracts.DeviceID, name contracts.DeploymentName, n int) {
	t.Helper()
	w := NewWriter(js)
	must(t, w.Put(t.Context(), device, name, order(t, device, name, n)))
	must(t, w.Flush(t.Context()))
}

func TestMirrorShowsWhatIsWrittenBeforeAndAfter(t *testing.T) {
	s := start(t, "a", "b")
	js := s.operator()
	put(t, js, "a", "one", 1)
	put(t, js, "b", "other", 1)
	serving(t, js)
	m := mirror(t, s.connect("a"), "a")
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"one": "one-1"}) })
	put(t, js, "a", "two", 1)
	put(t, js, "a", "one", 2)
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"one": "one-2", "two": "two-1"}) })
	w := NewWriter(js)
	must(t, w.Delete(t.Context(), "a", "one", withdrawal(t, "a", "one")))
	must(t, w.Flush(t.Context()))
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"two": "two-1"}) })
}

func TestMirrorIsEmptyAndCompleteWhenADeviceIsToldNothing(t *testing.T) {
	s := start(t, "a")
	serving(t, s.operator())
	m := mirror(t, s.connect("a"), "a")
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{}) })
}

func TestMirrorWaitsForAnOperator(t *testing.T) {
	s := start(t, "a")
	js := s.operator()
	put(t, js, "a", "one", 1)
	m := mirror(t, s.connect("a"), "a")
	// Live writes alone are not all that there is.
	eventually(t, func() string {
		put(t, js, "a", "two", 1)
		m.Mirror.mu.Lock()
		defer m.Mirror.mu.Unlock()
		if len(m.merge.orders) == 0 {
			return "the write did not arrive"
		}
		return ""
	})
	if got := m.shows(nil); got != "it has shown nothing" {
		t.Fatal(got)
	}
	serving(t, js)
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"one": "one-1", "two": "two-1"}) })
}

func TestMirrorTakesSnapshotsOfManyPages(t *testing.T) {
	s := start(t, "a")
	js := s.operator()
	want := map[contracts.DeploymentName]string{}
	w := NewWriter(js)
	for i := range 12 {
		name := contracts.DeploymentName(fmt.Sprintf("app-%02d", i))
		var v contracts.DesiredState
		must(t, json.Unmarshal(valueOf(t, name, 1, issued.Add(1)), &v))
		v.Score.Podman.Containers[0].Args = []string{strings.Repeat("x", 100<<10)}
		v.Digest = v.Score.Digest()
		data, err := contracts.Encode(v)
		must(t, err)
		data, err = theOperator(t).Tell("a", name, data)
		must(t, err)
		must(t, w.Put(t.Context(), "a", name, data))
		want[name] = v.Revision
	}
	must(t, w.Flush(t.Context()))
	serving(t, js)
	m := mirror(t, s.connect("a"), "a")
	eventually(t, func() string { return m.shows(want) })
}

func TestMirrorRefusesWhatTheOperatorDidNotWrite(t *testing.T) {
	s := start(t, "a", "b")
	js := s.operator()
	serving(t, js)
	put(t, js, "b", "app", 1)
	b := s.connect("b")
	m := mirror(t, b, "b")
	want := map[contracts.DeploymentName]string{"app": "app-1"}
	eventually(t, func() string { return m.shows(want) })
	// A device aims replies of services at the other's live subscription.
	a := s.connect("a")
	for range 10 {
		must(t, a.PublishRequest(contracts.BucketDeviceState.Subject("state.a.app"), "fleet.ds.b.app", []byte("x")))
		must(t, a.PublishRequest("fleet.snap.a", "fleet.ds.b.evil", nil))
	}
	must(t, a.Flush())
	put(t, js, "b", "last", 1)
	want["last"] = "last-1"
	eventually(t, func() string { return m.shows(want) })

	for name, header := range map[string]nats.Header{
		"no header":         nil,
		"another stream":    {jetstream.StreamHeader: {"KV_device-state"}, jetstream.SubjectHeader: {"$KV.desired-state.b.app"}, jetstream.SequenceHeader: {"99"}},
		"another's subject": {jetstream.StreamHeader: {"KV_desired-state"}, jetstream.SubjectHeader: {"$KV.desired-state.a.app"}, jetstream.SequenceHeader: {"99"}},
	} {
		if _, err := m.read(&nats.Msg{Subject: "fleet.ds.b.app", Header: header, Data: order(t, "b", "app", 9)}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestMirrorKeepsTheLastGoodWhenAValueIsMalformed(t *testing.T) {
	s := start(t, "a")
	js := s.operator()
	serving(t, js)
	put(t, js, "a", "one", 1)
	m := mirror(t, s.connect("a"), "a")
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"one": "one-1"}) })
	for _, bad := range []string{"{", "", `{"v":1}`, `{"v":99}`, `[]`, "\xff"} {
		_, err := js.Publish(t.Context(), "$KV.desired-state.a.one", []byte(bad))
		must(t, err)
	}
	put(t, js, "a", "two", 1)
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"one": "one-1", "two": "two-1"}) })
	put(t, js, "a", "one", 2)
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"one": "one-2", "two": "two-1"}) })
}

func TestMirrorObeysTheOperatorAlone(t *testing.T) {
	s := start(t, "a")
	js := s.operator()
	serving(t, js)
	m := mirror(t, s.connect("a"), "a")
	put(t, js, "a", "one", 1)
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"one": "one-1"}) })
	m.mu.Lock()
	first := m.last["one"].Envelope
	m.mu.Unlock()
	other := signer(t, 2)
	sign := func(s *contracts.Signer, device contracts.DeviceID, name contracts.DeploymentName) []byte {
		data, err := s.Tell(device, name, valueOf(t, name, 9, issued.Add(1)))
		must(t, err)
		return data
	}
	// Whoever has the broker can write these.
	for _, c := range []struct {
		key    contracts.DeploymentName
		data   []byte
		header nats.Header
		reason string
	}{
		{"one", sign(other, "a", "one"), nil, "one: it is signed with " + other.Public()},
		{"one", bytes.Replace(sign(other, "a", "one"), []byte(other.Public()), []byte(theOperator(t).Public()), 1), nil, "one: the signature is not"},
		{"one", sign(theOperator(t), "b", "one"), nil, "one: the signature is not"},
		{"one", sign(theOperator(t), "a", "two"), nil, "one: the signature is not"},
		{"one", bytes.Replace(order(t, "a", "one", 9), []byte("app:1"), []byte("app:2"), 1), nil, "one: the signature is not"},
		{"one", valueOf(t, "one", 9, issued.Add(1)), nil, "one: decode contracts.Envelope: none of value"},
		{"one", nil, nats.Header{headerOperation: {operationDelete}}, "one: decode contracts.Envelope"},
		{"one", withdrawal(t, "b", "one"), nats.Header{headerOperation: {operationDelete}}, "one: the signature is not"},
	} {
		_, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "$KV.desired-state.a." + string(c.key), Data: c.data, Header: c.header})
		must(t, err)
		eventually(t, func() string { return m.hasRefused(c.reason) })
	}
	// An older order of the operator's is nothing new, said again or brought back.
	put(t, js, "a", "one", 2)
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"one": "one-2"}) })
	_, err := js.Publish(t.Context(), "$KV.desired-state.a.one", first)
	must(t, err)
	put(t, js, "a", "last", 1)
	eventually(t, func() string {
		return m.shows(map[contracts.DeploymentName]string{"one": "one-2", "last": "last-1"})
	})
	// A withdrawal that the broker has lost its mark of is one all the same.
	_, err = js.Publish(t.Context(), "$KV.desired-state.a.one", withdrawal(t, "a", "one"))
	must(t, err)
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"last": "last-1"}) })
}

func TestMirrorFollowsTheOperatorToAnotherKey(t *testing.T) {
	s := start(t, "a")
	js := s.operator()
	first, second, third := theOperator(t), signer(t, 2), signer(t, 3)
	write := func(by *contracts.Signer, name contracts.DeploymentName) {
		data, err := by.Tell("a", name, valueOf(t, name, 1, issued.Add(1)))
		must(t, err)
		_, err = js.Publish(t.Context(), "$KV.desired-state.a."+string(name), data)
		must(t, err)
	}
	stop := serving(t, js)
	nc := s.connect("a")
	fail := errors.New("the disk is full")
	var kept []string
	var mu sync.Mutex
	m := mirrorOf(t, nc, "a", MirrorOptions{OnHandover: func(h contracts.Handover) error {
		mu.Lock()
		defer mu.Unlock()
		kept = append(kept, h.To)
		return fail
	}})
	write(first, "one")
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"one": "one-1"}) })
	// The operator comes back with another key, and a stranger with a handover of its own.
	stop()
	handovers := func() (all []contracts.Handover) {
		for _, h := range []struct {
			by     *contracts.Signer
			to     string
			issued int64
			forge  bool
		}{{third, second.Public(), 8, false}, {first, third.Public(), 8, true}, {first, second.Public(), 9, false}} {
			signed, err := h.by.HandOver(h.to, h.issued)
			must(t, err)
			if h.forge {
				signed.Signature[0] ^= 1
			}
			all = append(all, signed)
		}
		return all
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- ServeSnapshots(ctx, js, SnapshotOptions{Handovers: handovers, Logger: slog.New(slog.DiscardHandler)})
	}()
	defer func() { cancel(); must(t, <-done) }()
	write(second, "two")
	// What can't be kept is not followed: a reboot would undo it.
	eventually(t, func() string { return m.hasRefused("two: it is signed with " + second.Public()) })
	mu.Lock()
	fail = nil
	mu.Unlock()
	m.Resync()
	eventually(t, func() string {
		return m.shows(map[contracts.DeploymentName]string{"one": "one-1", "two": "two-1"})
	})
	mu.Lock()
	for _, to := range kept {
		if to != second.Public() {
			t.Errorf("it was about to trust %s", to)
		}
	}
	mu.Unlock()
	// The first key counts no longer.
	write(first, "three")
	eventually(t, func() string { return m.hasRefused("three: it is signed with " + first.Public()) })
	// Nor does an old handover lead back to it.
	back, err := second.HandOver(first.Public(), 9)
	must(t, err)
	m.follow([]contracts.Handover{back})
	m.Mirror.mu.Lock()
	defer m.Mirror.mu.Unlock()
	if m.operator != second.Public() {
		t.Errorf("it trusts %s", m.operator)
	}
}

// TestMirrorEndsWithWhatTheStreamHolds writes at random to devices of which one is
// slow, one loses its connection again and again and one has both, while the
// server restarts in between. In the end each has exactly what the stream holds.
func TestMirrorEndsWithWhatTheStreamHolds(t *testing.T) {
	devices := []contracts.DeviceID{"steady", "slow", "shaky", "both"}
	s := start(t, devices...)
	js := s.operator()
	serving(t, js)
	mirrors := map[contracts.DeviceID]*watched{}
	conns := map[contracts.DeviceID]*nats.Conn{}
	for _, d := range devices {
		conns[d] = s.connect(d)
		o := MirrorOptions{}
		if d == "slow" || d == "both" {
			o.pending = 4 // no room for what comes at once
		}
		mirrors[d] = mirrorOf(t, conns[d], d, o)
	}
	names := []contracts.DeploymentName{"a", "b", "c", "d"}
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 12 {
		w := NewWriter(js)
		for range 600 {
			d, n := devices[r.IntN(len(devices))], names[r.IntN(len(names))]
			if r.IntN(4) == 0 {
				must(t, w.Delete(t.Context(), d, n, withdrawal(t, d, n)))
			} else {
				must(t, w.Put(t.Context(), d, n, order(t, d, n, r.IntN(1000))))
			}
		}
		must(t, w.Flush(t.Context()))
		for _, d := range []contracts.DeviceID{"shaky", "both"} {
			must(t, conns[d].ForceReconnect())
		}
		if round == 6 {
			s.down()
			s.up()
			eventually(t, func() string {
				if !js.Conn().IsConnected() {
					return "the operator is not connected again"
				}
				return ""
			})
		}
	}
	stored := map[contracts.DeviceID]map[contracts.DeploymentName]string{}
	stream, err := js.Stream(t.Context(), contracts.BucketDesiredState.Stream())
	must(t, err)
	for _, d := range devices {
		stored[d] = map[contracts.DeploymentName]string{}
		for _, n := range names {
			m, err := stream.GetLastMsgForSubject(t.Context(), contracts.BucketDesiredState.Subject(contracts.DesiredStateKey(d, n)))
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}
			must(t, err)
			if m.Header.Get(headerOperation) != "" {
				continue
			}
			v, err := contracts.DecodeOrder(m.Data, n)
			must(t, err)
			stored[d][n] = v.Desired.Revision
		}
	}
	for _, d := range devices {
		eventually(t, func() string {
			if got := mirrors[d].shows(stored[d]); got != "" {
				return string(d) + ": " + got
			}
			return ""
		})
	}
}

func TestMirrorFollowsAStreamThatWasMadeAnew(t *testing.T) {
	s := start(t, "a")
	js := s.operator()
	stop := serving(t, js)
	for i := range 5 {
		put(t, js, "a", "one", i)
	}
	m := mirror(t, s.connect("a"), "a")
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"one": "one-4"}) })
	put(t, js, "a", "one", 5)
	must(t, js.DeleteStream(t.Context(), contracts.BucketDesiredState.Stream()))
	must(t, EnsureStreams(t.Context(), js, StreamOptions{}))
	stop()
	serving(t, js)
	put(t, js, "a", "two", 1)
	// What the new stream has never held is not gone for that.
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"one": "one-5", "two": "two-1"}) })
	w := NewWriter(js)
	must(t, w.Delete(t.Context(), "a", "one", withdrawal(t, "a", "one")))
	must(t, w.Flush(t.Context()))
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"two": "two-1"}) })
}

func TestMirrorLearnsOfADeletionThatItWasAwayFor(t *testing.T) {
	s := start(t, "a")
	js := s.operator()
	serving(t, js)
	w := NewWriter(js)
	must(t, w.Put(t.Context(), "a", "one", order(t, "a", "one", 1)))
	must(t, w.Delete(t.Context(), "a", "one", withdrawal(t, "a", "one")))
	must(t, w.Flush(t.Context()))
	known := map[contracts.DeploymentName]contracts.Order{}
	for _, name := range []contracts.DeploymentName{"one", "two"} {
		known[name] = contracts.Order{Deployment: name, Issued: 1, Desired: &contracts.DesiredState{Deployment: name, Revision: string(name) + "-1"}}
	}
	m := mirrorOf(t, s.connect("a"), "a", MirrorOptions{Known: known})
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"two": "two-1"}) })
}
