package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/agent/config"
)

func run(t *testing.T, c *cobra.Command, configuration string, args ...string) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(config.PathVariable, path)
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&bytes.Buffer{})
	c.SilenceUsage, c.SilenceErrors = true, true
	c.SetArgs(args)
	err := c.Execute()
	return out.String(), err
}

func TestATypoIsOneClearErrorInEveryCommand(t *testing.T) {
	const typo = "device: till-1\nnats:\n  url: nats://localhost:4222\nheartbeetInterval: 30s\n"
	for _, c := range []*cobra.Command{runCommand(), statusCommand(), identityCommand(), validateCommand()} {
		_, err := run(t, c, typo)
		if err == nil {
			t.Errorf("%s takes it", c.Name())
			continue
		}
		for _, want := range []string{"config.yaml", "line 4", "heartbeetInterval", "did you mean heartbeatInterval?"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not in %q", c.Name(), want, err)
			}
		}
	}
}

func TestIdentityIsMadeOnceAndStatusShowsIt(t *testing.T) {
	dir := t.TempDir()
	good := "device: till-1\nnats: {url: 'nats://localhost:4222'}\nstateDir: " + filepath.Join(dir, "state") + "\n"
	key, err := run(t, identityCommand(), good)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := run(t, identityCommand(), good); err != nil || again != key {
		t.Errorf("the second time it is %q, %v; the first %q", again, err, key)
	}
	out, err := run(t, statusCommand(), good)
	if err != nil || !strings.Contains(out, strings.TrimSpace(key)) {
		t.Errorf("status %q, %v", out, err)
	}
	if _, err := run(t, statusCommand(), good, "-o", "xml"); err == nil || !strings.Contains(err.Error(), "json") {
		t.Errorf("an output that is none: %v", err)
	}
	if out, err := run(t, validateCommand(), good); err != nil || !strings.Contains(out, "is valid") {
		t.Errorf("validate %q, %v", out, err)
	}
}
