package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
)

// TestManifestUsesFlagsThatThereAre parses the arguments of the installed operator.
func TestManifestUsesFlagsThatThereAre(t *testing.T) {
	raw, err := os.ReadFile("../../manifests/operator/deployment.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d := &appsv1.Deployment{}
	if err := yaml.UnmarshalStrict(raw, d); err != nil {
		t.Fatal(err)
	}
	args := d.Spec.Template.Spec.Containers[0].Args
	c := runCommand()
	if args[0] != c.Name() {
		t.Fatalf("the manifest runs %q", args[0])
	}
	if err := c.ParseFlags(args[1:]); err != nil {
		t.Error(err)
	}
	if got := c.Flags().Lookup("enable-leader-election").Value.String(); got != "true" {
		t.Errorf("two replicas, and leader election is %s", got)
	}
}

func TestKeygenPrintsThePublicHalfAndOverwritesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "operator.nk")
	run := func() (string, error) {
		c := keygenCommand()
		var out bytes.Buffer
		c.SetOut(&out)
		c.SetErr(&bytes.Buffer{})
		c.SetArgs([]string{"--out", file})
		err := c.Execute()
		return strings.TrimSpace(out.String()), err
	}
	key, err := run()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(key, "U") {
		t.Errorf("printed %q", key)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the secret half has mode %o", info.Mode().Perm())
	}
	before, _ := os.ReadFile(file)
	if _, err := run(); err == nil {
		t.Error("a key was written over another")
	}
	if after, _ := os.ReadFile(file); !bytes.Equal(before, after) {
		t.Error("the key has changed")
	}
}

func TestNATSConfigTakesDevicesFromFlagsAndManifests(t *testing.T) {
	const operator = "UDKSRPM2KKLHVWKMOLPDFT2QRCYP34KQIBYR6MAIR4JXJ3QIN5HM4V5T"
	const a, b = "UBLJHT7M2HG3WVUJFNBLBGLK6HMFZM2UWYIQ3PZMRZLLWQTTPW6BK73B", "UCNABA4SFRHLS25YWWPS5VE7MKCOTLFUBKR6EWKA4XO27KTZSKMRB4GE"
	run := func(in string, args ...string) (string, error) {
		c := natsConfigCommand()
		var out bytes.Buffer
		c.SetIn(strings.NewReader(in))
		c.SetOut(&out)
		c.SetErr(&bytes.Buffer{})
		c.SilenceUsage, c.SilenceErrors = true, true
		c.SetArgs(args)
		err := c.Execute()
		return out.String(), err
	}
	list := `apiVersion: v1
kind: List
items:
- apiVersion: fleet.nationtech.io/v1alpha1
  kind: Device
  metadata: {name: b, namespace: shops}
  spec: {publicKey: ` + b + `}
- apiVersion: fleet.nationtech.io/v1alpha1
  kind: Device
  metadata: {name: c, namespace: shops}
`
	got, err := run(list, "--operator-key", operator, "--device", "a="+a, "-f", "-")
	if err != nil {
		t.Fatal(err)
	}
	want, err := bus.ServerConfig(bus.ServerAuth{OperatorKeys: []string{operator}, Devices: map[contracts.DeviceID]string{"a": a, "b": b}})
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("printed\n%s", got)
	}
	for name, c := range map[string]struct {
		in, want string
		args     []string
	}{
		"no operator":              {"", "--operator-key is missing", nil},
		"a device without a key":   {"", "is not ID=KEY", []string{"--operator-key", operator, "--device", "a"}},
		"a key that is none":       {"", "of device a", []string{"--operator-key", operator, "--device", "a=x"}},
		"a device twice":           {list, `device "b" is there twice`, []string{"--operator-key", operator, "--device", "b=" + a, "-f", "-"}},
		"YAML that is none":        {"}", "read devices: -, document 1", []string{"--operator-key", operator, "-f", "-"}},
		"a file that is not there": {"", "no such file", []string{"--operator-key", operator, "-f", "/does/not/exist"}},
	} {
		if _, err := run(c.in, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
