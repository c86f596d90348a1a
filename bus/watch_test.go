package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nationtech/fleet/contracts"
)

// folded is what a watcher's handler made of the entries.
type folded struct {
	mu      sync.Mutex
	values  map[string]string
	last    uint64
	calls   int
	strayed string
}

func (f *folded) handle(e Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if e.Sequence <= f.last {
		f.strayed = fmt.Sprintf("%s at %d came after %d", e.Key, e.Sequence, f.last)
	}
	f.last = e.Sequence
	if e.Deleted {
		delete(f.values, e.Key)
		return
	}
	f.values[e.Key] = string(e.Value)
}

func (f *folded) has(key, value string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.strayed != "" {
		return f.strayed
	}
	if got := f.values[key]; got != value {
		return fmt.Sprintf("%s is %q, want %q", key, got, value)
	}
	return ""
}

func watch(t *testing.T, s *testServer, bucket contracts.Bucket) (*folded, *Watcher) {
	t.Helper()
	js := s.operator()
	f := &folded{values: map[string]string{}}
	ctx, cancel := context.WithCancel(t.Context())
	w := Watch(ctx, js, bucket, slog.New(slog.DiscardHandler), f.handle)
	t.Cleanup(func() { cancel(); <-w.Done() })
	return f, w
}

func ready(t *testing.T, w *Watcher) {
	t.Helper()
	select {
	case <-w.Ready():
	case <-time.After(10 * time.Second):
		t.Fatal("not ready after 10 s")
	}
}

func TestWatchIsReadyAtOnceWhenThereIsNothing(t *testing.T) {
	_, w := watch(t, start(t), contracts.BucketDeviceState)
	ready(t, w)
}

func TestWatchIsReadyWhenAllWasHandled(t *testing.T) {
	s := start(t)
	js := s.operator()
	for i := range 2000 {
		_, err := js.PublishAsync(fmt.Sprintf("$KV.device-state.state.d%d.app", i%500), []byte(fmt.Sprint(i)))
		must(t, err)
	}
	<-js.PublishAsyncComplete()
	f, w := watch(t, s, contracts.BucketDeviceState)
	ready(t, w)
	if f.mu.Lock(); len(f.values) != 500 || f.calls != 500 {
		t.Errorf("%d keys from %d entries, want 500 each", len(f.values), f.calls)
	}
	f.mu.Unlock()
	if got := f.has("state.d7.app", "1507"); got != "" {
		t.Error(got)
	}
}

func TestWatchGoesOnAfterTheServerWasAway(t *testing.T) {
	s := start(t)
	f, w := watch(t, s, contracts.BucketDeviceState)
	ready(t, w)
	js := s.operator()
	for round := range 3 {
		_, err := js.Publish(t.Context(), "$KV.device-state.state.a.app", []byte(fmt.Sprint("before", round)))
		must(t, err)
		eventually(t, func() string { return f.has("state.a.app", fmt.Sprint("before", round)) })
		s.down()
		s.up()
		other := s.operator()
		_, err = other.Publish(t.Context(), "$KV.device-state.state.a.app", []byte(fmt.Sprint("after", round)))
		must(t, err)
		eventually(t, func() string { return f.has("state.a.app", fmt.Sprint("after", round)) })
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls != 6 {
		t.Errorf("%d entries for 6 writes", f.calls)
	}
}

func TestWatchSeesDeletions(t *testing.T) {
	s := start(t)
	f, w := watch(t, s, contracts.BucketDesiredState)
	ready(t, w)
	js := s.operator()
	writer := NewWriter(js)
	must(t, writer.Put(t.Context(), "a", "app", told(t, "app", 1)))
	must(t, writer.Flush(t.Context()))
	eventually(t, func() string { return f.has("a.app", string(told(t, "app", 1))) })
	must(t, writer.Delete(t.Context(), "a", "app", []byte("signed")))
	must(t, writer.Flush(t.Context()))
	eventually(t, func() string { return f.has("a.app", "") })
}

func TestWatchEndsWhenTheStreamIsLost(t *testing.T) {
	s := start(t)
	_, w := watch(t, s, contracts.BucketDeviceState)
	ready(t, w)
	js := s.operator()
	must(t, js.DeleteStream(t.Context(), contracts.BucketDeviceState.Stream()))
	must(t, EnsureStreams(t.Context(), js, StreamOptions{}))
	select {
	case <-w.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("it goes on after 30 s")
	}
	if !errors.Is(w.Err(), ErrStreamLost) {
		t.Fatal(w.Err())
	}
}

// TestWritersTakeTurnsWhileTheServerIsSlow has more writers than together may have writes
// on their way, and a server whose answers are held up for a second.
func TestWritersTakeTurnsWhileTheServerIsSlow(t *testing.T) {
	s := start(t)
	s.operator() // with the streams
	r := relay(t, s.port)
	nc, err := Connect(Options{URL: "nats://" + r.Addr().String(), SeedFile: s.seeds[""], Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	t.Cleanup(nc.Close)
	s.await(nc)
	js, err := JetStream(nc)
	must(t, err)
	held := make(chan struct{})
	r.held.Store(&held)
	time.AfterFunc(time.Second, func() { close(held) })
	var writers sync.WaitGroup
	for n := range 4 {
		writers.Go(func() {
			w := NewWriter(js)
			for i := range window {
				name := contracts.DeploymentName(fmt.Sprintf("app-%d-%d", n, i))
				if err := w.Put(t.Context(), "a", name, told(t, name, 1)); err != nil {
					t.Error(err)
					return
				}
			}
			if err := w.Flush(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
}

// relayed is a way to a server on which what it says may be held up.
type relayed struct {
	net.Listener
	// held has what the server says wait until it is closed; nil for nothing.
	held atomic.Pointer[chan struct{}]
}

func relay(t *testing.T, port int) *relayed {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	r := &relayed{Listener: l}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				client.Close()
				continue
			}
			go func() {
				defer server.Close()
				_, _ = io.Copy(server, client) // until the client ends it
			}()
			go func() {
				defer client.Close()
				buffer := make([]byte, 32<<10)
				for {
					n, err := server.Read(buffer)
					if held := r.held.Load(); held != nil {
						<-*held
					}
					if _, failed := client.Write(buffer[:n]); err != nil || failed != nil {
						return
					}
				}
			}()
		}
	}()
	return r
}

func TestWriterNamesTheKeysThatWereNotStored(t *testing.T) {
	s := start(t)
	js := s.operator()
	w := NewWriter(js)
	if err := w.Put(t.Context(), "a", "big", make([]byte, contracts.MaxEnvelopeSize+1)); err == nil || !strings.Contains(err.Error(), "a.big") {
		t.Errorf("too large: %v", err)
	}
	s.down()
	_ = w.Put(t.Context(), "a", "app", told(t, "app", 1)) // refused at once or by Flush
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	err := w.Flush(ctx)
	s.up()
	if err != nil && !strings.Contains(err.Error(), "a.app") {
		t.Errorf("without a server: %v", err)
	}
	eventually(t, func() string {
		if !js.Conn().IsConnected() {
			return "not connected"
		}
		return ""
	})
	must(t, w.Put(t.Context(), "a", "app", told(t, "app", 2)))
	must(t, w.Flush(t.Context()))
}

func TestWriterKeepsTheLastOfManyWrites(t *testing.T) {
	s := start(t)
	js := s.operator()
	w := NewWriter(js)
	for i := range 5000 {
		must(t, w.Put(t.Context(), contracts.DeviceID(fmt.Sprintf("d%d", i%100)), "app", told(t, "app", i)))
	}
	must(t, w.Flush(t.Context()))
	f, watcher := watch(t, s, contracts.BucketDesiredState)
	ready(t, watcher)
	for i := range 100 {
		if got := f.has(fmt.Sprintf("d%d.app", i), string(told(t, "app", 4900+i))); got != "" {
			t.Error(got)
		}
	}
}

func TestConnectSaysWhatIsWrongWithTheSeedFile(t *testing.T) {
	_, err := Connect(Options{URL: "nats://127.0.0.1:1", SeedFile: "/does/not/exist"})
	if err == nil || !strings.Contains(err.Error(), "/does/not/exist") {
		t.Error(err)
	}
}
