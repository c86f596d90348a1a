package contracts

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func ptr[T any](v T) *T { return &v }

var at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func someDesiredState() DesiredState {
	score := ReconcileScore{Podman: &PodmanScore{
		RestartPolicy: "Always", StopSeconds: 30,
		Volumes: []Volume{{Name: "config", Files: ptr([]File{{Path: "a/b", Mode: 0o644, Data: []byte("x")}})}},
		Containers: []Container{{
			Name: "hello", Image: "registry.example/hello:v1", PullPolicy: "IfNotPresent",
			Env:       []EnvVar{{Name: "A", Value: "b"}},
			Ports:     []Port{{Container: 80, Host: 8080, HostIP: "127.0.0.1", Protocol: "TCP"}},
			Mounts:    []Mount{{Volume: "config", Path: "/etc/config"}},
			Readiness: &Probe{HTTP: &HTTPProbe{Path: "/", Port: 80}, Timeout: 1, Period: 10, SuccessThreshold: 1, FailureThreshold: 3},
		}},
	}}
	return DesiredState{V: Version, Deployment: "hello", Namespace: "shops", Revision: "hello-abc", Digest: score.Digest(),
		Generation: 3, Score: score, DeadlineSeconds: 600, Issued: 5, Time: at}
}

func someState() DeploymentState {
	return DeploymentState{V: Version, Deployment: "hello", Revision: "hello-abc", Digest: "0123456789abcdef",
		Phase: PhaseRunning, Containers: []ContainerState{{Name: "hello", State: "running", Ready: true}}, Seq: 7, Time: at}
}

func TestDecodeReturnsWhatWasEncoded(t *testing.T) {
	roundTrip(t, someDesiredState(), DecodeDesiredState)
	roundTrip(t, someState(), DecodeDeploymentState)
	roundTrip(t, DeviceInfo{V: Version, Device: "shop-1", Drivers: map[string]string{"podman": "4.3.1"},
		Addresses: []string{"192.0.2.1"}, Capacity: Capacity{CPUs: 4}, Time: at}, DecodeDeviceInfo)
	roundTrip(t, HeartbeatPayload{V: Version, Seq: 1, Time: at.UnixMilli(), Interval: 30, Uptime: 9}, DecodeHeartbeat)
	roundTrip(t, SnapshotRequest{V: Version, After: "hello"}, DecodeSnapshotRequest)
	roundTrip(t, Snapshot{V: Version, Entries: []SnapshotEntry{{Deployment: "hello", Value: json.RawMessage(`{"v":1}`)}}}, DecodeSnapshot)
}

func roundTrip[T Value](t *testing.T, v T, decode func([]byte) (T, error)) {
	t.Helper()
	data, err := Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, v) {
		t.Errorf("decoded  %+v\nexpected %+v", got, v)
	}
}

func TestDecodeRefusesWithAClearError(t *testing.T) {
	edit := func(change func(*DesiredState)) string {
		d := someDesiredState()
		change(&d)
		data, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	tests := []struct {
		name, value, want string
	}{
		{"no JSON", "hello", "invalid character"},
		{"text that is not UTF-8", "{\"v\":1,\"x\":\"\xff\"}", "not UTF-8"},
		{"no version", "{}", "field v is missing"},
		{"too large", `{"v":1,"x":"` + strings.Repeat("x", MaxDesiredStateSize) + `"}`, "bytes are more than"},
		{"two scores", edit(func(d *DesiredState) {
			d.Score.Kubernetes = &KubernetesScore{Manifests: []json.RawMessage{[]byte("{}")}}
		}), "podman and kubernetes are both set"},
		{"no score", edit(func(d *DesiredState) { d.Score = ReconcileScore{} }), "none of podman, kubernetes and kvm is set"},
		{"a deployment with a dot", edit(func(d *DesiredState) { d.Deployment = "a.b" }), "not a DNS label"},
		{"a digest of something else", edit(func(d *DesiredState) { d.Digest = "x" }), "not 16 hexadecimal digits"},
		{"a file above its volume", edit(func(d *DesiredState) { (*d.Score.Podman.Volumes[0].Files)[0].Path = "../../etc/passwd" }), "must not contain '..'"},
		{"a mount of no volume", edit(func(d *DesiredState) { d.Score.Podman.Containers[0].Mounts[0].Volume = "other" }), `there is no volume "other"`},
		{"a port beyond the last", edit(func(d *DesiredState) { d.Score.Podman.Containers[0].Ports[0].Host = 70000 }), "70000 is not a port"},
		{"a probe of no kind", edit(func(d *DesiredState) { d.Score.Podman.Containers[0].Readiness.HTTP = nil }), "exactly one must be"},
		{"two containers of one name", edit(func(d *DesiredState) {
			d.Score.Podman.Containers = append(d.Score.Podman.Containers, d.Score.Podman.Containers[0])
		}), `container "hello" is there twice`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := DecodeDesiredState([]byte(tt.value))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want it to contain %q", err, tt.want)
			}
		})
	}
}

func TestDecodeRefusesANewerVersion(t *testing.T) {
	_, err := DecodeHeartbeat([]byte(`{"v":2}`))
	var unsupported *UnsupportedVersionError
	if !errors.As(err, &unsupported) || unsupported.Got != 2 {
		t.Errorf("error = %v, want an UnsupportedVersionError of 2", err)
	}
}

func TestDecodeIgnoresUnknownFields(t *testing.T) {
	if _, err := DecodeHeartbeat([]byte(`{"v":1,"n":1,"t":1,"i":30,"up":1,"later":true}`)); err != nil {
		t.Error(err)
	}
}

func TestHeartbeatRefusesNonsense(t *testing.T) {
	for _, text := range []string{
		`{"v":1,"n":1,"t":1,"i":0,"up":1}`,
		`{"v":1,"n":1,"t":1,"i":30,"up":-1}`,
		`{"v":1,"n":18446744073709551615,"t":1,"i":30,"up":1}`,
		`{"v":1,"n":1,"t":1,"i":30,"up":9223372036854775807}`,
	} {
		if h, err := DecodeHeartbeat([]byte(text)); err == nil {
			t.Errorf("%s is taken for %+v", text, h)
		}
	}
}

func TestHeartbeatStaysSmall(t *testing.T) {
	// A device of a hundred years with a heartbeat each second.
	data, err := Encode(HeartbeatPayload{Seq: 3155760000, Time: 4921516800000, Interval: 600, Uptime: 3155760000})
	if err != nil {
		t.Fatal(err)
	}
	if len(data) >= MaxHeartbeatSize {
		t.Errorf("a heartbeat has %d bytes, want fewer than %d: %s", len(data), MaxHeartbeatSize, data)
	}
}

func TestLongMessagesAreCutBetweenCharacters(t *testing.T) {
	s := someState()
	s.Message = strings.Repeat("é", maxMessage)
	data, err := Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeDeploymentState(data)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(got.Message, "é…") || len(got.Message) > maxMessage {
		t.Errorf("the message of %d bytes ends in %q", len(got.Message), got.Message[len(got.Message)-8:])
	}
}

func TestKeysComeApartAsTheyWerePutTogether(t *testing.T) {
	label := rapid.StringMatching(`[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?`)
	rapid.Check(t, func(t *rapid.T) {
		device, err := ParseDeviceID(label.Draw(t, "device"))
		if err != nil {
			t.Fatal(err)
		}
		name, err := ParseDeploymentName(label.Draw(t, "deployment"))
		if err != nil {
			t.Fatal(err)
		}
		if d, n, err := ParseDesiredStateKey(DesiredStateKey(device, name)); d != device || n != name || err != nil {
			t.Errorf("desired state: %s %s %v", d, n, err)
		}
		if d, n, err := ParseDeviceStateKey(DeviceStateKey(device, name)); d != device || n != name || err != nil {
			t.Errorf("device state: %s %s %v", d, n, err)
		}
		if d, err := ParseDeviceInfoKey(DeviceInfoKey(device)); d != device || err != nil {
			t.Errorf("device info: %s %v", d, err)
		}
		if d, err := ParseHeartbeatKey(HeartbeatKey(device)); d != device || err != nil {
			t.Errorf("heartbeat: %s %v", d, err)
		}
		key := DeviceInfoKey(device)
		if got, ok := BucketDeviceInfo.KeyOf(BucketDeviceInfo.Subject(key)); got != key || !ok {
			t.Errorf("key of subject: %s %v", got, ok)
		}
	})
}

func TestForeignKeysAreRefused(t *testing.T) {
	for _, key := range []string{"", ".", "a", "a.", ".b", "a.b.c", "A.b", "a.*", "a.>", "state.a.b", strings.Repeat("a", 64) + ".b"} {
		if d, n, err := ParseDesiredStateKey(key); err == nil {
			t.Errorf("desired-state key %q gives %q, %q", key, d, n)
		}
	}
	for _, key := range []string{"", "info.a", "a.b", "state.", "state.a", "state.a.b.c"} {
		if d, n, err := ParseDeviceStateKey(key); err == nil {
			t.Errorf("device-state key %q gives %q, %q", key, d, n)
		}
	}
}

func TestAKeyWithABadDeploymentStillNamesItsDevice(t *testing.T) {
	for _, key := range []string{"a", "a.", "a.B", "a.b.c", "a.-", "a." + strings.Repeat("b", MaxDeploymentName+1)} {
		if d, n, err := ParseDesiredStateKey(key); d != "a" || n != "" || err == nil {
			t.Errorf("desired-state key %q gives %q, %q, %v", key, d, n, err)
		}
		if d, n, err := ParseDeviceStateKey("state." + key); d != "a" || n != "" || err == nil {
			t.Errorf("device-state key %q gives %q, %q, %v", "state."+key, d, n, err)
		}
	}
	for _, key := range []string{"", "A.b", "-.b", strings.Repeat("a", 64) + ".b"} {
		if d, _, err := ParseDeviceStateKey("state." + key); d != "" || err == nil {
			t.Errorf("device-state key %q gives %q, %v", "state."+key, d, err)
		}
	}
}

func TestDigestTellsScoresApart(t *testing.T) {
	a, b := someDesiredState().Score, someDesiredState().Score
	if a.Digest() != b.Digest() {
		t.Error("equal scores have different digests")
	}
	b.Podman.Containers[0].Env[0].Value = "c"
	if a.Digest() == b.Digest() {
		t.Error("different scores have the same digest")
	}
}

func TestTheEndOfALogStays(t *testing.T) {
	for _, c := range []struct{ log, want string }{
		{"a\nb\n", "a\nb\n"},
		{"first\nsecond\nthird\n", "third\n"},
		{"a line that is too long", "too long"},
		{"\u00e9\u00e9\u00e9\u00e9x", "\u00e9\u00e9\u00e9x"},
	} {
		if got := lastLines(c.log, 8); got != c.want {
			t.Errorf("lastLines(%q) = %q, want %q", c.log, got, c.want)
		}
	}
}
