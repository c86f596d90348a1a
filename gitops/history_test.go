package gitops_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nationtech/fleet/gitops"
)

func commitFile(t *testing.T, dir, content, message string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	runGit(t, dir, "add", "file")
	runGit(t, dir, "commit", "-q", "-m", message)
	return runGit(t, dir, "rev-parse", "HEAD")
}

func TestHistory(t *testing.T) {
	alone(t)
	dir := filepath.Join(t.TempDir(), "clone")
	runGit(t, ".", "init", "-q", "-b", "main", dir)
	runGit(t, dir, "config", "user.name", "Ada")
	runGit(t, dir, "config", "user.email", "ada@example.com")
	h, err := gitops.OpenHistory(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Commit("HEAD"); err == nil || !strings.Contains(err.Error(), "no commit yet") {
		t.Errorf("of a repository without commits: %v", err)
	}
	first := commitFile(t, dir, "1", "Begin\n\nWith a body.")
	second := commitFile(t, dir, "2", "Go on")
	runGit(t, dir, "checkout", "-q", "-b", "side", first)
	side := commitFile(t, dir, "3", "Aside")

	c, err := h.Commit(first[:10])
	if err != nil || c.Hash != first || c.Subject != "Begin" || c.Author != "Ada" || c.Email != "ada@example.com" || c.Time.IsZero() {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := h.Commit("nowhere"); !errors.Is(err, gitops.ErrUnknownCommit) {
		t.Errorf("of a revision that is not there: %v", err)
	}
	for _, c := range []struct {
		commit, in string
		want       bool
	}{{first, first, true}, {first, second, true}, {second, first, false}, {side, second, false}, {first, side, true}} {
		if got, err := h.Contains(c.commit, c.in); err != nil || got != c.want {
			t.Errorf("%.7s in %.7s: %v, %v", c.commit, c.in, got, err)
		}
	}
	if _, err := h.Contains(first, strings.Repeat("a", 40)); !errors.Is(err, gitops.ErrUnknownCommit) {
		t.Errorf("of a commit that was never fetched: %v", err)
	}

	remote := filepath.Join(t.TempDir(), "remote.git")
	runGit(t, ".", "init", "-q", "--bare", remote)
	runGit(t, dir, "remote", "add", "origin", remote)
	if tracked, err := h.Tracked("origin", "main"); err != nil || tracked != "" {
		t.Errorf("before the first push: %q, %v", tracked, err)
	}
	runGit(t, dir, "push", "-q", "origin", "main")
	if tracked, err := h.Tracked("origin", "main"); err != nil || tracked != second {
		t.Errorf("after a push: %q, %v", tracked, err)
	}
	if remotes, err := h.Remotes(); err != nil || len(remotes) != 1 || remotes[0].Name != "origin" || remotes[0].URLs[0] != remote {
		t.Errorf("remotes %v, %v", remotes, err)
	}

	shallow := filepath.Join(t.TempDir(), "shallow")
	runGit(t, ".", "clone", "-q", "--depth=1", "--branch=main", "file://"+remote, shallow)
	s, err := gitops.OpenHistory(shallow)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Contains(first, second); !errors.Is(err, gitops.ErrUnknownCommit) {
		t.Errorf("in a shallow clone: %v", err)
	}
}

func TestSameRepository(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"https://git.example.com/team/fleet.git", "git@git.example.com:team/fleet.git", true},
		{"ssh://git@git.example.com:22/team/fleet", "https://user:token@Git.example.com/team/fleet.git/", true},
		{"http://127.0.0.1:8080/fleet.git", "http://127.0.0.1:8081/fleet.git", false},
		{"https://git.example.com/team/fleet.git", "https://git.example.com/team/other.git", false},
		{"/srv/fleet.git", "/srv/fleet", true},
		{"", "", false},
	} {
		if got := gitops.SameRepository(c.a, c.b); got != c.same {
			t.Errorf("%q and %q: %v", c.a, c.b, got)
		}
	}
}
