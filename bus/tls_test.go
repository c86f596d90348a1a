package bus

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/nationtech/fleet/pki"
)

// certificates are a server's on disk, and what it is checked against.
type certificates struct {
	t    testing.TB
	ring pki.Ring
	dir  string
}

// newCertificates are signed by an authority of some age.
func newCertificates(t testing.TB, age time.Duration) *certificates {
	t.Helper()
	ring, _, err := pki.Ring{}.Advance(time.Now().Add(-age), pki.Usual)
	must(t, err)
	c := &certificates{t: t, ring: ring, dir: t.TempDir()}
	c.write(ring)
	return c
}

// write has the server present what the ring signs, when it reads its files again.
func (c *certificates) write(ring pki.Ring) {
	c.t.Helper()
	certificate, key, err := ring.Issue([]string{"localhost", "127.0.0.1"}, time.Now(), pki.Usual)
	must(c.t, err)
	must(c.t, os.WriteFile(c.files().CertFile, certificate, 0o600))
	must(c.t, os.WriteFile(c.files().KeyFile, key, 0o600))
}

func (c *certificates) files() *ServerTLS {
	return &ServerTLS{CertFile: filepath.Join(c.dir, "tls.crt"), KeyFile: filepath.Join(c.dir, "tls.key")}
}

// trusted is what a client trusts that was told everything.
func (c *certificates) trusted() ([]byte, error) {
	return pki.EncodeCertificates(c.ring.Trusted...), nil
}

// trust writes what a client trusts into a file.
func (c *certificates) trust(all ...*x509.Certificate) string {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "ca.crt")
	must(c.t, os.WriteFile(file, pki.EncodeCertificates(all...), 0o600))
	return file
}

// complaint is what a connection says that does not come about.
func complaint(t testing.TB, o Options) string {
	t.Helper()
	log := &lockedBuffer{}
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	nc, err := Connect(o)
	if err != nil {
		return err.Error()
	}
	defer nc.Close()
	eventually(t, func() string {
		if nc.IsConnected() {
			t.Fatal("it is connected")
		}
		if !strings.Contains(log.String(), "can't connect") {
			return "nothing is said: " + log.String()
		}
		return ""
	})
	return log.String()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func runServer(t testing.TB, config *tls.Config) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true, TLSConfig: config})
	must(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats-server is not ready after 10 s")
	}
	return fmt.Sprintf("localhost:%d", s.Addr().(*net.TCPAddr).Port)
}

func TestWhatIsWrongWithTLSIsSaid(t *testing.T) {
	now := time.Now()
	issued := func(from, until time.Time, names ...string) (*tls.Config, *x509.Certificate) {
		a, err := pki.NewAuthority(now.Add(-10*24*time.Hour), now.Add(10*24*time.Hour))
		must(t, err)
		c, key, err := a.Issue(names, from, until)
		must(t, err)
		return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{c.Raw}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}, a.Certificate
	}
	hour := time.Hour
	good, authority := issued(now.Add(-hour), now.Add(hour), "localhost")
	expired, ofExpired := issued(now.Add(-2*hour), now.Add(-hour), "localhost")
	early, ofEarly := issued(now.Add(hour), now.Add(2*hour), "localhost")
	misnamed, ofMisnamed := issued(now.Add(-hour), now.Add(hour), "nats.example.com", "10.0.0.1")
	old := good.Clone()
	old.MaxVersion = tls.VersionTLS12

	file := (&certificates{t: t}).trust
	empty := filepath.Join(t.TempDir(), "empty")
	must(t, os.WriteFile(empty, []byte("hello"), 0o600))
	web := runWebSocketInClear(t)
	clock := now.UTC().Format("2006-01-02T15")
	for name, tt := range map[string]struct {
		config *tls.Config
		url    string
		ca     string
		want   []string
	}{
		"expired":           {expired, "", file(ofExpired), []string{"the certificate of the server has held until", "clock of this machine says " + clock, "renewed"}},
		"not yet valid":     {early, "", file(ofEarly), []string{"the certificate of the server holds from", "clock of this machine says " + clock, "NTP"}},
		"another's":         {good, "", file(ofExpired), []string{"is signed by", "fleet authority", "not trusted here"}},
		"the system's":      {good, "tls://", "", []string{"is signed by", "fleet authority", "not trusted here"}},
		"wrong name":        {misnamed, "", file(ofMisnamed), []string{"is not for localhost but for nats.example.com, 10.0.0.1"}},
		"in clear":          {nil, "", file(authority), []string{"the server speaks without TLS"}},
		"TLS 1.2":           {old, "", file(authority), []string{"does not speak TLS 1.3"}},
		"not TLS at all":    {nil, "wss://" + web, file(authority), []string{"what answers does not speak TLS"}},
		"no such CA file":   {nil, "", "/does/not/exist", []string{"read the certificates", "no such file"}},
		"a CA file of junk": {nil, "", empty, []string{empty, "no certificate as PEM"}},
	} {
		t.Run(name, func(t *testing.T) {
			url := tt.url
			if !strings.HasSuffix(url, web) {
				url += runServer(t, tt.config)
			}
			got := complaint(t, Options{URL: url, CAFile: tt.ca})
			for _, want := range tt.want {
				if !strings.Contains(strings.ReplaceAll(got, `\"`, `"`), want) {
					t.Errorf("%q is not in\n%s", want, got)
				}
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		nc, err := Connect(Options{URL: runServer(t, good), CAFile: file(authority)})
		must(t, err)
		defer nc.Close()
		must(t, awaitSoon(t, nc))
		state, err := nc.TLSConnectionState()
		must(t, err)
		if state.Version != tls.VersionTLS13 {
			t.Errorf("it speaks %s", tls.VersionName(state.Version))
		}
	})
}

func runWebSocketInClear(t testing.TB) string {
	t.Helper()
	o := &server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true}
	o.Websocket.Host, o.Websocket.Port, o.Websocket.NoTLS = "127.0.0.1", -1, true
	s, err := server.NewServer(o)
	must(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats-server is not ready after 10 s")
	}
	_, port, err := net.SplitHostPort(strings.TrimPrefix(s.WebsocketURL(), "ws://"))
	must(t, err)
	return net.JoinHostPort("localhost", port)
}

// TestNothingLeavesTheMachineInClear decides by the URL alone.
func TestNothingLeavesTheMachineInClear(t *testing.T) {
	for urls, want := range map[string]bool{
		"nats://127.0.0.1:4222": true, "localhost": true, "ws://[::1]:80": true, "nats://localhost, nats://127.0.0.2": true,
		"nats://fleet-nats:4222": false, "nats://localhost,nats://10.0.0.1": false, "tls://localhost": false, "wss://127.0.0.1": false,
	} {
		if got, err := staysHere(urls); err != nil || got != want {
			t.Errorf("%s: %v, %v", urls, got, err)
		}
	}
	if _, err := staysHere("nats://a b"); err == nil {
		t.Error("what is no URL is taken for one")
	}
}

func TestWhatIsTrustedMayChange(t *testing.T) {
	c := newCertificates(t, 0)
	g := startGuarded(t, c)
	other := newCertificates(t, 0)
	var mu sync.Mutex
	trusted := pki.EncodeCertificates(other.ring.Trusted...)
	nc, err := Connect(Options{URL: fmt.Sprintf("nats://127.0.0.1:%d", g.port), Key: g.keys.User, Authorities: func() ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		return trusted, nil
	}})
	must(t, err)
	defer nc.Close()
	eventually(t, func() string {
		if !errors.As(nc.LastError(), new(x509.UnknownAuthorityError)) {
			return fmt.Sprint("its last error is ", nc.LastError())
		}
		return ""
	})
	mu.Lock()
	trusted = pki.EncodeCertificates(c.ring.Trusted...)
	mu.Unlock()
	must(t, awaitSoon(t, nc))
}
