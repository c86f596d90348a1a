package bus

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"

	"github.com/nationtech/fleet/contracts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testServer is a real nats-server with our configuration, which can be restarted.
type testServer struct {
	t      testing.TB
	config string
	store  string
	port   int
	server *server.Server
	// seeds by user: the operator is "", a device its ID.
	seeds map[string]string
	// authorities that the server is checked against; nil where it speaks in clear.
	authorities Authorities
	// operators are the operator's connections. They follow the server down and up, so
	// that what is published next is not lost between.
	operators []*nats.Conn
}

// start starts a server that knows an operator and the devices.
func start(t testing.TB, devices ...contracts.DeviceID) *testServer {
	t.Helper()
	s := &testServer{t: t, store: t.TempDir(), port: -1, seeds: map[string]string{}}
	auth := ServerAuth{Devices: map[contracts.DeviceID]string{}}
	for _, user := range append([]contracts.DeviceID{""}, devices...) {
		key, err := nkeys.CreateUser()
		must(t, err)
		seed, err := key.Seed()
		must(t, err)
		public, err := key.PublicKey()
		must(t, err)
		path := filepath.Join(t.TempDir(), "seed")
		must(t, os.WriteFile(path, seed, 0o600))
		s.seeds[string(user)] = path
		if user == "" {
			auth.OperatorKeys = []string{public}
		} else {
			auth.Devices[user] = public
		}
	}
	config, err := ServerConfig(auth)
	must(t, err)
	s.config = filepath.Join(t.TempDir(), "nats.conf")
	must(t, os.WriteFile(s.config, config, 0o600))
	s.up()
	t.Cleanup(func() { s.down() })
	return s
}

func (s *testServer) up() {
	s.t.Helper()
	// In a file, so that the server may be told to read it again.
	file := filepath.Join(filepath.Dir(s.config), "server.conf")
	must(s.t, os.WriteFile(file, fmt.Appendf(nil, "listen: \"127.0.0.1:%d\"\nstore_dir: %q\ninclude %q\n", s.port, s.store, filepath.Base(s.config)), 0o600))
	o, err := server.ProcessConfigFile(file)
	must(s.t, err)
	o.NoLog, o.NoSigs = true, true
	s.server, err = server.NewServer(o)
	must(s.t, err)
	s.server.Start()
	if !s.server.ReadyForConnections(10 * time.Second) {
		s.t.Fatal("nats-server is not ready after 10 s")
	}
	s.port = s.server.Addr().(*net.TCPAddr).Port
	for _, nc := range s.operators {
		if !nc.IsClosed() {
			s.await(nc)
		}
	}
}

func (s *testServer) await(nc *nats.Conn) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	must(s.t, Await(ctx, nc))
}

func (s *testServer) down() {
	s.server.Shutdown()
	s.server.WaitForShutdown()
	eventually(s.t, func() string {
		for _, nc := range s.operators {
			if nc.IsConnected() {
				return "an operator has not noticed that the server is gone"
			}
		}
		return ""
	})
}

// connect connects as a device, or as the operator when user is empty.
func (s *testServer) connect(user contracts.DeviceID) *nats.Conn {
	s.t.Helper()
	o := Options{URL: fmt.Sprintf("nats://127.0.0.1:%d", s.port), SeedFile: s.seeds[string(user)], Name: string(user), Logger: slog.New(slog.DiscardHandler), Authorities: s.authorities}
	if user != "" {
		o.Device = user
	}
	nc, err := Connect(o)
	must(s.t, err)
	s.t.Cleanup(nc.Close)
	s.await(nc)
	if user == "" {
		s.operators = append(s.operators, nc)
	}
	return nc
}

// operator connects as the operator, with every stream there.
func (s *testServer) operator() jetstream.JetStream {
	s.t.Helper()
	js, err := JetStream(s.connect(""))
	must(s.t, err)
	must(s.t, EnsureStreams(s.t.Context(), js, StreamOptions{}))
	return js
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until look returns "", and says what it last returned if it
// never does.
func eventually(t testing.TB, look func() string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		last := look()
		if last == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after 20 s: %s", last)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// told makes a valid value, which is the same for the same arguments.
func told(t testing.TB, name contracts.DeploymentName, n int) []byte {
	t.Helper()
	return valueOf(t, name, n, 1)
}

func valueOf(t testing.TB, name contracts.DeploymentName, n int, issued int64) []byte {
	t.Helper()
	score := contracts.ReconcileScore{Podman: &contracts.PodmanScore{
		RestartPolicy: "Always",
		Containers:    []contracts.Container{{Name: "app", Image: "example.org/app:1", PullPolicy: "IfNotPresent"}},
	}}
	data, err := contracts.Encode(contracts.DesiredState{
		Deployment: name, Namespace: "shops", Revision: fmt.Sprintf("%s-%d", name, n), Digest: score.Digest(),
		Generation: int64(n), Score: score, Issued: issued, Time: time.Unix(0, 0).UTC(),
	})
	must(t, err)
	return data
}

// issued numbers the orders of all tests.
var issued atomic.Int64

// order makes a signed one, newer than all before.
func order(t testing.TB, device contracts.DeviceID, name contracts.DeploymentName, n int) []byte {
	t.Helper()
	data, err := theOperator(t).Tell(device, name, valueOf(t, name, n, issued.Add(1)))
	must(t, err)
	return data
}

// withdrawal makes a signed order to remove, newer than all before.
func withdrawal(t testing.TB, device contracts.DeviceID, name contracts.DeploymentName) []byte {
	t.Helper()
	value, err := contracts.Encode(contracts.Withdrawal{Deployment: name, Issued: issued.Add(1)})
	must(t, err)
	data, err := theOperator(t).Withdraw(device, name, value)
	must(t, err)
	return data
}

// theOperator is the one whom devices trust, unless a test says otherwise.
func theOperator(t testing.TB) *contracts.Signer { return signer(t, 1) }

// signer makes a key to sign with; each number has its own.
func signer(t testing.TB, n byte) *contracts.Signer {
	t.Helper()
	pair, err := keyPair(nkeys.PrefixByteOperator, bytes.Repeat([]byte{n}, 32))
	must(t, err)
	s, err := contracts.NewSigner(pair)
	must(t, err)
	return s
}
