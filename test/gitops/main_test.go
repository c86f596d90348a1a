// Package gitops_test tests what a fleet repository is used with as whole programs: git,
// kubectl and the plugin.
package gitops_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// program is the path of a program that make build has built.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: make build builds it", err)
	}
	return path
}

// run runs a program with the built ones before all others on the PATH, and without the
// Git configuration of whoever runs the tests.
func run(ctx context.Context, t *testing.T, dir string, env []string, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program(t, "kubectl-fleet"))+string(os.PathListSeparator)+os.Getenv("PATH"),
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_TERMINAL_PROMPT=0")
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func must(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	out, err := run(t.Context(), t, dir, env, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// scaffold makes a Git repository of what repo init writes.
func scaffold(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shops")
	must(t, ".", nil, program(t, "kubectl-fleet"), "repo", "init", dir, "--name", "shops", "--namespace", "retail",
		"--url", "https://git.example.com/shops.git", "--image", "registry.example.com/hello:v1", "--device", "till-1")
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main"}, {"config", "user.name", "test"}, {"config", "user.email", "test@example.com"},
		{"config", "core.hooksPath", ".githooks"}, {"add", "."},
	} {
		must(t, dir, nil, "git", args...)
	}
	return dir
}

// edit replaces a text that a file has.
func edit(t *testing.T, dir, file, old, new string) {
	t.Helper()
	path := filepath.Join(dir, file)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), old) {
		t.Fatalf("%s has no %q", file, old)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(raw), old, new, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}
