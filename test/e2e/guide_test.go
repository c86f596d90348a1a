package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/test/env"
)

const guide = "../../docs/guides/first-fleet.md"

// block is a part of the guide that is run.
type block struct {
	// where is "yours" for what a reader replaces, "on-device" for what is run on each
	// device, and empty for the reader's own machine.
	where, script string
}

// blocks reads what there is to run.
func blocks(t *testing.T) []block {
	t.Helper()
	text, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	var out []block
	for _, m := range regexp.MustCompile("(?ms)^```sh ?([a-z-]*)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		out = append(out, block{m[1], m[2]})
	}
	if len(out) < 8 {
		t.Fatalf("%s has only %d blocks", guide, len(out))
	}
	return out
}

// TestGuide runs every command of the guide for who runs Flux already, as it is there.
func TestGuide(t *testing.T) {
	s := &suite{T: t, Fleet: newFleet(t, "desk", "till-1", "till-2")}
	s.Devices[0].Overlay = gitops.LabOverlay
	ctx := t.Context()
	s.must("start the control plane", s.StartControlPlane(ctx))
	s.must("install the operator", s.InstallOperator(ctx, "../../manifests"))
	var image string
	for _, v := range []string{"v2", "v1"} {
		var err error
		image, err = s.PushHello(ctx, v)
		s.must("push an image", err)
	}
	url, err := s.ControlPlane.CreateGit(ctx, env.RepositoryName)
	s.must("make a Git repository", err)
	s.must("prepare the devices", s.PrepareDevices(ctx))

	begun := time.Now()
	home := t.TempDir()
	shell := &shell{suite: s, dir: home, env: []string{
		"KUBECONFIG=" + s.ControlPlane.Kubeconfig, "PATH=" + s.Bin + ":" + os.Getenv("PATH"), "HOME=" + home,
		"GIT_URL=" + url, "IMAGE=" + strings.TrimSuffix(image, ":v1"), "SERVER=" + s.ControlPlane.NATS,
		"GIT_CONFIG_SYSTEM=/dev/null", "GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com",
	}}
	outputs := map[string]string{}
	for _, b := range blocks(t) {
		switch b.where {
		case "yours":
		case "on-device":
			for _, d := range s.Devices {
				token, err := os.ReadFile(filepath.Join(home, "token-"+d.Overlay))
				s.must("read the token", err)
				_, err = d.Shell(ctx, string(token), "SERVER="+s.ControlPlane.NATS, b.script)
				s.must("on "+d.ID, err)
				s.must("start the agent of "+d.ID, d.Agent.Start())
			}
		default:
			outputs[b.script] = shell.run(b.script)
			if strings.Contains(b.script, "repo init") {
				// The usual ports may be taken on this machine.
				s.must("choose ports", s.ChoosePorts(filepath.Join(home, "shops")))
			}
		}
	}
	t.Logf("from the first command to the last: %s", time.Since(begun))
	for script, out := range outputs {
		for mark, want := range map[string][]string{
			"rev HEAD~1..HEAD": {"hello", "desk"}, "no-such-version": {"ImagePullFailed", "device till-"}, "fleet trace": {"Ada <ada@example.com>", "till-1", "Roll hello back"},
		} {
			for _, text := range want {
				if strings.Contains(script, mark) && !strings.Contains(out, text) {
					t.Errorf("%q is not in what this says:\n%s\n%s", text, script, out)
				}
			}
		}
	}
	s.must("serve", s.AllServe(ctx, "v2"))
}

// shell is the reader's: it stays where cd has led.
type shell struct {
	*suite
	dir string
	env []string
}

// run runs a script as it is, and returns all that it prints.
func (s *shell) run(script string) string {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 4*time.Minute)
	defer cancel()
	where := filepath.Join(s.Dir, "guide.dir")
	c := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script+"\npwd > "+where)
	c.Dir, c.Env = s.dir, s.env
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Run(); err != nil {
		s.Fatalf("%v\n%s\n%s", err, script, out.String())
	}
	dir, err := os.ReadFile(where)
	s.must("find where the shell is", err)
	s.dir = strings.TrimSpace(string(dir))
	s.Logf("$ %s\n%s", strings.ReplaceAll(strings.TrimSpace(script), "\n", "\n$ "), out.String())
	return out.String()
}
