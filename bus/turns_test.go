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
		done <- serveInTurn(ctx, s.connect(""), contracts.SnapshotPrefix+".*", responders, 2, Timeout, func(_ context.Context, m *nats.Msg) {
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

func TestNobodyIsAnsweredWhoNoLongerWaits(t *testing.T) {
	const patience = 100 * time.Millisecond
	s := start(t, "a", "b")
	ctx, cancel := context.WithCancel(t.Context())
	release, done := make(chan struct{}), make(chan error, 1)
	begun := make(chan string, 10)
	go func() {
		done <- serveInTurn(ctx, s.connect(""), contracts.SnapshotPrefix+".*", responders, 1, patience, func(_ context.Context, m *nats.Msg) {
			begun <- string(m.Data)
			if string(m.Data) == "long" {
				<-release
			}
			_ = m.Respond(m.Data)
		})
	}()
	a, b := s.connect("a"), s.connect("b")
	ask := func(nc *nats.Conn, subject, what string) {
		must(t, nc.PublishRequest(subject, "_INBOX_"+subject[len(subject)-1:]+".x", []byte(what)))
		must(t, nc.Flush())
	}
	eventually(t, func() string {
		if _, err := a.Request(contracts.SnapshotSubject("a"), nil, Timeout); err != nil {
			return err.Error()
		}
		return ""
	})
	<-begun
	ask(a, contracts.SnapshotSubject("a"), "long")
	if got := <-begun; got != "long" {
		t.Fatalf("%q is being answered", got)
	}
	ask(b, contracts.SnapshotSubject("b"), "late")
	<-time.After(2 * patience) // it is this time that makes it late
	close(release)
	ask(b, contracts.SnapshotSubject("b"), "in time")
	if got := <-begun; got != "in time" {
		t.Errorf("%q is being answered", got)
	}
	cancel()
	must(t, <-done)
}
