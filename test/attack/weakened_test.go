package attack

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/env"
)

// These show that the attempts do harm where what stops them is missing, and so that a
// test that found none would have found some.

// weak is a server on which everybody is in one account, with the permissions that a
// device has otherwise, and buckets as they are made when nobody says how.
type weak struct {
	operator, attacker *nats.Conn
	js                 jetstream.JetStream
}

func newWeak(t *testing.T) weak {
	t.Helper()
	p := bus.DevicePermissions("attacker")
	users := []any{map[string]any{"user": "operator", "password": "x"}}
	users = append(users, map[string]any{"user": "attacker", "password": "x", "permissions": map[string]any{"publish": p.Publish, "subscribe": p.Subscribe}})
	config, err := json.Marshal(map[string]any{"listen": "127.0.0.1:-1", "jetstream": "enabled", "store_dir": t.TempDir(), "authorization": map[string]any{"users": users}})
	must(t, err)
	file := filepath.Join(t.TempDir(), "nats.conf")
	must(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(config), `\u003e`, ">")), 0o600))
	o, err := server.ProcessConfigFile(file)
	must(t, err)
	o.NoLog, o.NoSigs = true, true
	s, err := server.NewServer(o)
	must(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(limit) {
		t.Fatal("nats-server is not ready")
	}
	connect := func(user string) *nats.Conn {
		nc, err := nats.Connect(s.ClientURL(), nats.UserInfo(user, "x"), nats.CustomInboxPrefix("_INBOX_"+user))
		must(t, err)
		t.Cleanup(nc.Close)
		return nc
	}
	w := weak{operator: connect("operator"), attacker: connect("attacker")}
	w.js, err = jetstream.New(w.operator)
	must(t, err)
	for _, bucket := range []contracts.Bucket{contracts.BucketDesiredState, contracts.BucketDeviceState} {
		_, err := w.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: string(bucket)})
		must(t, err)
	}
	return w
}

func (w weak) put(t *testing.T, subject, value string) {
	t.Helper()
	_, err := w.js.Publish(t.Context(), subject, []byte(value))
	must(t, err)
}

// last is the value of a key; empty for none.
func (w weak) last(t *testing.T, bucket contracts.Bucket, subject string) string {
	t.Helper()
	stream, err := w.js.Stream(t.Context(), bucket.Stream())
	must(t, err)
	m, err := stream.GetLastMsgForSubject(t.Context(), subject)
	if err != nil {
		return ""
	}
	return string(m.Data)
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	must(t, env.Until(t.Context(), limit, what, func(context.Context) error {
		if !check() {
			return errors.New("it does not happen")
		}
		return nil
	}))
}

func TestInOneAccountAnAnswerOverwritesWhatAnotherIsTold(t *testing.T) {
	w := newWeak(t)
	victim := contracts.BucketDesiredState.Subject("victim." + app)
	w.put(t, victim, "an order")
	must(t, w.attacker.PublishRequest(keyOf(contracts.BucketDeviceState, "attacker", app), victim, forged("attacker")[contracts.BucketDeviceState]))
	eventually(t, "the order is overwritten", func() bool { return w.last(t, contracts.BucketDesiredState, victim) != "an order" })
}

func TestABucketWithRollUpLosesWhatOthersHaveSaid(t *testing.T) {
	w := newWeak(t)
	victim := keyOf(contracts.BucketDeviceState, "victim", app)
	w.put(t, victim, "a report")
	must(t, w.attacker.PublishMsg(&nats.Msg{
		Subject: keyOf(contracts.BucketDeviceState, "attacker", app), Header: nats.Header{"Nats-Rollup": {"all"}}, Data: forged("attacker")[contracts.BucketDeviceState],
	}))
	eventually(t, "the report is gone", func() bool { return w.last(t, contracts.BucketDeviceState, victim) == "" })
}

// TestAnAgentThatDoesNotVerifyObeysTheBroker has a broker say what the operator has not:
// who looks at the headers alone obeys, and the agent's own reader does not.
func TestAnAgentThatDoesNotVerifyObeysTheBroker(t *testing.T) {
	w := newWeak(t)
	pair, err := nkeys.CreateOperator()
	must(t, err)
	operator, err := contracts.NewSigner(pair)
	must(t, err)
	other, err := nkeys.CreateOperator()
	must(t, err)
	forger, err := contracts.NewSigner(other)
	must(t, err)
	score := contracts.ReconcileScore{Podman: &contracts.PodmanScore{RestartPolicy: "Always", Containers: []contracts.Container{{Name: "c", Image: "evil:1", PullPolicy: "Always"}}}}
	order := func(by *contracts.Signer, deployment contracts.DeploymentName) []byte {
		value := encode(contracts.DesiredState{Deployment: deployment, Namespace: "shops", Revision: "app-1", Digest: score.Digest(), Score: score, Issued: 1})
		data, err := by.Tell("victim", deployment, value)
		must(t, err)
		return data
	}
	_, err = w.operator.Subscribe(contracts.SnapshotSubject("victim"), func(m *nats.Msg) { _ = m.Respond(encode(contracts.Snapshot{Entries: []contracts.SnapshotEntry{}})) })
	must(t, err)

	var naive, evil, good atomic.Int64
	_, err = w.operator.Subscribe(contracts.DesiredStateSubject("victim", "*"), func(m *nats.Msg) {
		if envelope, err := contracts.DecodeEnvelope(m.Data); err == nil {
			if o, err := envelope.Order(m.Data, app); err == nil && o.Desired != nil {
				naive.Add(1)
			}
		}
	})
	must(t, err)
	mirror := bus.NewMirror(w.operator, "victim", bus.MirrorOptions{Operator: operator.Public(), Logger: slog.New(slog.DiscardHandler),
		OnChange: func(orders map[contracts.DeploymentName]contracts.Order) {
			if _, ok := orders[app]; ok {
				evil.Add(1)
			}
			if _, ok := orders["last"]; ok {
				good.Add(1)
			}
		}})
	running := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { running <- mirror.Run(ctx) }()
	send := func(deployment contracts.DeploymentName, data []byte) {
		must(t, w.operator.PublishMsg(&nats.Msg{Subject: contracts.DesiredStateSubject("victim", deployment), Data: data, Header: nats.Header{
			jetstream.StreamHeader: {contracts.BucketDesiredState.Stream()}, jetstream.SubjectHeader: {contracts.BucketDesiredState.Subject("victim." + string(deployment))},
		}}))
	}
	send(app, order(forger, app))
	eventually(t, "who does not verify obeys", func() bool { return naive.Load() > 0 })
	// What the operator has signed comes after it, again until the mirror listens.
	eventually(t, "the mirror takes what the operator has signed", func() bool {
		send(app, order(forger, app))
		send("last", order(operator, "last"))
		return good.Load() > 0
	})
	stop()
	must(t, <-running)
	if n := evil.Load(); n > 0 {
		t.Errorf("the mirror obeys the broker %d times", n)
	}
}
