package bus

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestWhoIsNotLetInLeavesNothingOpen has a client try again and again at a server that
// talks nonsense, without a garbage collection that would close what it has forgotten.
func TestWhoIsNotLetInLeavesNothingOpen(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	closed := make(chan struct{}, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, "nonsense\r\n")
				_, _ = io.Copy(io.Discard, c) // until the client closes its side
				closed <- struct{}{}
			}()
		}
	}()
	nc, err := Connect(Options{URL: "nats://" + l.Addr().String()})
	must(t, err)
	defer nc.Close()
	for n := range 3 {
		select {
		case <-closed:
		case <-time.After(10 * time.Second):
			t.Fatalf("%d attempts have failed and left their connections open", n+1)
		}
	}
}

// TestTooManyAtOnceAreTurnedAwayAndComeBack has more connect in one moment than a server
// lets begin.
func TestTooManyAtOnceAreTurnedAwayAndComeBack(t *testing.T) {
	g := startGuarded(t, newCertificates(t, 0))
	heard := &lockedBuffer{}
	var all sync.WaitGroup
	for range 2 * handshakeRate {
		all.Go(func() {
			nc, err := Connect(Options{
				URL: fmt.Sprintf("nats://127.0.0.1:%d", g.port), Key: g.keys.User, Authorities: g.authorities,
				Logger: slog.New(slog.NewTextHandler(heard, nil)),
			})
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			if err := awaitSoon(t, nc); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if !strings.Contains(heard.String(), "turns away who connects for a moment") {
		t.Error("nobody was turned away")
	}
}
