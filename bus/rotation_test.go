package bus

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleet/pki"
)

// state of the only server.
func (g *guarded) state() Server {
	g.t.Helper()
	all, err := Servers(g.t.Context(), g.system)
	must(g.t, err)
	if len(all) != 1 {
		g.t.Fatalf("%d servers answer", len(all))
	}
	return all[0]
}

// presented is the certificate that a new connection is shown.
func (g *guarded) presented(trusted ...*x509.Certificate) (*x509.Certificate, error) {
	g.t.Helper()
	nc, err := Connect(Options{
		URL: fmt.Sprintf("nats://127.0.0.1:%d", g.port), Key: g.keys.User, Logger: slog.New(slog.DiscardHandler),
		Authorities: func() ([]byte, error) { return pki.EncodeCertificates(trusted...), nil },
	})
	must(g.t, err)
	defer nc.Close()
	ctx, cancel := context.WithTimeout(g.t.Context(), 10*time.Second)
	defer cancel()
	for {
		short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
		err := Await(short, nc)
		stop()
		if err == nil {
			state, err := nc.TLSConnectionState()
			must(g.t, err)
			return state.PeerCertificates[0], nil
		}
		if last := nc.LastError(); errors.Is(last, nats.ErrTLS) {
			return nil, last
		}
		if ctx.Err() != nil {
			g.t.Fatalf("neither connected nor refused: %v", nc.LastError())
		}
	}
}

func TestAServerSaysWhichConfigurationItRunsWith(t *testing.T) {
	g := startGuarded(t, newCertificates(t, 0))
	version := ConfigVersion(read(t, g.config))
	if got := g.state().Config; version == "" || got != version {
		t.Errorf("the server says %q, the configuration %q", got, version)
	}
	config, err := g.keys.ServerConfig(newCertificates(t, 0).files(), nil, nil)
	must(t, err)
	must(t, os.WriteFile(g.config, config, 0o600))
	must(t, Reload(t.Context(), g.system, g.state()))
	if got := g.state().Config; got == version || got != ConfigVersion(config) {
		t.Errorf("after a change the server says %q, the configuration %q", got, ConfigVersion(config))
	}
	must(t, os.WriteFile(g.config, []byte("accounts {"), 0o600))
	if err := Reload(t.Context(), g.system, g.state()); err == nil || !strings.Contains(err.Error(), "reload NATS server") {
		t.Errorf("a configuration that can't be read is taken: %v", err)
	}
	if got := ConfigVersion([]byte("port: 4222")); got != "" {
		t.Errorf("one that is not ours has the version %q", got)
	}
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	return text
}

// TestAnAuthorityIsReplacedUnderAConnectedFleet goes through all of a rotation with a
// real server. Of the connections only devices' end, each once with each reload, and
// come back with what they trusted before; at every moment somebody who has not heard of
// the change can connect.
func TestAnAuthorityIsReplacedUnderAConnectedFleet(t *testing.T) {
	// Old enough for a next one to come.
	c := newCertificates(t, 7*365*24*time.Hour)
	g := startGuarded(t, c)
	defer g.answer()()
	first := c.ring.Current.Certificate

	var operatorLost atomic.Int32
	operator := g.connect("")
	operator.SetDisconnectErrHandler(func(_ *nats.Conn, err error) {
		if err != nil {
			operatorLost.Add(1)
		}
	})
	options := g.device("till-1")
	options.Authorities = func() ([]byte, error) { return pki.EncodeCertificates(first), nil }
	device := g.dial(options)
	must(t, awaitSoon(t, device))

	// Somebody connects all the time who trusts the first authority alone.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	attempts, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(attempts)
		// As many as a server lets begin, and those of the test itself.
		for tick := time.NewTicker(2 * time.Second / handshakeRate); ctx.Err() == nil; <-tick.C {
			if _, err := g.presented(first); err != nil {
				failed <- err
				return
			}
		}
	}()

	reload := func(what string) {
		t.Helper()
		before, ends := g.state(), device.Stats().Reconnects
		must(t, Reload(t.Context(), g.system, before))
		eventually(t, func() string {
			if device.Stats().Reconnects == ends || !device.IsConnected() {
				return fmt.Sprintf("%s: the device is not back, its last error is %v", what, device.LastError())
			}
			return ""
		})
		chain, err := pki.ParseCertificates(read(t, c.files().CertFile))
		must(t, err)
		if got := g.state().CertificateUntil; !got.Equal(chain[0].NotAfter) {
			t.Errorf("%s: the server says that its certificate expires at %v, the file at %v", what, got, chain[0].NotAfter)
		}
		shown, err := g.presented(first)
		must(t, err)
		if !shown.Equal(chain[0]) {
			t.Errorf("%s: the server presents another certificate than it was given", what)
		}
	}
	works := func(what string, trusted ...*x509.Certificate) {
		t.Helper()
		if _, err := g.presented(trusted...); err != nil {
			t.Errorf("who trusts %s can't connect: %v", what, err)
		}
	}

	c.write(c.ring)
	reload("a renewed certificate")

	ring, _, err := c.ring.Advance(time.Now(), pki.Usual)
	must(t, err)
	if ring.Next == nil {
		t.Fatal("no next authority")
	}
	next := ring.Next.Certificate
	c.write(ring)
	reload("the overlap")
	works("both", first, next)
	if _, err := g.presented(next); !errors.As(err, new(x509.UnknownAuthorityError)) {
		t.Errorf("the next authority signs already: %v", err)
	}

	if ring, _, err = ring.Advance(time.Now().Add(pki.Usual.Overlap+time.Hour), pki.Usual); err != nil || !ring.Current.Certificate.Equal(next) {
		t.Fatal("the next authority has not taken over:", err)
	}
	c.write(ring)
	reload("the next authority")
	works("both", first, next)
	works("the next alone", next)

	cancel()
	<-attempts
	select {
	case err := <-failed:
		t.Errorf("somebody could not connect: %v", err)
	default:
	}
	if n := operatorLost.Load(); n > 0 {
		t.Errorf("the operator has lost its connection %d times", n)
	}
}
