package join

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleet/agent/identity"
	"github.com/nationtech/fleet/agent/trust"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/pki"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func serverTLS(certificate, key []byte) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(certificate, key)
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}, err
}

// TestADeviceLearnsOfTheNextAuthority asks over a server whose certificate the first
// authority has signed.
func TestADeviceLearnsOfTheNextAuthority(t *testing.T) {
	made := time.Now().Add(-7 * 365 * 24 * time.Hour)
	first, _, err := pki.Ring{}.Advance(made, pki.Usual)
	must(t, err)
	next, _, err := first.Advance(time.Now(), pki.Usual)
	must(t, err)
	seed, err := nkeys.CreateUser()
	must(t, err)
	raw, err := seed.Seed()
	must(t, err)
	keys, err := bus.KeysOf(raw)
	must(t, err)
	operator, err := keys.Signer.PublicKey()
	must(t, err)
	curve, err := keys.Curve.PublicKey()
	must(t, err)
	stranger, err := nkeys.CreateOperator()
	must(t, err)

	dir := t.TempDir()
	certificate, key, err := first.Issue([]string{"127.0.0.1"}, time.Now(), pki.Usual)
	must(t, err)
	config, err := serverTLS(certificate, key)
	must(t, err)
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true, AlwaysEnableNonce: true, TLSConfig: config})
	must(t, err)
	s.Start()
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats-server is not ready after 10 s")
	}
	url := "tls://127.0.0.1:" + strconv.Itoa(s.Addr().(*net.TCPAddr).Port)

	pem := func(r pki.Ring) string { return string(pki.EncodeCertificates(r.Trusted...)) }
	o := Options{Server: url, Device: "till-1", SeedFile: filepath.Join(dir, "identity.nk"), StateDir: dir, Log: slog.New(slog.DiscardHandler)}
	_, err = identity.Ensure(o.SeedFile)
	must(t, err)
	must(t, trust.Save(dir, trust.Trust{Operator: operator, CA: pem(first), Server: url, Device: "till-1"}))

	nc, err := bus.Connect(bus.Options{URL: url, Authorities: func() ([]byte, error) { return []byte(pem(first)), nil }})
	must(t, err)
	defer nc.Close()
	var says atomic.Pointer[string]
	var forged atomic.Bool
	say := func(text string) { says.Store(&text) }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- bus.ServeJoins(ctx, nc, func(_ context.Context, publicKey string, data []byte) ([]byte, error) {
			request, err := contracts.DecodeJoinRequest(data)
			if err != nil {
				return nil, err
			}
			signer, name := keys.Signer, operator
			if forged.Load() {
				signer = stranger
				if name, err = stranger.PublicKey(); err != nil {
					return nil, err
				}
			}
			return contracts.SignJoin(contracts.JoinStatement{
				Nonce: request.Nonce, PublicKey: publicKey, Operator: name, Curve: curve, CA: *says.Load(), Time: time.Now(), Standing: contracts.StandingApproved,
			}, signer)
		}, slog.New(slog.DiscardHandler))
	}()
	defer func() { cancel(); must(t, <-done) }()

	for _, step := range []struct {
		says    string
		changed bool
	}{{pem(first), false}, {pem(next), true}, {pem(next), false}} {
		say(step.says)
		changed, err := Authorities(t.Context(), o)
		must(t, err)
		kept, err := trust.Load(dir)
		must(t, err)
		if changed != step.changed || kept.CA != step.says || kept.Operator != operator {
			t.Errorf("changed %v, want %v; it trusts\n%s", changed, step.changed, kept.CA)
		}
	}

	forged.Store(true)
	say(pem(first))
	short, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	if _, err := Authorities(short, o); err == nil || !strings.Contains(err.Error(), "another operator's") {
		t.Errorf("a stranger's word is taken: %v", err)
	}
	if kept, err := trust.Load(dir); err != nil || kept.CA != pem(next) {
		t.Errorf("a stranger has changed what is trusted: %v", err)
	}
}
