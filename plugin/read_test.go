package plugin

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/plugin/cli"
)

// hostile is what a device may write to take over a terminal or to forge a row.
const hostile = "\x1b[2J\x1b]0;owned\x07all well\r\nforged   True\u202e\u0085"

// liveFleet has devices of every sort, of which the live API knows more than the
// Devices do.
var liveFleet = sync.OnceFunc(func() {
	shared.live.device("shops", "till-1", beat(12*time.Second))
	shared.live.device("shops", "till-2", beat(52*time.Second))
	shared.live.device("shops", "till-3", silent(50*time.Minute))
	shared.live.device("shops", "till-4", silent(4*time.Minute))
	shared.live.device("shops", "till-5", fleetview.Heartbeat{})
	h := beat(3 * time.Second)
	h.AgentVersion, h.Hostname, h.Latency = hostile, hostile, -90*time.Second
	shared.live.device("shops", "mast-6", h)
	shared.live.device("radio", "mast-7", beat(29*time.Second))

	shared.live.placement("till-1", "signage", placed("signage-x4vc44zvb4", 3*time.Hour))
	shared.live.placement("till-1", "hello", placed("hello-7c5xfcb6c5", 26*time.Hour))
	p := placed("signage-x4vc44zvb4", 20*time.Minute)
	p.Phase, p.Reason, p.Message, p.Restarts = contracts.PhaseFailed, "ImagePullFailed", "pull registry.example.com/signage:1.5: manifest unknown", 7
	shared.live.placement("till-2", "signage", p)
	p = placed("signage-x4vc44zvb4", 3*time.Hour)
	p.ReportedRevision, p.ReportedDigest, p.Online = "signage-7c5xfcb6c5", "signage-7c5xfcb6c5", false
	shared.live.placement("till-3", "signage", p)
	shared.live.placement("till-4", "signage", fleetview.Placement{Order: fleetview.Order{Told: true, Revision: "signage-x4vc44zvb4", Digest: "d"}, ToldAt: shared.now.Add(-time.Minute)})
	p = placed("signage-x4vc44zvb4", time.Minute)
	p.Phase, p.Reason, p.Message = contracts.PhaseDegraded, hostile, hostile
	shared.live.placement("mast-6", "signage", p)
	p = placed("", 2*time.Minute)
	p.Told = false
	p.ReportedRevision = "old-aaaaaaaaaa"
	shared.live.placement("mast-6", "old", p)
	shared.live.placement("mast-7", "relay", placed("relay-6448bw46v2", time.Hour))
})

func TestLiveScreens(t *testing.T) {
	liveFleet()
	lagging(t)
	for _, c := range []struct{ file, args string }{
		{"heartbeats.txt", "heartbeats -n shops"},
		{"heartbeats-wide.txt", "heartbeats -n shops -o wide"},
		{"heartbeats-everywhere.txt", "heartbeats -A -l site=m"},
		{"heartbeats-names.txt", "heartbeats -n shops -o name"},
		{"heartbeats-gone.txt", "heartbeats -n shops --field-selector status.ready=false --show-labels"},
		{"heartbeats-some.txt", "heartbeats till-1 till-3 -n shops"},
		{"heartbeats-jsonpath.txt", "heartbeats till-1 -n shops -o jsonpath={.status.sequence}"},
		{"heartbeats-sorted.txt", "heartbeats -n shops --sort-by .metadata.name --no-headers"},
		{"placements.txt", "placements -n shops"},
		{"placements-wide.txt", "placements -n shops -o wide"},
		{"placements-everywhere.txt", "placements -A -l site=m"},
		{"placements-device.txt", "placements -n shops --device till-1"},
		{"placements-deployment.txt", "placements -A --deployment relay"},
		{"placements-phase.txt", "placements -n shops --phase failed,Degraded"},
		{"placements-field.txt", "placements -n shops --deployment signage --field-selector status.revision!=signage-x4vc44zvb4"},
		{"placements-one.txt", "placements till-1.hello -n shops"},
		{"devices-live.txt", "devices -n shops"},
		{"devices-live-wide.txt", "devices -n shops -o wide"},
		{"devices-live-gone.txt", "devices -n shops --health not-ready,never-seen"},
		{"devices-live-selected.txt", "devices -A --field-selector metadata.name=till-1"},
		{"devices-live-some.txt", "devices till-1 till-3 -n shops"},
		{"devices-live-names.txt", "devices -n shops --health not-ready -o name"},
		{"describe-ready.txt", "describe device till-1 -n shops"},
		{"describe-gone.txt", "describe device till-3 -n shops"},
		{"describe-hostile.txt", "describe device mast-6 -n shops"},
		{"describe-new.txt", "describe device till-5 -n shops"},
	} {
		t.Run(c.file, func(t *testing.T) {
			out, errOut, code := command(t, t.Context(), strings.Fields(c.args)...)
			if code != 0 || errOut != "" {
				t.Errorf("exit code %d; stderr %q", code, errOut)
			}
			if i := strings.IndexAny(out, "\x1b\r\x07\u202e\u0085"); i >= 0 {
				t.Errorf("a device's control characters get through: %q", out[i:])
			}
			golden(t, c.file, out)
		})
	}
	t.Run("json of a device is the Device as it is", func(t *testing.T) {
		out, _, code := command(t, t.Context(), "devices", "till-3", "-n", "shops", "-o", "json")
		d := &v1alpha1.Device{}
		must(t, json.Unmarshal([]byte(out), d))
		if code != 0 || d.Kind != v1alpha1.DeviceKind || d.Status.Conditions[0].Status != metav1.ConditionTrue {
			t.Errorf("exit code %d, %s", code, out)
		}
	})
	t.Run("completion", func(t *testing.T) {
		for args, want := range map[string]string{
			"placements -n shops ":             "till-1.hello",
			"placements --phase ":              "RolledBack",
			"placements -n shops --device ":    "till-1",
			"placements -A --deployment ":      ":4",
			"heartbeats -n shops ":             "till-3",
			"describe device -n shops ":        "till-3",
			"describe ":                        "device",
			"heartbeats --kubeconfig x -o ":    "wide",
			"describe device -n shops till-1 ": ":4",
		} {
			list := append([]string{"__complete", "--kubeconfig", shared.kubeconfig}, strings.Split(args, " ")...)
			out, errOut, code := command(t, t.Context(), list...)
			if code != 0 || !strings.Contains(out, want) {
				t.Errorf("%s: exit code %d\n%s%s", args, code, out, errOut)
			}
		}
	})
}

// lagging makes Devices of shops that say what was so a while ago.
func lagging(t *testing.T) {
	t.Helper()
	namespace(t, "shops")
	namespace(t, "radio")
	at := ago(9 * time.Minute)
	joined := condition("Joined", "True", v1alpha1.ReasonRegistered, "The agent has registered", 24*time.Hour)
	ready := condition("Ready", "True", v1alpha1.ReasonHeartbeat, "A heartbeat arrives each 30s", 5*time.Hour)
	info := &v1alpha1.DeviceInfo{
		Hostname: "till", OS: "Debian 12", Arch: "arm64", Kernel: "6.1.0", AgentVersion: "v0.0.9", BootID: "0b9e1c2d", Addresses: []string{"10.0.0.7", "fd00::7"},
		Drivers: map[string]string{"podman": "5.4.2"}, Capacity: map[string]resource.Quantity{"cpu": resource.MustParse("4"), "memory": resource.MustParse("4Gi")},
	}
	counts := &v1alpha1.DeviceDeployments{Total: 9, Running: 9}
	for _, name := range []string{"till-1", "till-2", "till-3", "till-4"} {
		device(t, "shops", name, v1alpha1.DeviceSpec{Approved: new(true), PublicKey: "U" + strings.Repeat("A", 55)}, v1alpha1.DeviceStatus{
			Conditions: []metav1.Condition{joined, ready}, Info: info, LastHeartbeatTime: &at, Deployments: counts,
		})
	}
	device(t, "shops", "till-5", v1alpha1.DeviceSpec{Approved: new(true)}, v1alpha1.DeviceStatus{})
	bad := info.DeepCopy()
	bad.Hostname, bad.OS, bad.Kernel, bad.AgentVersion, bad.Addresses = hostile, hostile, hostile, hostile, []string{hostile}
	bad.Drivers = map[string]string{hostile: hostile}
	device(t, "shops", "mast-6", v1alpha1.DeviceSpec{Approved: new(true), Cordoned: true}, v1alpha1.DeviceStatus{
		Conditions: []metav1.Condition{joined, condition("Ready", "False", v1alpha1.ReasonPublicKeyMismatch, "The agent's public key is another", time.Hour)}, Info: bad, LastHeartbeatTime: &at,
	})
	for i := range 12 {
		event(t, "till-3", corev1.EventTypeNormal, v1alpha1.ReasonHeartbeat, "A heartbeat arrives each 30s", time.Duration(60-i)*time.Minute)
	}
	event(t, "till-3", corev1.EventTypeWarning, v1alpha1.ReasonHeartbeatMissed, "Three heartbeats in a row, one each 30s, did not arrive", 48*time.Minute)
	event(t, "mast-6", corev1.EventTypeWarning, v1alpha1.ReasonInvalidInfo, hostile, time.Minute)
}

var events int

// event makes an event of a Device of shops.
func event(t *testing.T, device, kind, reason, message string, age time.Duration) {
	t.Helper()
	events++
	must(t, shared.client.Create(t.Context(), &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: "shops", Name: fmt.Sprintf("%s.%d", device, events)},
		InvolvedObject: corev1.ObjectReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.DeviceKind, Namespace: "shops", Name: device},
		Type:           kind, Reason: reason, Message: message, LastTimestamp: ago(age), Count: 1, Source: corev1.EventSource{Component: "fleet-operator"},
	}))
}

// TestWithoutLiveAPI has the commands say what is the matter, and devices and describe
// show what there is.
func TestWithoutLiveAPI(t *testing.T) {
	ns := namespace(t, "unlive")
	readyDevice(t, ns, "unlive-1")
	readyDevice(t, ns, "unlive-2")
	shared.live.device(ns, "unlive-1", silent(time.Hour))
	nobody := filepath.Join(filepath.Dir(shared.kubeconfig), "nobody")
	fallback := func(t *testing.T, why string) {
		t.Helper()
		out, errOut, code := command(t, t.Context(), "devices", "-n", ns)
		if code != 0 || strings.Count(errOut, "No live data") != 1 || !strings.Contains(errOut, why) {
			t.Errorf("exit code %d, stderr %q", code, errOut)
		}
		golden(t, "devices-unlive.txt", out)
		if out, errOut, code := command(t, t.Context(), "devices", "unlive-1", "unlive-2", "-n", ns); code != 0 || strings.Count(errOut, "No live data") != 1 || strings.Count(out, "\n") != 3 {
			t.Errorf("by name: exit code %d, stdout %q, stderr %q", code, out, errOut)
		}
		if out, errOut, code := command(t, t.Context(), "devices", "-n", ns, "-o", "name"); code != 0 || errOut != "" || strings.Count(out, "\n") != 2 {
			t.Errorf("as it is in the cluster: exit code %d, stdout %q, stderr %q", code, out, errOut)
		}
	}
	refuses := func(t *testing.T, args string, want ...string) {
		t.Helper()
		out, errOut, code := command(t, t.Context(), strings.Fields(args)...)
		if code != cli.CodeError || out != "" || !strings.HasPrefix(errOut, "error: ") {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", args, code, out, errOut)
		}
		for _, w := range want {
			if !strings.Contains(errOut, w) {
				t.Errorf("%s: %q is not in %q", args, w, errOut)
			}
		}
	}
	t.Run("it is not installed", func(t *testing.T) {
		shared.live.remove(t)
		fallback(t, "not installed")
		for _, args := range []string{"heartbeats -n unlive", "heartbeats unlive-1 -n unlive", "placements -A", "placements -A -w"} {
			refuses(t, args, "The live API is not installed", "manifests/live")
		}
		out, errOut, code := command(t, t.Context(), "describe", "device", "unlive-1", "-n", ns)
		if code != 0 || errOut != "" {
			t.Errorf("exit code %d, stderr %q", code, errOut)
		}
		golden(t, "describe-unlive.txt", out)
	})
	t.Run("the operator is still reading", func(t *testing.T) {
		shared.live.ready.Store(false)
		defer shared.live.ready.Store(true)
		fallback(t, "does not answer in time")
		refuses(t, "heartbeats -n unlive --request-timeout 2s", "error")
	})
	t.Run("the operator is down", func(t *testing.T) {
		shared.live.restart(t, func() {
			must(t, shared.live.await(t.Context(), shared.client, false))
			fallback(t, "unable to handle the request")
			refuses(t, "placements -n unlive", "list placements", "kubectl get pods -A -l app.kubernetes.io/name=fleet-operator", "kubectl get apiservice")
		})
	})
	t.Run("it is there again", func(t *testing.T) {
		out, errOut, code := command(t, t.Context(), "devices", "-n", ns, "--health", "not-ready")
		if code != 0 || errOut != "" || !strings.Contains(out, "unlive-1   False   HeartbeatMissed") {
			t.Errorf("exit code %d, stdout %q, stderr %q", code, out, errOut)
		}
	})
	t.Run("it is not for everybody", func(t *testing.T) {
		refuses(t, "heartbeats -n unlive --kubeconfig "+nobody, "forbidden", "kubectl auth can-i list heartbeats.live.fleet.nationtech.io -n unlive")
	})
	t.Run("flags that make no sense", func(t *testing.T) {
		for args, want := range map[string]string{
			"heartbeats a -l x=y":               "give either names or --selector and --field-selector, not both",
			"placements a --phase Failed":       "give either names or --selector, --field-selector, --device, --deployment and --phase, not both",
			"placements --phase poorly":         "--phase poorly: must be one of Pending, Pulling",
			"heartbeats -o yoml":                "yoml",
			"heartbeats --field-selector x.y=z": `field "x.y" can't select a Heartbeat`,
			"heartbeats nobody -n unlive":       `"nobody" not found`,
			"describe device":                   "the name of a device is missing",
			"describe device nobody -n unlive":  `get device unlive/nobody: devices.fleet.nationtech.io "nobody" not found`,
		} {
			refuses(t, args, want)
		}
		if _, errOut, code := command(t, t.Context(), "placements", "-n", ns, "--phase", "Failed"); code != 0 || errOut != "No such placements in namespace unlive.\n" {
			t.Errorf("exit code %d, stderr %q", code, errOut)
		}
	})
}
