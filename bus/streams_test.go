package bus

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleet/contracts"
)

var buckets = []contracts.Bucket{
	contracts.BucketDesiredState, contracts.BucketDeviceState, contracts.BucketDeviceInfo, contracts.BucketDeviceHeartbeat,
}

func TestStreamsHaveNothingThatADeviceCouldTurnAgainstOthers(t *testing.T) {
	js := start(t).operator()
	for _, bucket := range buckets {
		stream, err := js.Stream(t.Context(), bucket.Stream())
		must(t, err)
		c := stream.CachedInfo().Config
		if c.AllowRollup || c.AllowMsgTTL || c.AllowMsgSchedules || c.AllowAtomicPublish || c.AllowMsgCounter || c.AllowDirect {
			t.Errorf("%s allows more than it should: %+v", bucket, c)
		}
		if !c.DenyDelete || !c.DenyPurge {
			t.Errorf("%s: deny delete %v, deny purge %v", bucket, c.DenyDelete, c.DenyPurge)
		}
		// Of the other buckets each device has one key, of desired state none.
		if bucket == contracts.BucketDeviceState && (c.MaxBytes <= 0 || c.MaxMsgs <= 0 || c.Discard != jetstream.DiscardOld) {
			t.Errorf("%s: a device can fill the disk: %+v", bucket, c)
		}
		if c.MaxMsgsPerSubject != 1 || c.MaxMsgSize <= 0 || c.MaxConsumers <= 0 {
			t.Errorf("%s is not bounded: %+v", bucket, c)
		}
	}
}

func TestStreamsAreSetUpAgainWithoutLosingWhatTheyHold(t *testing.T) {
	js := start(t).operator()
	subject := contracts.BucketDesiredState.Subject("a.app")
	_, err := js.Publish(t.Context(), subject, told(t, "app", 1))
	must(t, err)
	must(t, EnsureStreams(t.Context(), js, StreamOptions{}))
	stream, err := js.Stream(t.Context(), contracts.BucketDesiredState.Stream())
	must(t, err)
	if _, err := stream.GetLastMsgForSubject(t.Context(), subject); err != nil {
		t.Fatal(err)
	}
}

// TestADeviceThatWritesWithoutEndStopsNobody has one device invent deployments.
func TestADeviceThatWritesWithoutEndStopsNobody(t *testing.T) {
	s := start(t, "a", "b")
	js := s.operator()
	const limit = 64 << 10
	// A stream that is there already is brought to the limit, too.
	must(t, EnsureStreams(t.Context(), js, StreamOptions{StateBytes: limit}))
	a := s.connect("a")
	for _, value := range [][]byte{nil, make([]byte, contracts.MaxDeviceStateSize)} {
		for n := range 2 * limit / smallState {
			if len(value) > 0 && n == 8 {
				break
			}
			must(t, a.Publish(contracts.BucketDeviceState.Subject(fmt.Sprintf("state.a.%d-%d", len(value), n)), value))
		}
		must(t, a.Flush())
		p, err := NewPublisher(s.connect("b"), "b")
		must(t, err)
		must(t, p.State(t.Context(), contracts.DeploymentState{Deployment: "app", Revision: "app-1", Digest: "0123456789abcdef", Phase: contracts.PhaseRunning, Seq: 1}))
		stream, err := js.Stream(t.Context(), contracts.BucketDeviceState.Stream())
		must(t, err)
		if got := stream.CachedInfo().State; got.Bytes > limit || got.Msgs > limit/smallState {
			t.Errorf("%d bytes in %d messages, the limit is %d bytes", got.Bytes, got.Msgs, limit)
		}
		if _, err := stream.GetLastMsgForSubject(t.Context(), contracts.BucketDeviceState.Subject("state.b.app")); err != nil {
			t.Errorf("the other device's report: %v", err)
		}
	}
}

func TestServerConfigRefusesKeysThatCannotBe(t *testing.T) {
	for name, auth := range map[string]ServerAuth{
		"a seed in place of the public key": {OperatorKeys: []string{"SUAB"}},
		"an empty key":                      {Devices: map[contracts.DeviceID]string{"a": ""}},
		"a device whose ID is none":         {Devices: map[contracts.DeviceID]string{"a.b": publicKey(t)}},
	} {
		if _, err := ServerConfig(auth); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	key := publicKey(t)
	_, err := ServerConfig(ServerAuth{Devices: map[contracts.DeviceID]string{"a": key, "b": key}})
	if err == nil || !strings.Contains(err.Error(), "device a and device b have the same key") {
		t.Errorf("two devices with one key: %v", err)
	}
}

// TestADeviceReachesNothingButItsOwn tries everything that the permissions are
// there to refuse, and what they are there to allow.
func TestADeviceReachesNothingButItsOwn(t *testing.T) {
	s := start(t, "a", "b")
	js := s.operator()
	a := s.connect("a")
	refused := make(chan error, 1)
	a.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case refused <- err:
		default:
		}
	})
	wasRefused := func() bool {
		must(t, a.Flush())
		select {
		case <-refused:
			return true
		case <-time.After(50 * time.Millisecond):
			return false
		}
	}
	for _, subject := range []string{
		"$KV.desired-state.a.app", "$KV.desired-state.b.app", "$KV.device-state.state.b.app", "$KV.device-info.info.b",
		"$KV.device-heartbeat.heartbeat.b", "$KV.device-state.state.a", "$KV.device-state.state.a.app.x",
		"fleet.snap.b", "fleet.ds.a.app", "fleet.ds.b.app", "device-commands.b.ping", "device-commands.a.ping",
		"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.KV_desired-state", "$JS.API.STREAM.PURGE.KV_device-state",
		"$JS.API.STREAM.DELETE.KV_desired-state", "$JS.API.STREAM.MSG.GET.KV_desired-state", "$JS.API.DIRECT.GET.KV_desired-state",
		"$JS.API.DIRECT.GET.KV_desired-state.$KV.desired-state.b.app", "$JS.API.CONSUMER.CREATE.KV_desired-state.x",
		"$JS.API.CONSUMER.DURABLE.CREATE.KV_desired-state.x", "$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO", "_INBOX.x", "_INBOX_b.x", "anything",
	} {
		must(t, a.PublishRequest(subject, "_INBOX_a.reply", nil))
		if !wasRefused() {
			t.Errorf("publishing to %s was not refused", subject)
		}
	}
	for _, subject := range []string{
		"fleet.ds.b.>", "fleet.ds.>", "fleet.ds.*.app", ">", "*", "$KV.>", "$KV.device-state.>", "_INBOX.>", "_INBOX_b.>",
		"fleet.snap.*", "fleet.snap.b", "device-commands.b.*", "device-commands.>", "$JS.>", "$SYS.>", "_R_.>",
	} {
		sub, err := a.SubscribeSync(subject)
		must(t, err)
		if !wasRefused() {
			t.Errorf("subscribing to %s was not refused", subject)
		}
		_ = sub.Unsubscribe() // the server knows it not
	}
	p, err := NewPublisher(a, "a")
	must(t, err)
	must(t, p.Info(t.Context(), contracts.DeviceInfo{Device: "a"}))
	must(t, p.Heartbeat(contracts.HeartbeatPayload{Interval: 30}))
	if wasRefused() {
		t.Error("a device may not give a sign of life")
	}
	_, err = js.Stream(t.Context(), contracts.BucketDeviceHeartbeat.Stream())
	must(t, err)
}

// TestRepliesDoNotReachWhatADeviceMayNot has the server itself write where the
// device may not: an acknowledgement goes to whichever subject is asked for.
func TestRepliesDoNotReachWhatADeviceMayNot(t *testing.T) {
	s := start(t, "a", "b")
	js := s.operator()
	a := s.connect("a")
	seen := make(chan string, 16)
	b := s.connect("b")
	_, err := b.Subscribe("fleet.ds.b.>", func(m *nats.Msg) { seen <- m.Header.Get(jetstream.StreamHeader) })
	must(t, err)
	must(t, b.Flush())
	serving(t, js)

	own := contracts.BucketDeviceState.Subject("state.a.app")
	targets := []string{
		"$KV.desired-state.b.app", "$KV.device-state.state.b.app", "$KV.device-info.info.b", "$KV.device-heartbeat.heartbeat.b",
		"$JS.API.STREAM.DELETE.KV_desired-state", "fleet.ds.b.app",
	}
	before := sequences(t, js)
	for _, target := range targets {
		must(t, a.PublishRequest(own, target, []byte("x")))
		must(t, a.PublishRequest("fleet.snap.a", target, nil))
	}
	must(t, a.Flush())
	// Until the last write of its own is stored, all before it was handled.
	p, err := NewPublisher(a, "a")
	must(t, err)
	must(t, p.Info(t.Context(), contracts.DeviceInfo{Device: "a"}))
	eventually(t, func() string {
		if got := sequences(t, js)[contracts.BucketDeviceState] - before[contracts.BucketDeviceState]; got < uint64(len(targets)) {
			return "its own writes are not stored"
		}
		return ""
	})
	after := sequences(t, js)
	if after[contracts.BucketDesiredState] != before[contracts.BucketDesiredState] {
		t.Error("a device wrote desired state")
	}
	if got := after[contracts.BucketDeviceState] - before[contracts.BucketDeviceState]; got != uint64(len(targets)) {
		t.Errorf("a device wrote %d states, it sent %d", got, len(targets))
	}
	if got := after[contracts.BucketDeviceInfo] - before[contracts.BucketDeviceInfo]; got != 1 {
		t.Errorf("a device wrote %d infos, it sent 1", got)
	}
	if got := after[contracts.BucketDeviceHeartbeat] - before[contracts.BucketDeviceHeartbeat]; got != 0 {
		t.Errorf("a device wrote %d heartbeats, it sent none", got)
	}
	// This one reaches the other device. It does not pass for the operator's: see
	// TestMirrorRefusesWhatTheOperatorDidNotWrite.
	for len(seen) > 0 {
		if stream := <-seen; stream != "" {
			t.Errorf("a device sent another one a message as of stream %s", stream)
		}
	}
}

func TestRollupHeaderPurgesNothing(t *testing.T) {
	s := start(t, "a", "b")
	js := s.operator()
	pa, err := NewPublisher(s.connect("b"), "b")
	must(t, err)
	must(t, pa.Info(t.Context(), contracts.DeviceInfo{Device: "b"}))
	a := s.connect("a")
	for _, header := range []nats.Header{{"Nats-Rollup": {"all"}}, {"Nats-Rollup": {"sub"}}, {"Nats-TTL": {"1s"}}} {
		m := &nats.Msg{Subject: contracts.BucketDeviceInfo.Subject("info.a"), Header: header, Data: []byte("x")}
		reply, err := a.RequestMsg(m, Timeout)
		must(t, err)
		if !strings.Contains(string(reply.Data), `"error"`) {
			t.Errorf("a message with %v was accepted: %s", header, reply.Data)
		}
	}
	stream, err := js.Stream(t.Context(), contracts.BucketDeviceInfo.Stream())
	must(t, err)
	if _, err := stream.GetLastMsgForSubject(t.Context(), contracts.BucketDeviceInfo.Subject("info.b")); err != nil {
		t.Errorf("the other device's information: %v", err)
	}
}

func TestCommandsReachTheirDeviceAndAreAnswered(t *testing.T) {
	s := start(t, "a", "b")
	js := s.operator()
	for _, id := range []contracts.DeviceID{"a", "b"} {
		nc := s.connect(id)
		_, err := nc.Subscribe(contracts.CommandSubject(id, "*"), func(m *nats.Msg) { _ = m.Respond([]byte(id)) })
		must(t, err)
		must(t, nc.Flush())
	}
	reply, err := js.Conn().Request(contracts.CommandSubject("a", "ping"), nil, Timeout)
	must(t, err)
	if string(reply.Data) != "a" {
		t.Errorf("answered by %q", reply.Data)
	}
}

func sequences(t testing.TB, js jetstream.JetStream) map[contracts.Bucket]uint64 {
	t.Helper()
	out := map[contracts.Bucket]uint64{}
	for _, bucket := range buckets {
		stream, err := js.Stream(t.Context(), bucket.Stream())
		must(t, err)
		out[bucket] = stream.CachedInfo().State.LastSeq
	}
	return out
}

func TestAClusterNeedsCertificates(t *testing.T) {
	key, err := nkeys.CreateUser()
	must(t, err)
	seed, err := key.Seed()
	must(t, err)
	keys, err := KeysOf(seed)
	must(t, err)
	for name, tls := range map[string]*ServerTLS{"no TLS": nil, "no authorities": {CertFile: "tls.crt", KeyFile: "tls.key"}} {
		if _, err := keys.ServerConfig(tls, &ServerCluster{Hosts: []string{"a", "b", "c"}}, nil); err == nil {
			t.Errorf("%s: is no error", name)
		}
	}
}
