package attack

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleet/contracts"
)

func TestAttacks(t *testing.T) {
	w := newWorld(t)
	for _, part := range []struct {
		name string
		run  func(*world)
	}{
		{"a device of the fleet", (*world).byDevice},
		{"hostile values", (*world).byValues},
		{"somebody without credentials", (*world).byStranger},
		{"somebody with a join token, or without", (*world).byToken},
		{"a stolen device", (*world).byThief},
		{"whoever has the broker", (*world).byBroker},
		{"floods", (*world).byFlood},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(w.at(t)) })
	}
}

// others are subjects to listen at, none of which is the attacker's.
func (w *world) others() []string {
	id := w.victim.ID
	return []string{
		">", "*", "fleet.>", "fleet.ds.>", "fleet.ds.*.*", "fleet.ds." + id + ".>", "fleet.ds." + id + ".*", "fleet.ds." + id + "." + app,
		"$KV.>", "$KV.desired-state.>", "$KV.*.*.*.*", "$KV.device-state.state." + id + ".>", "$KV.device-heartbeat.heartbeat.*", "$KV.device-info.info.>",
		"_INBOX.>", "_INBOX_" + id + ".>", "_INBOX.*.*", "_R_.>", "_GR_.>",
		"device-commands.>", "device-commands." + id + ".*", "device-commands.*.exec", "device-sessions.>", "device-sessions." + id + ".*",
		"$SYS.>", "$SYS.REQ.>", "$SYS.REQ.USER.AUTH", "$SYS.ACCOUNT.>", "$JS.>", "$JS.API.>", "$JS.EVENT.>", "$JS.ACK.>", "$NRG.>", "$JSC.>",
		"fleet.snap.*", "fleet.snap." + id, "fleet.join.*", "fleet.join.>", "fleet.join." + w.victim.PublicKey,
	}
}

// reachable are subjects to publish to, none of which is the attacker's, with what would
// count there.
func (w *world) reachable() map[string][]byte {
	id := w.victim.ID
	out := map[string][]byte{}
	for bucket, value := range forged(id) {
		out[keyOf(bucket, id, app)] = value
	}
	session := contracts.NewSessionID()
	for _, verb := range []contracts.Verb{contracts.VerbPing, contracts.VerbExec, contracts.VerbLogs, contracts.VerbRestart, contracts.VerbInput} {
		out[contracts.CommandSubject(contracts.DeviceID(id), verb)] = fmt.Appendf(nil, `{"v":1,"verb":%q,"session":%q,"milliseconds":1000}`, verb, session)
	}
	for _, subject := range []string{
		contracts.BucketDesiredState.Subject(id + "." + app), "fleet.ds." + id + "." + app, "fleet.snap." + id, "fleet.snap.*",
		"fleet.join." + w.victim.PublicKey, contracts.SessionSubject(contracts.DeviceID(id), session), "_INBOX_" + id + ".x", "_INBOX.x", "_R_.x",
		"$KV.device-state.state." + id + "." + app + ".x", "$KV.device-info.state." + id, "$KV.device-heartbeat." + id,
		"$SYS.REQ.USER.AUTH", "$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.ACCOUNT.OPS.JSZ", "$SYS.REQ.SERVER.x.KICK",
		"$JS.ACK.KV_device-state.x.1.1.1.1.0", "$JS.FC.KV_device-state.x.1", "$JSC.R.x",
	} {
		out[subject] = nil
	}
	// What JetStream would do.
	for _, bucket := range []contracts.Bucket{contracts.BucketDesiredState, contracts.BucketDeviceState} {
		stream := bucket.Stream()
		for subject, body := range map[string]string{
			"$JS.API.INFO": "", "$JS.API.STREAM.NAMES": "", "$JS.API.STREAM.LIST": "",
			"$JS.API.STREAM.INFO." + stream: `{"subjects_filter":">"}`, "$JS.API.STREAM.PURGE." + stream: "", "$JS.API.STREAM.DELETE." + stream: "",
			"$JS.API.STREAM.UPDATE." + stream: `{"name":"` + stream + `","subjects":["x"]}`, "$JS.API.STREAM.MSG.GET." + stream: `{"seq":1}`, "$JS.API.STREAM.MSG.DELETE." + stream: `{"seq":1}`,
			"$JS.API.STREAM.CREATE.mine": `{"name":"mine","subjects":["$KV.>"]}`, "$JS.API.STREAM.SNAPSHOT." + stream: `{"deliver_subject":"_INBOX_` + w.attacker.ID + `.x"}`,
			"$JS.API.DIRECT.GET." + stream: `{"multi_last":["$KV.desired-state.>"],"batch":1000}`, "$JS.API.DIRECT.GET." + stream + ".$KV.desired-state." + id + "." + app: `{"seq":1,"batch":1000}`,
			"$JS.API.CONSUMER.LIST." + stream: "", "$JS.API.CONSUMER.MSG.NEXT." + stream + ".x": "",
		} {
			out[subject] = []byte(body)
		}
		for n := range 200 {
			name := fmt.Sprintf("durable-%d", n)
			out["$JS.API.CONSUMER.CREATE."+stream+"."+name] = fmt.Appendf(nil, `{"stream_name":%q,"config":{"durable_name":%q,"ack_policy":"none"}}`, stream, name)
		}
		s, err := w.js.Stream(w.Context(), stream)
		must(w.T, err)
		names := s.ConsumerNames(w.Context())
		found := false
		for name := range names.Name() {
			out["$JS.API.CONSUMER.DELETE."+stream+"."+name], found = nil, true
		}
		must(w.T, names.Err())
		if !found {
			w.Errorf("%s has no consumer that could be deleted", stream)
		}
	}
	return out
}

func (w *world) byDevice() {
	w.vain("listens to what is not its own", func(w *world) {
		h := w.connect(w.attacker.ID, w.key(w.attacker), false)
		for _, subject := range w.others() {
			h.listen(subject, "")
		}
		groups := [][2]string{{"fleet.snap.*", "fleet-operator"}, {"fleet.join.*", "fleet.join"}, {"$SYS.REQ.USER.AUTH", "fleet-operator"}, {"device-commands.*.*", "x"}}
		for _, group := range groups {
			h.listen(group[0], group[1])
		}
		h.refused("subscription", w.others())
		w.talk()
		for subject := range h.heard {
			if m := h.messages(subject); len(m) > 0 {
				w.Errorf("subscribed to %s it hears %d messages, one to %s: %s", subject, len(m), m[0].Subject, m[0].Data)
			}
		}
	})

	w.vain("publishes to what is not its own", func(w *world) {
		h := w.connect(w.attacker.ID, w.key(w.attacker), false)
		all := []string{}
		inbox := "_INBOX_" + w.attacker.ID + ".>"
		h.listen(inbox, "")
		for subject, data := range w.reachable() {
			h.send(&nats.Msg{Subject: subject, Reply: "_INBOX_" + w.attacker.ID + ".x", Data: data})
			all = append(all, subject)
		}
		h.refused("publish", all)
		if m := h.messages(inbox); len(m) > 0 {
			w.Errorf("it is answered: %s", m[0].Data)
		}
	})

	w.vain("has answers go to what is not its own", func(w *world) {
		ear, hears := w.eavesdrop()
		h := w.connect(w.attacker.ID, w.key(w.attacker), false)
		w.divert(h, w.attackersRequests())
		w.diverted(ear, hears, 4) // of the three buckets and of the snapshot
	})

	w.vain("sends headers that mean something to the server", func(w *world) {
		h := w.connect(w.attacker.ID, w.key(w.attacker), false)
		inbox := "_INBOX_" + w.attacker.ID + ".>"
		h.listen(inbox, "")
		sent := 0
		for _, header := range []nats.Header{
			{"Nats-Rollup": {"all"}}, {"Nats-Rollup": {"sub"}}, {"Nats-TTL": {"1s"}}, {"Nats-TTL": {"never"}}, {"Nats-Marker-Reason": {"Purge"}},
			{"KV-Operation": {"PURGE"}, "Nats-Rollup": {"sub"}}, {"KV-Operation": {"DEL"}},
			{"Nats-Schedule": {"@at 2020-01-01T00:00:00Z"}, "Nats-Schedule-Target": {keyOf(contracts.BucketDeviceState, w.victim.ID, app)}},
			{"Nats-Schedule": {"@every 1s"}, "Nats-Schedule-Target": {"$KV.device-state.state." + w.victim.ID + "." + app}, "Nats-Schedule-TTL": {"1s"}},
			{"Nats-Incr": {"+1"}}, {"Nats-Batch-Id": {"x"}, "Nats-Batch-Sequence": {"1"}, "Nats-Batch-Commit": {"1"}},
			{"Nats-Expected-Stream": {"KV_desired-state"}}, {"Nats-Expected-Last-Sequence": {"0"}}, {"Nats-Expected-Last-Subject-Sequence": {"99"}}, {"Nats-Expected-Last-Msg-Id": {"x"}},
			{"Nats-Stream": {"KV_desired-state"}, "Nats-Subject": {contracts.BucketDesiredState.Subject(w.victim.ID + "." + app)}, "Nats-Sequence": {"1"}},
			{"Nats-Request-Info": {`{"acc":"OPS","user":"x"}`}}, {"Nats-Trace-Dest": {"fleet.ds." + w.victim.ID + "." + app}}, {"Status": {"503"}}, {"Nats-Required-Api-Level": {"0"}},
		} {
			for bucket, value := range forged(w.attacker.ID) {
				if bucket == contracts.BucketDeviceInfo {
					continue // the attacker's own has to stay for the fleet to know it
				}
				h.send(&nats.Msg{Subject: keyOf(bucket, w.attacker.ID, "other"), Reply: "_INBOX_" + w.attacker.ID + ".x", Header: header, Data: value})
				sent++
			}
		}
		must(w.T, h.Flush())
		w.until("the server has answered", func(context.Context) error {
			if got := len(h.messages(inbox)); got < sent-3 { // a batch has one answer, a trace none
				return fmt.Errorf("%d of %d", got, sent)
			}
			return nil
		})
	})

	w.Run("uses up the number of a message that another sends", func(t *testing.T) {
		w := w.at(t)
		h := w.connect(w.attacker.ID, w.key(w.attacker), false)
		for n := range 100 {
			h.send(&nats.Msg{Subject: keyOf(contracts.BucketDeviceState, w.attacker.ID, "other"), Header: nats.Header{"Nats-Msg-Id": {fmt.Sprint(n)}}, Data: forged(w.attacker.ID)[contracts.BucketDeviceState]})
		}
		w.barrier()
		told := w.victim.Told(app)
		must(t, w.victim.Report(t.Context(), contracts.DeploymentState{Deployment: app, Revision: told.Revision, Digest: told.Digest, Issued: told.Issued, Phase: contracts.PhaseRunning, Message: "still heard"}))
		w.until("the victim is heard", func(ctx context.Context) error {
			for _, p := range w.placements(ctx) {
				if p.Spec.Device == w.victim.ID && p.Status.Message == "still heard" {
					return nil
				}
			}
			return errors.New("not yet")
		})
	})

	w.vain("writes keys whose names are none", func(w *world) {
		h := w.connect(w.attacker.ID, w.key(w.attacker), false)
		prefix := "$KV.device-state.state." + w.attacker.ID + "."
		for _, name := range []string{"a.b", "*", ">", "", ".", "..", "UPPER", "-", "é", "\xff", strings.Repeat("x", 300), "a%2eb", "../x", w.victim.ID + "." + app, "{{wildcard(1)}}", "$KV", "a\tb", "a b", "a\r\nPING"} {
			h.send(&nats.Msg{Subject: prefix + name, Data: forged(w.attacker.ID)[contracts.BucketDeviceState]})
			// A line break ends the connection; what comes after it is sent by another.
			if err := h.Flush(); err != nil || !h.IsConnected() {
				h.Close()
				h = w.connect(w.attacker.ID, w.key(w.attacker), false)
			}
		}
	})
}

// request is something that somebody may send, and is answered.
type request struct {
	subject string
	data    []byte
	// inTurn tells that the operator answers it, and of several the last alone.
	inTurn bool
}

func (w *world) attackersRequests() (all []request) {
	for bucket, value := range forged(w.attacker.ID) {
		if bucket != contracts.BucketDeviceInfo {
			all = append(all, request{subject: keyOf(bucket, w.attacker.ID, "other"), data: value})
		}
	}
	return append(all,
		request{subject: keyOf(contracts.BucketDeviceInfo, w.attacker.ID, ""), data: make([]byte, 1<<16)}, // refused, with an answer
		request{subject: contracts.SnapshotSubject(contracts.DeviceID(w.attacker.ID)), data: encode(contracts.SnapshotRequest{}), inTurn: true},
		request{subject: contracts.SessionSubject(contracts.DeviceID(w.attacker.ID), contracts.NewSessionID()), data: []byte("x")},
	)
}

// divert has the answers to requests go to whatever is not the sender's.
func (w *world) divert(h *hostile, requests []request) {
	w.Helper()
	for _, id := range []string{w.victim.ID, w.bystander.ID} {
		d := contracts.DeviceID(id)
		for _, reply := range []string{
			contracts.BucketDesiredState.Subject(id + "." + app), "fleet.ds." + id + "." + app,
			keyOf(contracts.BucketDeviceState, id, app), keyOf(contracts.BucketDeviceState, id, "new"), keyOf(contracts.BucketDeviceInfo, id, ""), keyOf(contracts.BucketDeviceHeartbeat, id, ""),
			contracts.SnapshotSubject(d), contracts.JoinSubject(w.victim.PublicKey), contracts.CommandSubject(d, contracts.VerbRestart), contracts.CommandSubject(d, contracts.VerbExec),
			contracts.SessionSubject(d, contracts.NewSessionID()), "_INBOX_" + id + ".x", "_INBOX.x",
			"$JS.API.STREAM.PURGE.KV_device-state", "$JS.API.STREAM.DELETE.KV_device-state", "$SYS.REQ.USER.AUTH", "$SYS.REQ.SERVER.PING",
			"$JS.ACK.KV_device-state.x.1.1.1.1.0", "$KV.device-state.state.>", "_R_.x",
		} {
			for _, r := range requests {
				h.send(&nats.Msg{Subject: r.subject, Reply: reply, Data: r.data})
				if r.inTurn {
					// This one follows it.
					_, err := h.Request(r.subject, r.data, limit)
					must(w.T, err)
				}
			}
		}
		// The last that arrives: the server answers in order.
		h.send(&nats.Msg{Subject: requests[0].subject, Reply: "fleet.ds." + id + ".last", Data: requests[0].data})
	}
	must(w.T, h.Flush())
}

// eavesdrop is another device that listens to all that it may, and to what that is.
func (w *world) eavesdrop() (ear *hostile, hears []string) {
	w.Helper()
	ear = w.connect(w.bystander.ID, w.key(w.bystander), false)
	hears = []string{"fleet.ds." + w.bystander.ID + ".*", "_INBOX_" + w.bystander.ID + ".>", "device-commands." + w.bystander.ID + ".*"}
	for _, subject := range hears {
		ear.listen(subject, "")
	}
	must(w.T, ear.Flush())
	return ear, hears
}

// diverted waits for answers at the subject of an order, and looks at what has arrived at
// somebody: nothing that an agent would obey.
func (w *world) diverted(ear *hostile, subjects []string, answers int) {
	w.Helper()
	w.until("the answers arrive", func(context.Context) error {
		last, arrived := false, 0
		for _, m := range ear.messages(subjects[0]) {
			if strings.HasSuffix(m.Subject, ".last") {
				last = true
			} else {
				arrived++
			}
		}
		if !last || arrived < answers {
			return fmt.Errorf("%d of %d have, the last: %v", arrived, answers, last)
		}
		return nil
	})
	for _, subject := range subjects {
		for _, m := range ear.messages(subject) {
			if m.Reply != "" {
				w.Errorf("at %s something arrives that can be answered, to %s: %s", m.Subject, m.Reply, m.Data)
			}
			if _, err := contracts.DecodeEnvelope(m.Data); err == nil {
				w.Errorf("at %s an order arrives: %s", m.Subject, m.Data)
			}
			if _, err := contracts.DecodeCommandRequest(m.Data); err == nil {
				w.Errorf("at %s a command arrives: %s", m.Subject, m.Data)
			}
			if _, err := contracts.DecodeFrame(m.Data); err == nil {
				w.Errorf("at %s a part of a session arrives: %x", m.Subject, m.Data)
			}
		}
	}
}

// talk has the fleet say what an eavesdropper would like to hear: heartbeats, reports,
// orders, commands, snapshots.
func (w *world) talk() {
	w.Helper()
	before, err := w.heartbeat(w.Context(), w.victim.ID)
	must(w.T, err)
	// It answers nothing: that the command is sent is enough.
	_, _ = w.ops.Request(contracts.CommandSubject(contracts.DeviceID(w.victim.ID), contracts.VerbPing), []byte("{}"), 1)
	other := w.connect(w.bystander.ID, w.key(w.bystander), false)
	_, err = other.Request(contracts.SnapshotSubject(contracts.DeviceID(w.bystander.ID)), encode(contracts.SnapshotRequest{}), limit)
	must(w.T, err)
	w.until("the victim has sent heartbeats", func(ctx context.Context) error {
		now, err := w.heartbeat(ctx, w.victim.ID)
		if err == nil && now.Sequence < before.Sequence+2 {
			err = errors.New("not yet")
		}
		return err
	})
}
