package repo

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/plugin/cli"
)

// shops is a repository with hello v2 in the lab and v1 in the field, and a remote.
func shops(t *testing.T) (dir, bare string) {
	t.Helper()
	for name, value := range map[string]string{"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "HOME": t.TempDir(), "GIT_TOKEN": "", "NO_COLOR": "1"} {
		t.Setenv(name, value)
	}
	dir, bare = filepath.Join(t.TempDir(), "shops"), filepath.Join(t.TempDir(), "shops.git")
	_, err := gitops.Scaffold(dir, gitops.ScaffoldOptions{
		URL: "https://git.example.com/shops.git", Name: "shops", Namespace: "retail", Image: "registry.example.com/hello:v1",
		Devices: []gitops.ScaffoldDevice{{ID: "till-1"}, {Overlay: gitops.LabOverlay, ID: "desk"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	git(t, dir, "init", "-q", "-b", "main")
	git(t, dir, "config", "user.name", "Ada")
	git(t, dir, "config", "user.email", "ada@example.com")
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-q", "-m", "Begin the fleet")
	file := filepath.Join(dir, "overlays/lab/kustomization.yaml")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(raw, []byte("newTag: v1"), []byte("newTag: v2"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	git(t, dir, "commit", "-q", "-am", "Try v2 in the lab")
	git(t, dir, "clone", "-q", "--bare", dir, bare)
	git(t, dir, "remote", "add", "origin", bare)
	return dir, bare
}

func git(t *testing.T, dir string, arguments ...string) string {
	t.Helper()
	cmd := exec.Command("git", arguments...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(arguments, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// command runs `kubectl fleet repo`.
func command(t *testing.T, in io.Reader, arguments ...string) (out, talk string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	env := cli.NewEnv(genericiooptions.IOStreams{In: in, Out: &stdout, ErrOut: &stderr})
	env.Now = func() time.Time { return time.Unix(1_700_000_000, 0) }
	cmd := NewCommand(env)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetErr(&stderr)
	cmd.SetArgs(arguments)
	err = cmd.ExecuteContext(t.Context())
	return stdout.String(), stderr.String(), err
}

const promotedDiff = `diff --git a/overlays/field/kustomization.yaml b/overlays/field/kustomization.yaml
`

func TestPromoteShowsCommitsAndPushes(t *testing.T) {
	dir, bare := shops(t)
	before := git(t, dir, "for-each-ref")
	out, talk, err := command(t, nil, "promote", "lab", "field", "--repo", dir, "--dry-run")
	if err != nil || !strings.HasPrefix(out, promotedDiff) || !strings.Contains(out, "\n-  newTag: v1\n+  newTag: v2\n") || !strings.Contains(talk, "dry run") {
		t.Errorf("error %v, stdout\n%s\nstderr\n%s", err, out, talk)
	}
	if _, talk, err = command(t, nil, "promote", "lab", "field", "--repo", dir); cli.CodeOf(err) != cli.CodeError || !strings.Contains(err.Error(), "--yes") {
		t.Errorf("without a terminal: error %v, stderr\n%s", err, talk)
	}
	if after := git(t, dir, "for-each-ref"); after != before {
		t.Errorf("there was\n%s\nand is\n%s", before, after)
	}
	_, talk, err = command(t, nil, "promote", "lab", "field", "--repo", dir, "--yes", "--push")
	if err != nil || !strings.Contains(talk, "pushed branch promote/lab-to-field to origin") {
		t.Fatalf("error %v, stderr\n%s", err, talk)
	}
	if got := git(t, bare, "log", "-1", "--format=%s", "promote/lab-to-field"); got != "Promote hello v2 from lab to field" {
		t.Errorf("the remote has %q", got)
	}
	// On main there is the same to do, on the branch no more.
	out, talk, err = command(t, nil, "promote", "lab", "field", "--repo", dir, "--yes")
	if err != nil || out != "" || !strings.Contains(talk, "nothing to promote") {
		t.Errorf("again: error %v, stdout\n%s\nstderr\n%s", err, out, talk)
	}
	out, _, err = command(t, nil, "promote", "lab", "field", "--repo", filepath.Join(dir, "overlays"), "--branch", "main", "-m", "Ship it", "--yes", "-o", "json")
	var report struct {
		Kind   string
		Images []gitops.ImageChange
		Left   []gitops.FieldChange
		Change struct {
			Branch, Commit, Message, Diff string
			Files                         []string
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if c := report.Change; report.Kind != "Promotion" || len(report.Images) != 1 || report.Left == nil || c.Commit != git(t, dir, "rev-parse", "main") || c.Message != "Ship it" ||
		len(c.Files) != 1 || !strings.HasPrefix(c.Diff, promotedDiff) {
		t.Errorf("printed\n%s", out)
	}
	if status := git(t, dir, "status", "--porcelain"); status != "" {
		t.Errorf("not clean:\n%s", status)
	}
}

func TestPromoteAsksAtATerminal(t *testing.T) {
	dir, _ := shops(t)
	for answer, code := range map[string]int{"\n": cli.CodeBad, "n\n": cli.CodeBad, "yes\n": cli.CodeOK} {
		terminal, stdin, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := terminal.WriteString(answer); err != nil {
			t.Fatal(err)
		}
		branch := "answer-" + strings.TrimSpace(answer) + "x"
		_, talk, err := command(t, stdin, "promote", "lab", "field", "--repo", dir, "--branch", branch)
		if cli.CodeOf(err) != code || !strings.Contains(talk, "Commit this to the new branch "+branch+"? [y/N] ") {
			t.Errorf("answer %q: error %v, stderr\n%s", answer, err, talk)
		}
		if made := git(t, dir, "branch", "--list", branch) != ""; made != (code == cli.CodeOK) {
			t.Errorf("answer %q: branch made: %t", answer, made)
		}
		_ = terminal.Close()
		_ = stdin.Close()
	}
}

func TestRefusedPushSaysWhereTheCommitIs(t *testing.T) {
	dir, bare := shops(t)
	if err := os.WriteFile(filepath.Join(bare, "hooks/pre-receive"), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, talk, err := command(t, nil, "promote", "lab", "field", "--repo", dir, "--yes", "--push")
	if cli.CodeOf(err) != cli.CodeBad {
		t.Fatalf("error %v, stderr\n%s", err, talk)
	}
	for _, want := range []string{git(t, dir, "rev-parse", "promote/lab-to-field")[:7], "is on the local branch promote/lab-to-field", "pre-receive hook declined", "git push origin promote/lab-to-field"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
}

func TestRollbackCommits(t *testing.T) {
	dir, _ := shops(t)
	if _, talk, err := command(t, nil, "rollback", "hello", "--to", "HEAD~1", "--repo", dir, "--yes"); cli.CodeOf(err) != cli.CodeError || !strings.Contains(err.Error(), "--overlay") {
		t.Errorf("error %v, stderr\n%s", err, talk)
	}
	out, talk, err := command(t, nil, "rollback", "hello", "--to", "HEAD~1", "--overlay", "lab", "--repo", dir, "--yes")
	if err != nil || !strings.Contains(out, "\n-  newTag: v2\n+  newTag: v1\n") || !strings.Contains(talk, "to branch rollback/hello") {
		t.Errorf("error %v, stdout\n%s\nstderr\n%s", err, out, talk)
	}
	if first := git(t, dir, "rev-parse", "--short", "main~1"); git(t, dir, "log", "-1", "--format=%s", "rollback/hello") != "Roll hello back to "+first {
		t.Errorf("the commit is %s", git(t, dir, "log", "-1", "rollback/hello"))
	}
	out, talk, err = command(t, nil, "rollback", "hello", "--to", "HEAD", "--overlay", "lab", "--branch", "main", "--repo", dir, "--yes", "-o", "yaml")
	if err != nil || !strings.Contains(talk, "nothing to do") || !strings.Contains(out, "kind: Rollback\n") {
		t.Errorf("error %v, stdout\n%s\nstderr\n%s", err, out, talk)
	}
}

func TestOverlaysDeploymentsAndFieldsAreCompleted(t *testing.T) {
	dir, _ := shops(t)
	for arguments, want := range map[string]string{
		"promote --repo " + dir + " ":                         "field\nlab\n",
		"promote --repo " + dir + " lab ":                     "field\n",
		"promote --repo " + dir + " lab field --field ":       "images\n",
		"promote --repo " + dir + " lab field --deployment ":  "hello\nsignage\n",
		"promote --repo " + dir + " lab field --branch ":      "main\n",
		"promote --repo " + dir + " lab field --remote ":      "origin\n",
		"rollback --repo " + dir + " ":                        "hello\nsignage\n",
		"rollback --repo " + dir + " hello --to x --overlay ": "field\nlab\n",
	} {
		out, _, err := command(t, nil, append([]string{"__complete"}, strings.Split(arguments, " ")...)...)
		if err != nil || !strings.Contains("\n"+out, "\n"+want+":") {
			t.Errorf("%s: error %v\n%s", arguments, err, out)
		}
	}
}
