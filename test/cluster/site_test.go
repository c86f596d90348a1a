package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/setup"
	"github.com/nationtech/fleet/pki"
	"github.com/nationtech/fleet/test/simulated"
)

// TestSite has devices connect to a server of their site, which is a leaf node of the
// operator's.
func TestSite(t *testing.T) {
	const count = 5
	pair, err := nkeys.CreateUser()
	must(t, err)
	public, err := pair.PublicKey()
	must(t, err)
	seed, err := pair.Seed()
	must(t, err)
	w := newWorld(t, 1, map[string]string{"montreal": public})
	site := w.site("montreal", seed, nil)
	agents := w.agents(count, app, site.url())
	elsewhere := w.agents(1, "elsewhere", w.urls())
	w.deploy(app)
	w.consistent(agents, app, w.complete(app, count))
	w.deploy("elsewhere")
	w.consistent(elsewhere, "elsewhere", w.complete("elsewhere", 1))
	for _, a := range agents {
		if a.Server() != site.url() {
			t.Errorf("%s is connected to %s, want the site's server", a.ID, a.Server())
		}
	}

	t.Run("the operator's commands reach a device", func(t *testing.T) {
		if _, err := bus.NewCommander(w.ops, slog.New(slog.DiscardHandler)).Ping(t.Context(), agents[0].ID); err != nil {
			t.Error(err)
		}
	})
	t.Run("a device reaches nothing of another's", func(t *testing.T) { w.confined(t, agents[0], agents[1], site) })
	t.Run("a key that is no device's is not let in", func(t *testing.T) {
		stranger, err := nkeys.CreateUser()
		must(t, err)
		refused := make(chan struct{}, 16)
		nc, err := bus.Connect(bus.Options{URL: site.url(), Key: stranger, CAFile: w.ca(), Device: agents[0].ID, OnRefused: func() { refused <- struct{}{} }})
		must(t, err)
		defer nc.Close()
		until(t, "it is refused", func(context.Context) error {
			if nc.IsConnected() {
				t.Fatal("it is let in")
			}
			if len(refused) == 0 {
				return nc.LastError()
			}
			return nil
		})
	})
	t.Run("the site's key opens nothing to a client", func(t *testing.T) {
		nc, err := nats.Connect(w.urls(), nats.RootCAs(w.ca()), nats.Nkey(public, pair.Sign))
		if err == nil {
			nc.Close()
		}
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%v, want %v", err, nats.ErrAuthorization)
		}
	})
	t.Run("when the connection of the site is back, devices go on", func(t *testing.T) {
		w.nodes[0].kill(t)
		w.nodes[0].start(t)
		begun := time.Now()
		until(t, "its devices are heard", func(ctx context.Context) error {
			stream, err := w.js.Stream(ctx, contracts.BucketDeviceHeartbeat.Stream())
			if err != nil {
				return err
			}
			m, err := stream.GetLastMsgForSubject(ctx, contracts.BucketDeviceHeartbeat.Subject(contracts.HeartbeatKey(agents[0].ID)))
			if err == nil && m.Time.Before(begun) {
				err = fmt.Errorf("the last was at %s", m.Time)
			}
			return err
		})
		w.roll(app, image(2), "100%")
		w.consistent(agents, app, w.complete(app, count))
	})
	site.kill(t)
	t.Run("a stolen site's server is no operator", func(t *testing.T) { w.stolen(t, seed, elsewhere[0]) })
}

// site starts a site's server; change, when there is one, changes its configuration.
func (w *world) site(name string, seed []byte, change func(map[string]any)) *process {
	w.Helper()
	p := &process{Name: name, Config: filepath.Join(w.dir, name+".conf"), Dir: w.dir, Port: freePort(w)}
	fleet, err := os.ReadFile(filepath.Join(w.dir, setup.ConfigFile))
	must(w.T, err)
	issuer, err := bus.IssuerOf(fleet)
	must(w.T, err)
	secret := &corev1.Secret{}
	must(w.T, w.client.Get(w.Context(), client.ObjectKey{Namespace: system, Name: setup.SecretAuthority}, secret))
	ring, err := pki.ParseRing(secret.Data)
	must(w.T, err)
	certificate, key, err := ring.Issue([]string{"localhost"}, time.Now(), pki.Usual)
	must(w.T, err)
	tls := bus.ServerTLS{CertFile: p.Config + ".crt", KeyFile: p.Config + ".key", CAFile: w.ca()}
	must(w.T, errors.Join(os.WriteFile(tls.CertFile, certificate, 0o600), os.WriteFile(tls.KeyFile, key, 0o600)))
	config, err := bus.SiteConfig(bus.SiteOptions{Name: "montreal", Hub: []string{fmt.Sprintf("tls://localhost:%d", w.nodes[0].LeafPort)}, Issuer: issuer, Seed: seed, TLS: tls})
	must(w.T, err)
	if change != nil {
		var c map[string]any
		must(w.T, json.Unmarshal(config, &c))
		change(c)
		var out bytes.Buffer
		e := json.NewEncoder(&out)
		e.SetEscapeHTML(false)
		must(w.T, e.Encode(c))
		config = out.Bytes()
	}
	must(w.T, os.WriteFile(p.Config, config, 0o600))
	p.start(w)
	w.Cleanup(func() {
		p.kill(w)
		if log, err := os.ReadFile(filepath.Join(w.dir, name+".log")); err == nil && w.Failed() && testing.Verbose() {
			w.Logf("%s:\n%s", name, log)
		}
	})
	return p
}

// confined tries, as one device, to get at what is another's.
func (w *world) confined(t *testing.T, self, other *simulated.Agent, site *process) {
	seed, err := self.Seed()
	must(t, err)
	key, err := nkeys.FromSeed(seed)
	must(t, err)
	nc, err := bus.Connect(bus.Options{URL: site.url(), Key: key, CAFile: w.ca(), Device: self.ID})
	must(t, err)
	defer nc.Close()
	var mu sync.Mutex
	denied := 0
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrPermissionViolation) {
			mu.Lock()
			denied++
			mu.Unlock()
		}
	})
	until(t, "it is let in as itself", func(context.Context) error {
		if !nc.IsConnected() {
			return nc.LastError()
		}
		return nil
	})
	report := contracts.DeviceStateKey(other.ID, app)
	before := string(w.stored(contracts.BucketDeviceState, report))
	want := 0
	for _, subject := range []string{">", contracts.DesiredStateSubject(other.ID, "*"), contracts.DesiredStatePrefix + ".>", "_INBOX_" + string(other.ID) + ".>", contracts.CommandSubject(other.ID, "*"), "$SYS.REQ.USER.AUTH"} {
		_, err := nc.Subscribe(subject, func(m *nats.Msg) { t.Errorf("it hears %s", m.Subject) })
		must(t, err)
		want++
	}
	for _, subject := range []string{
		contracts.BucketDeviceState.Subject(report), contracts.BucketDeviceHeartbeat.Subject(contracts.HeartbeatKey(other.ID)), contracts.SnapshotSubject(other.ID),
		contracts.BucketDesiredState.Subject(contracts.DesiredStateKey(self.ID, app)), contracts.DesiredStateSubject(other.ID, app), "$SYS.REQ.USER.AUTH", "$JS.API.STREAM.NAMES",
	} {
		must(t, nc.Publish(subject, []byte(`{"v":1}`)))
		want++
	}
	until(t, "all of it is refused", func(context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		if denied < want {
			return fmt.Errorf("%d of %d", denied, want)
		}
		return nil
	})
	if after := string(w.stored(contracts.BucketDeviceState, report)); after != before {
		t.Errorf("another's report was\n  %s\nand is\n  %s", before, after)
	}
}

// stolen does, with the key of a site's server, what that server never would, to a device
// that is not at the site. What it can do is held to what docs/security.md says of it.
func (w *world) stolen(t *testing.T, seed []byte, other *simulated.Agent) {
	evil := w.site("stolen", seed, func(config map[string]any) {
		// Its own clients it lets in as it likes.
		delete(config, "authorization")
		config["accounts"].(map[string]any)[bus.AccountDevices] = map[string]any{"users": []any{map[string]any{"user": "thief", "password": "thief"}}}
	})
	var nc *nats.Conn
	until(t, "its own client is let in", func(context.Context) (err error) {
		nc, err = nats.Connect(evil.url(), nats.RootCAs(w.ca()), nats.UserInfo("thief", "thief"), nats.NoEcho())
		return err
	})
	defer nc.Close()
	var mu sync.Mutex
	heard := map[string]bool{}
	_, err := nc.Subscribe(">", func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		heard[m.Subject] = true
	})
	must(t, err)
	name := contracts.DeploymentName("elsewhere")
	order := contracts.DesiredStateKey(other.ID, name)
	forge := func() error {
		_, err := nc.Request("fleet.site.montreal.KV.device-state.state."+string(other.ID)+".forged", []byte(`{"v":1}`), time.Second)
		return err
	}
	until(t, "it is connected: it can forge a report", func(context.Context) error { return forge() })

	before := string(w.stored(contracts.BucketDesiredState, order))
	for _, subject := range []string{
		contracts.BucketDesiredState.Subject(order), "fleet.site.montreal.KV.desired-state." + order, contracts.DesiredStateSubject(other.ID, name), contracts.CommandSubject(other.ID, "restart"),
		"$JS.API.STREAM.DELETE." + contracts.BucketDesiredState.Stream(), "$JS.API.STREAM.PURGE." + contracts.BucketDeviceState.Stream(),
	} {
		must(t, nc.Publish(subject, []byte(before)))
	}
	// What was sent before it has arrived.
	must(t, forge())
	if after := string(w.stored(contracts.BucketDesiredState, order)); after != before {
		t.Errorf("what a device is told was\n  %s\nand is\n  %s", before, after)
	}
	// Another one comes, and says all that a device says.
	w.agents(1, "late", w.urls())
	w.deploy("late")
	w.complete("late", 1)
	w.roll("elsewhere", image(2), "100%")
	w.consistent([]*simulated.Agent{other}, "elsewhere", w.complete("elsewhere", 1))
	mu.Lock()
	defer mu.Unlock()
	for subject := range heard {
		for _, prefix := range []string{"$KV.", "fleet.site.", contracts.SnapshotPrefix, contracts.SessionPrefix, contracts.JoinPrefix} {
			if strings.HasPrefix(subject, prefix) {
				t.Errorf("it hears %s of a device elsewhere", subject)
			}
		}
	}
	if !heard[contracts.DesiredStateSubject(other.ID, name)] {
		t.Error("it does not hear what devices elsewhere are told: docs/security.md says that it does")
	}
}
