package bus

import (
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
	"time"

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
	go func() { done <- ServeSnapshots(ctx, js, slog.New(slog.DiscardHandler)) }()
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
	last map[contracts.DeploymentName]Desired
}

func mirror(t testing.TB, nc *nats.Conn, device contracts.DeviceID, verify func(contracts.DesiredState, []byte) error) *watched {
	t.Helper()
	return mirrorOf(t, nc, device, MirrorOptions{Verify: verify})
}

func mirrorOf(t testing.TB, nc *nats.Conn, device contracts.DeviceID, o MirrorOptions) *watched {
	t.Helper()
	w := &watched{}
	o.Logger = slog.New(slog.DiscardHandler)
	o.OnChange = func(v map[contracts.DeploymentName]Desired) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.last = v
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

// shows is empty when the mirror shows exactly these revisions.
func (w *watched) shows(want map[contracts.DeploymentName]string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		return "it has shown nothing"
	}
	got := map[contracts.DeploymentName]string{}
	for n, d := range w.last {
		got[n] = d.Revision
	}
	if !maps.Equal(got, want) {
		return fmt.Sprintf("it shows %v, want %v", got, want)
	}
	return ""
}

func put(t testing.TB, js jetstream.JetStream, device contracts.DeviceID, name contracts.DeploymentName, n int) {
	t.Helper()
	w := NewWriter(js)
	must(t, w.Put(t.Context(), device, name, told(t, name, n)))
	must(t, w.Flush(t.Context()))
}

func TestMirrorShowsWhatIsWrittenBeforeAndAfter(t *testing.T) {
	s := start(t, "a", "b")
	js := s.operator()
	put(t, js, "a", "one", 1)
	put(t, js, "b", "other", 1)
	serving(t, js)
	m := mirror(t, s.connect("a"), "a", nil)
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"one": "one-1"}) })
	put(t, js, "a", "two", 1)
	put(t, js, "a", "one", 2)
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"one": "one-2", "two": "two-1"}) })
	w := NewWriter(js)
	must(t, w.Delete(t.Context(), "a", "one"))
	must(t, w.Flush(t.Context()))
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"two": "two-1"}) })
}

func TestMirrorIsEmptyAndCompleteWhenADeviceIsToldNothing(t *testing.T) {
	s := start(t, "a")
	serving(t, s.operator())
	m := mirror(t, s.connect("a"), "a", nil)
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{}) })
}

func TestMirrorWaitsForAnOperator(t *testing.T) {
	s := start(t, "a")
	js := s.operator()
	put(t, js, "a", "one", 1)
	m := mirror(t, s.connect("a"), "a", nil)
	// Live writes alone are not all that there is.
	eventually(t, func() string {
		put(t, js, "a", "two", 1)
		m.Mirror.mu.Lock()
		defer m.Mirror.mu.Unlock()
		if len(m.merge.entries) == 0 {
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
		must(t, json.Unmarshal(told(t, name, 1), &v))
		v.Score.Podman.Containers[0].Args = []string{strings.Repeat("x", 100<<10)}
		v.Digest = v.Score.Digest()
		data, err := contracts.Encode(v)
		must(t, err)
		must(t, w.Put(t.Context(), "a", name, data))
		want[name] = v.Revision
	}
	must(t, w.Flush(t.Context()))
	serving(t, js)
	m := mirror(t, s.connect("a"), "a", nil)
	eventually(t, func() string { return m.shows(want) })
}

func TestMirrorRefusesWhatTheOperatorDidNotWrite(t *testing.T) {
	s := start(t, "a", "b")
	js := s.operator()
	serving(t, js)
	put(t, js, "b", "app", 1)
	b := s.connect("b")
	m := mirror(t, b, "b", nil)
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
		"no sequence":       {jetstream.StreamHeader: {"KV_desired-state"}, jetstream.SubjectHeader: {"$KV.desired-state.b.app"}},
	} {
		if _, _, _, err := m.read(&nats.Msg{Subject: "fleet.ds.b.app", Header: header, Data: told(t, "app", 9)}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestMirrorKeepsTheLastGoodWhenAValueIsMalformed(t *testing.T) {
	s := start(t, "a")
	js := s.operator()
	serving(t, js)
	put(t, js, "a", "one", 1)
	m := mirror(t, s.connect("a"), "a", nil)
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

func TestMirrorAsksWhoMayHaveMadeAValue(t *testing.T) {
	s := start(t, "a")
	js := s.operator()
	serving(t, js)
	m := mirror(t, s.connect("a"), "a", func(d contracts.DesiredState, _ []byte) error {
		if d.Generation == 2 {
			return errors.New("forged")
		}
		return nil
	})
	put(t, js, "a", "one", 1)
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"one": "one-1"}) })
	put(t, js, "a", "one", 2)
	put(t, js, "a", "two", 1)
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"one": "one-1", "two": "two-1"}) })
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
		var verify func(contracts.DesiredState, []byte) error
		if d == "slow" || d == "both" {
			verify = func(contracts.DesiredState, []byte) error { time.Sleep(2 * time.Millisecond); return nil }
		}
		conns[d] = s.connect(d)
		mirrors[d] = mirror(t, conns[d], d, verify)
	}
	names := []contracts.DeploymentName{"a", "b", "c", "d"}
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 12 {
		w := NewWriter(js)
		for range 600 {
			d, n := devices[r.IntN(len(devices))], names[r.IntN(len(names))]
			if r.IntN(4) == 0 {
				must(t, w.Delete(t.Context(), d, n))
			} else {
				must(t, w.Put(t.Context(), d, n, told(t, n, r.IntN(1000))))
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
			v, err := contracts.DecodeDesiredState(m.Data)
			must(t, err)
			stored[d][n] = v.Revision
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
	m := mirror(t, s.connect("a"), "a", nil)
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
	must(t, w.Delete(t.Context(), "a", "one"))
	must(t, w.Flush(t.Context()))
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"two": "two-1"}) })
}

func TestMirrorLearnsOfADeletionThatItWasAwayFor(t *testing.T) {
	s := start(t, "a")
	js := s.operator()
	serving(t, js)
	w := NewWriter(js)
	must(t, w.Put(t.Context(), "a", "one", told(t, "one", 1)))
	must(t, w.Delete(t.Context(), "a", "one"))
	must(t, w.Flush(t.Context()))
	m := mirrorOf(t, s.connect("a"), "a", MirrorOptions{Known: map[contracts.DeploymentName]contracts.DesiredState{
		"one": {Deployment: "one", Revision: "one-1"}, "two": {Deployment: "two", Revision: "two-1"},
	}})
	eventually(t, func() string { return m.shows(map[contracts.DeploymentName]string{"two": "two-1"}) })
}
