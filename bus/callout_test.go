package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleet/contracts"
)

// guarded is a server that asks an operator who may connect.
type guarded struct {
	*testServer
	keys     *Keys
	system   *nats.Conn
	expeller *Expeller

	mu sync.Mutex
	// admitted are the public keys of the devices.
	admitted map[contracts.DeviceID]string
}

func publicOf(t testing.TB, k nkeys.KeyPair) string {
	t.Helper()
	public, err := k.PublicKey()
	must(t, err)
	return public
}

func newSeed(t testing.TB) (file string, pair nkeys.KeyPair) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	must(t, err)
	seed, err := pair.Seed()
	must(t, err)
	file = filepath.Join(t.TempDir(), "seed")
	must(t, os.WriteFile(file, seed, 0o600))
	return file, pair
}

func startGuarded(t testing.TB, certificates ...*certificates) *guarded {
	t.Helper()
	seed, _ := newSeed(t)
	keys, err := ReadKeys(seed)
	must(t, err)
	s := &testServer{t: t, store: t.TempDir(), port: -1, seeds: map[string]string{"": seed}, config: filepath.Join(t.TempDir(), "nats.conf")}
	var tls *ServerTLS
	for _, c := range certificates {
		tls, s.authorities = c.files(), c.trusted
	}
	config, err := keys.ServerConfig(tls, nil, nil)
	must(t, err)
	must(t, os.WriteFile(s.config, config, 0o600))
	s.up()
	t.Cleanup(func() { s.down() })
	g := &guarded{testServer: s, keys: keys, admitted: map[contracts.DeviceID]string{}}
	system := g.dial(Options{Key: keys.System, Name: "operator"})
	must(t, awaitSoon(t, system))
	g.system, g.expeller = system, NewExpeller(system)
	return g
}

// awaitSoon waits for a connection that comes about.
func awaitSoon(t testing.TB, nc *nats.Conn) error {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := Await(ctx, nc); err != nil {
		return fmt.Errorf("%w; last error %w", err, nc.LastError())
	}
	return nil
}

func (g *guarded) dial(o Options) *nats.Conn {
	g.t.Helper()
	o.URL, o.Logger = fmt.Sprintf("nats://127.0.0.1:%d", g.port), slog.New(slog.DiscardHandler)
	if o.Authorities == nil {
		o.Authorities = g.authorities
	}
	nc, err := Connect(o)
	must(g.t, err)
	g.t.Cleanup(nc.Close)
	return nc
}

// admit is what an operator decides.
func (g *guarded) admit(c Caller) (time.Duration, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.Joining || g.admitted[c.Device] == c.Key {
		return 0, nil
	}
	return 0, errors.New("the device has another key")
}

// answer has an operator answer until the returned function is called.
func (g *guarded) answer() func() {
	g.t.Helper()
	nc := g.connect("")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ServeCallout(ctx, nc, g.keys.Issuer, g.admit, slog.New(slog.DiscardHandler)) }()
	eventually(g.t, func() string {
		if nc.NumSubscriptions() == 0 {
			return "nobody answers"
		}
		return ""
	})
	must(g.t, nc.Flush())
	return sync.OnceFunc(func() {
		cancel()
		must(g.t, <-done)
		nc.Close()
	})
}

// device makes a device that may connect.
func (g *guarded) device(id contracts.DeviceID) Options {
	g.t.Helper()
	pair, err := nkeys.CreateUser()
	must(g.t, err)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.admitted[id] = publicOf(g.t, pair)
	return Options{Key: pair, Name: string(id), Device: id}
}

// revoke has a device be admitted no longer, and returns who it was.
func (g *guarded) revoke(id contracts.DeviceID) Caller {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer delete(g.admitted, id)
	return Caller{Device: id, Key: g.admitted[id]}
}

// refused checks that nobody gets in with the options, although an operator answers.
func (g *guarded) refused(options ...nats.Option) {
	g.t.Helper()
	nc, err := nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", g.port), append(options, nats.MaxReconnects(0))...)
	if err == nil {
		nc.Close()
		g.t.Error("it is let in")
	} else if !errors.Is(err, nats.ErrAuthorization) && !strings.Contains(strings.ToLower(err.Error()), "authorization") {
		g.t.Errorf("it fails with %v, want a refusal", err)
	}
}

func TestTheOperatorSaysWhoMayConnect(t *testing.T) {
	g := startGuarded(t)
	defer g.answer()()
	options := g.device("till-1")
	denied := make(chan error, 8)
	nc := g.dial(options)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err })
	must(t, awaitSoon(t, nc))

	heard, err := nc.SubscribeSync(contracts.CommandSubject("till-1", "*"))
	must(t, err)
	must(t, nc.Publish(contracts.BucketDeviceHeartbeat.Subject(contracts.HeartbeatKey("till-1")), []byte("{}")))
	must(t, nc.Flush())
	if len(denied) > 0 {
		t.Errorf("its own subjects are denied: %v", <-denied)
	}
	operator := g.connect("")
	must(t, operator.PublishRequest(contracts.CommandSubject("till-1", contracts.VerbPing), "_INBOX.x", nil))
	m, err := heard.NextMsg(5 * time.Second)
	must(t, err)
	must(t, m.Respond(nil))
	must(t, nc.Publish(contracts.BucketDeviceHeartbeat.Subject(contracts.HeartbeatKey("till-2")), []byte("{}")))
	_, err = nc.SubscribeSync(contracts.DesiredStateSubject("till-2", "*"))
	must(t, err)
	for range 2 {
		select {
		case err := <-denied:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("it is told %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("another's subjects are not denied")
		}
	}

	stranger, err := nkeys.CreateUser()
	must(t, err)
	as := func(token string, key nkeys.KeyPair, sign nats.SignatureHandler) []nats.Option {
		return []nats.Option{nats.Nkey(publicOf(t, key), sign), nats.Token(token)}
	}
	till := options.Key
	for name, options := range map[string][]nats.Option{
		"a key that the device has not":                    as("device.till-1", stranger, stranger.Sign),
		"a device that there is not":                       as("device.till-9", till, till.Sign),
		"a device's key without its secret":                as("device.till-1", till, stranger.Sign),
		"a signature of something else":                    as("device.till-1", till, func([]byte) ([]byte, error) { return till.Sign([]byte("something else")) }),
		"joining with another's key":                       as("joining.till-1", till, stranger.Sign),
		"a role that there is not":                         as("operator.till-1", till, till.Sign),
		"all devices":                                      as("device.*", till, till.Sign),
		"no device":                                        {nats.Nkey(publicOf(t, till), till.Sign)},
		"no key at all":                                    nil,
		"no key, and a token":                              {nats.Token("device.till-1")},
		"a name and a password":                            {nats.UserInfo("till-1", "till-1")},
		"the operator's key without its secret":            {nats.Nkey(publicOf(t, g.keys.User), stranger.Sign)},
		"the operator's key without its secret, by a name": as("device.till-1", g.keys.User, stranger.Sign),
	} {
		t.Run(name, func(t *testing.T) { g.refused(options...) })
	}
}

func TestWhoJoinsMayAskAndNothingElse(t *testing.T) {
	g := startGuarded(t)
	defer g.answer()()
	operator := g.connect("")
	_, err := operator.QueueSubscribe(contracts.JoinPrefix+".*", contracts.JoinPrefix, func(m *nats.Msg) { _ = m.Respond([]byte(m.Subject)) })
	must(t, err)
	must(t, operator.Flush())
	pair, err := nkeys.CreateUser()
	must(t, err)
	key := publicOf(t, pair)
	nc := g.dial(Options{Key: pair, Device: "till-1", Joining: true})
	must(t, awaitSoon(t, nc))
	m, err := nc.Request(contracts.JoinSubject(key), nil, 5*time.Second)
	must(t, err)
	if want := contracts.JoinSubject(key); string(m.Data) != want {
		t.Errorf("the operator was asked by %s, want %s", m.Data, want)
	}
	denied := make(chan error, 64)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err })
	other := publicOf(t, g.keys.User)
	publish := append(DevicePermissions("till-1").Publish, contracts.JoinSubject(other), contracts.JoinSubject("x"))
	subscribe := append(DevicePermissions("till-1").Subscribe, contracts.JoinPrefix+".*", contracts.JoinSubject(key), "_INBOX_"+other+".>", ">")
	for _, subject := range publish {
		must(t, nc.Publish(strings.ReplaceAll(subject, "*", "x"), nil))
	}
	for _, subject := range subscribe {
		_, err := nc.SubscribeSync(subject)
		must(t, err)
	}
	for range len(publish) + len(subscribe) {
		select {
		case <-denied:
		case <-time.After(5 * time.Second):
			t.Fatal("something is not denied")
		}
	}
}

func TestWithoutAnOperatorConnectionsStay(t *testing.T) {
	g := startGuarded(t)
	stop := g.answer()
	nc := g.dial(g.device("till-1"))
	must(t, awaitSoon(t, nc))
	stop()
	must(t, nc.Flush())
	late := g.dial(g.device("till-2"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := Await(ctx, late); err == nil {
		t.Error("somebody is let in whom nobody has admitted")
	}
	defer g.answer()()
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	must(t, Await(ctx, late))
	if !nc.IsConnected() || nc.Reconnects > 0 {
		t.Errorf("the first was disconnected: %v, %d times", nc.Status(), nc.Reconnects)
	}
}

// Of a thousand devices, some are revoked one after the other.
func TestRevokedIsDisconnected(t *testing.T) {
	const devices, revoked = 1200, 100 // more than a page of the server's list
	g := startGuarded(t)
	defer g.answer()()
	conns := make([]*nats.Conn, devices)
	lost := make([]chan time.Time, devices)
	for n := range conns {
		conns[n] = g.dial(g.device(contracts.DeviceID(fmt.Sprintf("till-%d", n))))
		lost[n] = make(chan time.Time, 1000)
		conns[n].SetDisconnectErrHandler(func(*nats.Conn, error) { lost[n] <- time.Now() })
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for _, nc := range conns {
		must(t, Await(ctx, nc))
	}
	var took []time.Duration
	var expelling sync.WaitGroup
	for n := range revoked {
		id := contracts.DeviceID(fmt.Sprintf("till-%d", n))
		begun := time.Now()
		gone := g.revoke(id)
		expelling.Go(func() {
			if err := g.expeller.Expel(ctx, gone); err != nil {
				t.Error(err)
			}
		})
		select {
		case at := <-lost[n]:
			took = append(took, at.Sub(begun))
		case <-time.After(10 * time.Second):
			t.Fatalf("%s is still connected", id)
		}
	}
	expelling.Wait()
	slices.Sort(took)
	t.Logf("from revocation to disconnection with %d devices connected: p50 %v, p99 %v", devices, took[revoked/2], took[revoked*99/100])
	if p99 := took[revoked*99/100]; p99 > time.Second {
		t.Errorf("it takes %v at p99", p99)
	}
	// Those whose revocation nobody saw, such as while no operator ran.
	for n := revoked; n < revoked+10; n++ {
		g.revoke(contracts.DeviceID(fmt.Sprintf("till-%d", n)))
	}
	must(t, g.expeller.Sweep(ctx, func(c Caller) bool {
		_, err := g.admit(c)
		return err == nil
	}))
	for n := revoked; n < revoked+10; n++ {
		select {
		case <-lost[n]:
		case <-time.After(5 * time.Second):
			t.Fatal("a sweep leaves some connected")
		}
	}
	// They try again and again, and stay out.
	for n, nc := range conns {
		out := n < revoked+10
		if out && nc.IsConnected() {
			t.Errorf("till-%d is back", n)
		}
		if !out && (!nc.IsConnected() || len(lost[n]) > 0) {
			t.Errorf("till-%d was disconnected", n)
		}
	} // One after the other it takes 40 ms each.
	var closing sync.WaitGroup
	for _, nc := range conns {
		closing.Go(nc.Close)
	}
	closing.Wait()
}
