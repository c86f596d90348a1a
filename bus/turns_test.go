package bus

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleet/contracts"
)

func TestWhoAsksWithoutEndKeepsOnlyItselfWaiting(t *testing.T) {
	s := start(t, "a", "b")
	ctx, cancel := context.WithCancel(t.Context())
	release, done := make(chan struct{}), make(chan error, 1)
	var begun atomic.Int64
	go func() {
		done <- serveInTurn(ctx, s.connect(""), contracts.SnapshotPrefix+".*", responders, 2, func(m *nats.Msg) {
			if m.Subject == contracts.SnapshotSubject("a") {
				begun.Add(1)
				<-release
			}
			_ = m.Respond(m.Data)
		})
	}()
	flood := s.connect("a")
	for n := range 10_000 {
		must(t, flood.PublishRequest(contracts.SnapshotSubject("a"), "_INBOX_a.x", fmt.Append(nil, n)))
	}
	must(t, flood.Flush())
	eventually(t, func() string {
		if begun.Load() == 0 {
			return "none of them is being answered"
		}
		return ""
	})
	other := s.connect("b")
	for range 100 {
		_, err := other.Request(contracts.SnapshotSubject("b"), nil, Timeout)
		must(t, err)
	}
	if n := begun.Load(); n != 1 {
		t.Errorf("%d requests of one device are being answered at once", n)
	}
	// The last that it asked is answered after the first.
	heard := make(chan *nats.Msg, 10)
	_, err := flood.ChanSubscribe("_INBOX_a.last", heard)
	must(t, err)
	must(t, flood.PublishRequest(contracts.SnapshotSubject("a"), "_INBOX_a.last", nil))
	must(t, flood.Flush())
	must(t, other.Flush())
	_, err = other.Request(contracts.SnapshotSubject("b"), nil, Timeout) // behind it
	must(t, err)
	close(release)
	select {
	case <-heard:
	case <-time.After(Timeout):
		t.Error("what waited is not answered")
	}
	cancel()
	must(t, <-done)
}
