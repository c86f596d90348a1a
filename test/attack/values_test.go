package attack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleet/contracts"
)

// bombs are what a decoder might choke on, at most size bytes.
func bombs(size int) map[string][]byte {
	return map[string][]byte{
		"nothing": nil, "null": []byte("null"), "a number": []byte("1"), "no JSON": []byte("{"), "binary": bytes.Repeat([]byte{0, 0xff}, size/2),
		"lists in lists":       bytes.Repeat([]byte("["), size),
		"objects in objects":   []byte(strings.Repeat(`{"v":`, size/5)),
		"deep and whole":       []byte(`{"v":1,"drivers":` + strings.Repeat("[", size/3) + strings.Repeat("]", size/3) + "}"),
		"a huge number":        []byte(`{"v":1,"seq":1` + strings.Repeat("0", size/2) + `}`),
		"a huge exponent":      []byte(`{"v":1e999999999,"restarts":1e308,"n":1e400}`),
		"a negative version":   []byte(`{"v":-1}`),
		"another version":      []byte(`{"v":2}`),
		"a field twice":        []byte(`{"v":1,"deployment":"app","deployment":"own","device":"sim-01","device":"sim-02","phase":"Running","phase":"Failed"}`),
		"a field in capitals":  []byte(`{"V":1,"DEPLOYMENT":"app","Device":"sim-01"}`),
		"broken UTF-8":         []byte("{\"v\":1,\"hostname\":\"\xc3\x28\",\"deployment\":\"\xff\"}"),
		"escapes of terminals": []byte(`{"v":1,"deployment":"other","phase":"Failed","reason":"\u001b[2J","message":"\u001b]0;owned\u0007` + "\u202e" + `"}`),
		"many fields":          []byte(`{"v":1,"drivers":{` + strings.TrimSuffix(manyFields(size-40), ",") + `}}`),
	}
}

func manyFields(size int) string {
	var out strings.Builder
	for n := 0; out.Len() < size; n++ {
		fmt.Fprintf(&out, `"%d":"",`, n)
	}
	return out.String()
}

func (w *world) byValues() {
	subjects := func(w *world) map[string]int {
		d := contracts.DeviceID(w.attacker.ID)
		return map[string]int{
			keyOf(contracts.BucketDeviceState, w.attacker.ID, "other"): contracts.MaxDeviceStateSize, keyOf(contracts.BucketDeviceInfo, w.attacker.ID, ""): contracts.MaxDeviceInfoSize,
			keyOf(contracts.BucketDeviceHeartbeat, w.attacker.ID, ""): contracts.MaxHeartbeatSize, contracts.SnapshotSubject(d): contracts.MaxHeartbeatSize, contracts.SessionSubject(d, contracts.NewSessionID()): 1 << 16,
		}
	}
	w.vain("sends what can't be read", func(w *world) {
		h := w.connect(w.attacker.ID, w.key(w.attacker), false)
		for subject, size := range subjects(w) {
			for _, room := range []int{size, min(4*size, 100_000), 100_000} {
				for _, data := range bombs(room) {
					h.send(&nats.Msg{Subject: subject, Data: data})
				}
			}
			must(w.T, h.Flush())
		}
	})

	w.vain("reports on what it was not told", func(w *world) {
		h := w.connect(w.attacker.ID, w.key(w.attacker), false)
		told := w.victim.Told(app)
		for _, state := range []contracts.DeploymentState{
			{Deployment: app, Revision: told.Revision, Digest: told.Digest, Phase: contracts.PhaseFailed, Reason: "Forged"},
			{Deployment: app, Revision: told.Revision, Digest: told.Digest, Phase: contracts.PhaseRunning, Issued: contracts.MaxIssued},
			{Deployment: app, Phase: "Nonsense", Restarts: -1, Drifts: 1 << 62, Seq: 1 << 63, Issued: -1},
		} {
			state.V = contracts.Version
			data := unchecked(state)
			h.send(&nats.Msg{Subject: keyOf(contracts.BucketDeviceState, w.attacker.ID, app), Data: data})
			// One for another Deployment, under the key of this.
			h.send(&nats.Msg{Subject: keyOf(contracts.BucketDeviceState, w.attacker.ID, own), Data: data})
		}
		for n := range 3000 {
			state := unchecked(contracts.DeploymentState{V: contracts.Version, Deployment: contracts.DeploymentName(fmt.Sprintf("many-%d", n)), Revision: "x-1", Digest: "0123456789abcdef", Phase: contracts.PhaseFailed})
			h.send(&nats.Msg{Subject: keyOf(contracts.BucketDeviceState, w.attacker.ID, fmt.Sprintf("many-%d", n)), Data: state})
		}
		must(w.T, h.Flush())
	})

	w.vain("says that it is another", func(w *world) {
		h := w.connect(w.attacker.ID, w.key(w.attacker), false)
		stream, err := w.js.Stream(w.Context(), contracts.BucketDeviceInfo.Stream())
		must(w.T, err)
		m, err := stream.GetLastMsgForSubject(w.Context(), keyOf(contracts.BucketDeviceInfo, w.victim.ID, ""))
		must(w.T, err)
		// As the victim says it, and as if its curve key were the attacker's.
		h.send(&nats.Msg{Subject: keyOf(contracts.BucketDeviceInfo, w.attacker.ID, ""), Data: m.Data})
		info, err := contracts.DecodeDeviceInfo(m.Data)
		must(w.T, err)
		info.Device = contracts.DeviceID(w.attacker.ID)
		h.send(&nats.Msg{Subject: keyOf(contracts.BucketDeviceInfo, w.attacker.ID, ""), Data: encode(info)})
		must(w.T, h.Flush())
	})

	// The attacker's own, of which something is to be seen: what it sent was dealt with.
	w.until("its nonsense counts against itself", func(ctx context.Context) error {
		for _, p := range w.placements(ctx) {
			if p.Spec.Device == w.attacker.ID && p.Spec.Deployment == app && p.Status.Phase != "Running" && p.Spec.Revision == "" {
				return nil
			}
		}
		return errors.New("nothing of it is seen")
	})

	w.vain("asks what the server says of another's keys", func(w *world) {
		// What is left, see docs/security.md: the number of a message whose subject it can
		// guess, and with it that there is one. Not what is in it.
		h := w.connect(w.attacker.ID, w.key(w.attacker), false)
		inbox := "_INBOX_" + w.attacker.ID + ".>"
		h.listen(inbox, "")
		guess := keyOf(contracts.BucketDeviceState, w.victim.ID, app)
		h.send(&nats.Msg{Subject: keyOf(contracts.BucketDeviceState, w.attacker.ID, "other"), Reply: "_INBOX_" + w.attacker.ID + ".x",
			Header: nats.Header{"Nats-Expected-Last-Subject-Sequence": {"0"}, "Nats-Expected-Last-Subject-Sequence-Subject": {guess}}, Data: forged(w.attacker.ID)[contracts.BucketDeviceState]})
		w.until("the server answers", func(context.Context) error {
			if len(h.messages(inbox)) == 0 {
				return errors.New("not yet")
			}
			return nil
		})
		data := h.messages(inbox)[0].Data
		w.Logf("it learns: %s", data)
		var answer map[string]json.RawMessage
		must(w.T, json.Unmarshal(data, &answer))
		delete(answer, "error")
		delete(answer, "stream")
		delete(answer, "seq")
		if len(answer) > 0 {
			w.Errorf("and besides that: %s", data)
		}
	})
}
