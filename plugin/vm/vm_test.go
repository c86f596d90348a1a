package vm

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/provision/libvirt"
)

func TestFlags(t *testing.T) {
	join := "fleet-join.shops.x7k2m9qa." + strings.Repeat("a", 26) + "." + strings.Repeat("b", 52)
	for name, tt := range map[string]struct {
		name string
		args []string
		want []string // in the error; nil for none
	}{
		"as they are":                       {"till-7", nil, nil},
		"a name that is no device's":        {"Till 7", nil, []string{"its name is its device ID"}},
		"sizes that are none":               {"a", []string{"--memory=2GB", "--disk=much"}, []string{`--memory: "2GB"`, `--disk: "much"`}},
		"part of a byte":                    {"a", []string{"--memory=1500m"}, []string{"whole number"}},
		"less memory than nothing":          {"a", []string{"--memory=-1Gi"}, []string{"--memory"}},
		"an architecture that is none":      {"a", []string{"--arch=sparc"}, []string{"--arch"}},
		"two sums":                          {"a", []string{"--sha256=" + strings.Repeat("a", 64), "--sha512=" + strings.Repeat("a", 128)}, []string{"give one of them"}},
		"a sum that is none":                {"a", []string{"--sha256=abc"}, []string{"--sha256", "64 digits"}},
		"a token alone":                     {"a", []string{"--token=" + join}, []string{"--token needs --server"}},
		"something else for a token":        {"a", []string{"--token=abc", "--server=tls://x:4222"}, []string{"--token: this is not a join token"}},
		"who approves is neither":           {"a", []string{"--approve=me"}, []string{"auto or manual"}},
		"labels beside a token":             {"a", []string{"--token=" + join, "--server=tls://x:4222", "--label=a=b"}, []string{"labels of --token"}},
		"a label that is none":              {"a", []string{"--label=site"}, []string{"KEY=VALUE"}},
		"no time to wait":                   {"a", []string{"--timeout=0s"}, []string{"--timeout"}},
		"no processors":                     {"a", []string{"--cpus=0"}, []string{"0 processors"}},
		"a disk as large as the image's":    {"a", []string{"--disk=0"}, nil},
		"all that is wrong is said at once": {"a", []string{"--arch=sparc", "--memory=x", "--label=y"}, []string{"--arch", "--memory", "--label"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := createOptions{env: cli.NewEnv(genericiooptions.IOStreams{In: strings.NewReader(""), Out: io.Discard, ErrOut: io.Discard})}
			cmd := &cobra.Command{}
			o.addFlags(cmd)
			if err := cmd.ParseFlags(tt.args); err != nil {
				t.Fatal(err)
			}
			err := o.parse(tt.name)
			if tt.want == nil && err != nil {
				t.Error(err)
			}
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %q", err, want)
				}
			}
		})
	}
}

// program writes a file that begins as a program of an architecture does.
func program(t *testing.T, path string, machine byte) string {
	t.Helper()
	header := make([]byte, 64)
	copy(header, "\x7fELF\x02\x01\x01")
	header[16], header[18], header[20], header[52] = 2, machine, 1, 64
	if err := os.WriteFile(path, header, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheAgentIsTheOneForTheMachine(t *testing.T) {
	const amd64, arm64 = 62, 183
	dir, other := t.TempDir(), t.TempDir()
	both := program(t, filepath.Join(dir, "fleet-agent"), amd64)
	arm := program(t, filepath.Join(other, "fleet-agent-linux-arm64"), arm64)
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		named string
		arch  libvirt.Arch
		want  string
		fails string
	}{
		"beside the plugin":               {"", libvirt.X86_64, both, ""},
		"the one in the next place":       {"", libvirt.AArch64, arm, ""},
		"the one that is named":           {arm, libvirt.AArch64, arm, ""},
		"another architecture's is not":   {arm, libvirt.X86_64, "", "is for aarch64, and the machine is x86_64"},
		"a script is not":                 {text, libvirt.X86_64, "", "is no program for Linux"},
		"one that is not there is missed": {filepath.Join(dir, "nothing"), libvirt.X86_64, "", "--agent"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := findAgent(tt.named, tt.arch, dir, other)
			if got != tt.want || (err != nil) != (tt.fails != "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("%s, %v", got, err)
			}
		})
	}
	if _, err := findAgent("", libvirt.X86_64, other); err == nil || !strings.Contains(err.Error(), "fleet-agent-linux-amd64 is not there") {
		t.Errorf("where there is none: %v", err)
	}
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if arch, err := libvirt.ParseArch(runtime.GOARCH); err == nil {
		if _, err := findAgent(own, arch); err != nil {
			t.Errorf("a real program: %v", err)
		}
	}
}

func TestHowFarAMachineHasCome(t *testing.T) {
	yes, no := true, false
	heartbeat := metav1.NewTime(time.Unix(1, 0))
	ready := func(status metav1.ConditionStatus, reason string) v1alpha1.DeviceStatus {
		return v1alpha1.DeviceStatus{LastHeartbeatTime: &heartbeat, Conditions: []metav1.Condition{{Type: "Ready", Status: status, Reason: reason, Message: "because"}}}
	}
	for name, tt := range map[string]struct {
		device *v1alpha1.Device
		want   string
		err    string
	}{
		"it boots":                   {nil, "joins at the end", ""},
		"Git has it already":         {&v1alpha1.Device{Spec: v1alpha1.DeviceSpec{Approved: &yes}}, "has not joined yet", ""},
		"it waits for somebody":      {&v1alpha1.Device{Spec: v1alpha1.DeviceSpec{PublicKey: "U"}}, "kubectl fleet approve a -n ns", ""},
		"it has joined":              {&v1alpha1.Device{Spec: v1alpha1.DeviceSpec{PublicKey: "U", Approved: &yes}}, "first heartbeat", ""},
		"it is ready":                {&v1alpha1.Device{Spec: v1alpha1.DeviceSpec{PublicKey: "U", Approved: &yes}, Status: ready("True", v1alpha1.ReasonHeartbeat)}, "it is ready", "ready"},
		"somebody has shut it out":   {&v1alpha1.Device{Spec: v1alpha1.DeviceSpec{PublicKey: "U", Approved: &no}, Status: ready("False", v1alpha1.ReasonShutOut)}, "", "because"},
		"another has its ID already": {&v1alpha1.Device{Spec: v1alpha1.DeviceSpec{Approved: &yes}, Status: ready("False", v1alpha1.ReasonDuplicateID)}, "", "because"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := stage(tt.device, "a", "ns")
			if !strings.Contains(got, tt.want) || (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q, %v", got, err)
			}
			if errors.Is(err, errReady) != (tt.err == "ready") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestAKeyLeavesTheConsole(t *testing.T) {
	left := false
	l := &leaver{in: strings.NewReader("ls\r\x1drm -rf\r"), leave: func() { left = true }}
	typed, err := io.ReadAll(l)
	if err != nil || !bytes.Equal(typed, []byte("ls\r")) || !left {
		t.Errorf("%q, %v, %v", typed, left, err)
	}
}
