package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleet/bus"
)

// TestManifestsUseFlagsThatThereAre parses the arguments of what is installed.
func TestManifestsUseFlagsThatThereAre(t *testing.T) {
	deployment, job := &appsv1.Deployment{}, &batchv1.Job{}
	run, setup := runCommand(), setupCommand()
	for file, into := range map[string]any{"operator/deployment.yaml": deployment, "setup/job.yaml": job} {
		raw, err := os.ReadFile("../../manifests/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict(raw, into); err != nil {
			t.Fatal(err)
		}
	}
	for args, c := range map[*[]string]*cobra.Command{&deployment.Spec.Template.Spec.Containers[0].Args: run, &job.Spec.Template.Spec.Containers[0].Args: setup} {
		if (*args)[0] != c.Name() {
			t.Fatalf("the manifest runs %q", (*args)[0])
		}
		if err := c.ParseFlags((*args)[1:]); err != nil {
			t.Error(err)
		}
	}
	if got := run.Flags().Lookup("enable-leader-election").Value.String(); got != "true" {
		t.Errorf("two replicas, and leader election is %s", got)
	}
}

func TestSetupRefusesWhatCantBe(t *testing.T) {
	t.Setenv("RUNTIME_NAMESPACE", "fleet-system")
	for args, want := range map[string]string{
		"--nats-name=tls://nats.example.com":   "neither a DNS name nor an IP address; it has no scheme",
		"--nats-name=nats.example.com:4222":    "no port",
		"--certificate-lifetime=1m":            "--certificate-lifetime is 1m0s, want at least an hour",
		"--authority-lifetime=48h":             "over a third of --authority-lifetime 48h0m0s",
		"--nats-name=*.example.com --nats-x=1": "unknown flag: --nats-x",
	} {
		c := setupCommand()
		c.SetOut(&bytes.Buffer{})
		c.SetErr(&bytes.Buffer{})
		c.SilenceUsage, c.SilenceErrors = true, true
		c.SetArgs(strings.Fields(args))
		if err := c.Execute(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", args, err)
		}
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

func TestNATSConfigIsThatOfTheOperatorsKeys(t *testing.T) {
	run := func(args ...string) (string, error) {
		c := natsConfigCommand()
		var out bytes.Buffer
		c.SetOut(&out)
		c.SetErr(&bytes.Buffer{})
		c.SilenceUsage, c.SilenceErrors = true, true
		c.SetArgs(args)
		err := c.Execute()
		return out.String(), err
	}
	file := filepath.Join(t.TempDir(), "operator.nk")
	k := keygenCommand()
	k.SetOut(&bytes.Buffer{})
	k.SetArgs([]string{"--out", file})
	if err := k.Execute(); err != nil {
		t.Fatal(err)
	}
	got, err := run("--nats-seed-file", file)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := bus.ReadKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	want, err := keys.ServerConfig(nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) || strings.Contains(got, strings.TrimSpace(string(seed))) {
		t.Errorf("printed\n%s", got)
	}
	nonsense := filepath.Join(t.TempDir(), "nonsense")
	if err := os.WriteFile(nonsense, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		want string
		args []string
	}{
		"no seed":                  {"--nats-seed-file is missing", nil},
		"a seed that is none":      {"no NKey seed", []string{"--nats-seed-file", nonsense}},
		"a file that is not there": {"no such file", []string{"--nats-seed-file", "/does/not/exist"}},
	} {
		if _, err := run(c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSetupRefusesAClusterThatCantWork(t *testing.T) {
	t.Setenv("RUNTIME_NAMESPACE", "fleet-system")
	for _, servers := range []string{"0", "2", "-1"} {
		c := setupCommand()
		c.SetOut(&bytes.Buffer{})
		c.SetErr(&bytes.Buffer{})
		c.SilenceUsage, c.SilenceErrors = true, true
		c.SetArgs([]string{"--nats-servers", servers})
		if err := c.Execute(); err == nil || !strings.Contains(err.Error(), "--nats-servers is "+servers) {
			t.Errorf("%s servers: %v", servers, err)
		}
	}
}
