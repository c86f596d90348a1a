package gitops_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleet/gitops"
)

// alone keeps the configuration and the keys of whoever runs the tests out of them.
func alone(t *testing.T) {
	t.Helper()
	t.Setenv("GIT_CONFIG_GLOBAL", "/dev/null")
	t.Setenv("GIT_CONFIG_SYSTEM", "/dev/null")
	t.Setenv("HOME", t.TempDir())
	for _, name := range []string{"XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "GIT_TOKEN", "GIT_USERNAME", "GIT_ASKPASS", "SSH_ASKPASS", "EMAIL", "GIT_DIR",
		"GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"} {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
}

// runGit runs git and returns what it printed.
func runGit(t *testing.T, dir string, arguments ...string) string {
	t.Helper()
	cmd := exec.Command("git", arguments...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(arguments, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// fleetRepository is a scaffold whose first commit has hello v1 everywhere, and whose
// second has v2 in the lab.
func fleetRepository(t *testing.T) string {
	t.Helper()
	alone(t)
	dir := filepath.Join(t.TempDir(), "shops")
	o := options()
	o.Image = "registry.example.com/hello:v1"
	if _, err := gitops.Scaffold(dir, o); err != nil {
		t.Fatal(err)
	}
	runGit(t, dir, "init", "-q", "-b", "main")
	runGit(t, dir, "config", "user.name", "Ada")
	runGit(t, dir, "config", "user.email", "ada@example.com")
	commitAll(t, dir, "Begin the fleet")
	replace(t, dir, "overlays/lab/kustomization.yaml", "newTag: v1", "newTag: v2")
	commitAll(t, dir, "Try v2 in the lab")
	return dir
}

func commitAll(t *testing.T, dir, message string) string {
	t.Helper()
	runGit(t, dir, "add", "-A")
	runGit(t, dir, "commit", "-q", "-m", message)
	return runGit(t, dir, "rev-parse", "HEAD")
}

func replace(t *testing.T, dir, name, old, new string) {
	t.Helper()
	raw := read(t, dir, name)
	if !strings.Contains(raw, old) {
		t.Fatalf("%s has no %q:\n%s", name, old, raw)
	}
	write(t, dir, name, strings.Replace(raw, old, new, 1))
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func openBranch(t *testing.T, dir, name string) *gitops.Branch {
	t.Helper()
	branch, err := gitops.OpenBranch(t.Context(), dir, name, false)
	if err != nil {
		t.Fatal(err)
	}
	return branch
}

func draft(t *testing.T, branch *gitops.Branch, files map[string]string, gone ...string) *gitops.Draft {
	t.Helper()
	changes := map[string][]byte{}
	for name, text := range files {
		changes[name] = []byte(text)
	}
	for _, name := range gone {
		changes[name] = nil
	}
	d, err := branch.Draft(changes)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func commitOptions() gitops.CommitOptions {
	return gitops.CommitOptions{Message: "Change something\n\nBecause.", Getenv: os.Getenv, Now: time.Now()}
}

// withOddities commits what a commit must leave as it is, and leaves changes of every
// kind in the working tree and in the index.
func withOddities(t *testing.T, dir string) {
	t.Helper()
	library := filepath.Join(t.TempDir(), "library")
	runGit(t, "", "init", "-q", "-b", "main", library)
	runGit(t, library, "-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "-q", "--allow-empty", "-m", "Begin")
	runGit(t, dir, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", library, "library")
	if err := os.Symlink("overlays/field", filepath.Join(dir, "production")); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "hooks/check", "#!/bin/sh\n")
	if err := os.Chmod(filepath.Join(dir, "hooks/check"), 0o755); err != nil {
		t.Fatal(err)
	}
	// Sorts between a folder and what lies in it, the way Git sorts.
	write(t, dir, "overlays.txt", "lab, field\n")
	write(t, dir, "overlays-old/a", "a\n")
	commitAll(t, dir, "Add what is odd")
	write(t, dir, "README.md", "changed\n")
	write(t, dir, "staged.txt", "staged\n")
	runGit(t, dir, "add", "staged.txt")
	write(t, dir, "untracked.txt", "untracked\n")
}

func TestCommitLeavesTheWorkingTreeAlone(t *testing.T) {
	dir := fleetRepository(t)
	withOddities(t, dir)
	for _, head := range []string{"a branch", "no branch"} {
		t.Run("with HEAD at "+head, func(t *testing.T) {
			if head == "no branch" {
				runGit(t, dir, "checkout", "-q", "--detach")
			}
			name := "try/" + strings.ReplaceAll(head, " ", "-")
			before, at := runGit(t, dir, "status", "--porcelain=v2"), runGit(t, dir, "rev-parse", "HEAD")
			modes := runGit(t, dir, "ls-tree", "-r", "HEAD")
			branch := openBranch(t, dir, name)
			d := draft(t, branch, map[string]string{"overlays/field/extra/new.yaml": "a: b\n", "hooks/check": "#!/bin/sh -e\n"}, "overlays-old/a")
			var diff bytes.Buffer
			if err := d.Diff(&diff, false); err != nil {
				t.Fatal(err)
			}
			objects := runGit(t, dir, "count-objects")
			if again := runGit(t, dir, "count-objects"); again != objects {
				t.Errorf("a draft writes objects: %s, then %s", objects, again)
			}
			hash, err := d.Commit(t.Context(), commitOptions())
			if err != nil {
				t.Fatal(err)
			}
			if got := runGit(t, dir, "rev-parse", name); got != hash || runGit(t, dir, "rev-parse", name+"^") != at {
				t.Errorf("the branch is at %s, the commit %s", got, hash)
			}
			if after := runGit(t, dir, "status", "--porcelain=v2"); after != before {
				t.Errorf("status was\n%s\nand is\n%s", before, after)
			}
			if changed := runGit(t, dir, "diff", "--name-status", at, name); changed != "M\thooks/check\nD\toverlays-old/a\nA\toverlays/field/extra/new.yaml" {
				t.Errorf("changed\n%s", changed)
			}
			if want := runGit(t, dir, "diff", "--full-index", "--no-renames", at, name); strings.TrimSpace(diff.String()) != want {
				t.Errorf("the diff that is shown\n%s\nis not git's\n%s", diff.String(), want)
			}
			for _, line := range strings.Split(modes, "\n") {
				fields := strings.Fields(line)
				if fields[3] == "overlays-old/a" {
					continue
				}
				if now := strings.Fields(runGit(t, dir, "ls-tree", name, fields[3])); now[0] != fields[0] || fields[3] != "hooks/check" && now[2] != fields[2] {
					t.Errorf("%s was %v and is %v", fields[3], fields, now)
				}
			}
			runGit(t, dir, "fsck", "--strict")
			if who := runGit(t, dir, "log", "-1", "--format=%an <%ae> %cn <%ce>%n%B", name); who != "Ada <ada@example.com> Ada <ada@example.com>\nChange something\n\nBecause." {
				t.Errorf("the commit is\n%s", who)
			}
		})
	}
}

func TestCommitToTheBranchThatIsCheckedOut(t *testing.T) {
	dir := fleetRepository(t)
	withOddities(t, dir)
	before := runGit(t, dir, "status", "--porcelain")
	d := draft(t, openBranch(t, dir, "main"), map[string]string{"overlays/field/extra/new.yaml": "a: b\n", "hooks/check": "#!/bin/sh -e\n"}, "overlays-old/a")
	if _, err := d.Commit(t.Context(), commitOptions()); err != nil {
		t.Fatal(err)
	}
	if after := runGit(t, dir, "status", "--porcelain"); after != before {
		t.Errorf("status was\n%s\nand is\n%s", before, after)
	}
	if got := read(t, dir, "overlays/field/extra/new.yaml"); got != "a: b\n" {
		t.Errorf("the new file has %q", got)
	}
	if info, err := os.Stat(filepath.Join(dir, "hooks/check")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("hooks/check: %v, %v", info, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "overlays-old/a")); !os.IsNotExist(err) {
		t.Errorf("overlays-old/a is there still: %v", err)
	}
	runGit(t, dir, "fsck", "--strict")
	for _, name := range []string{"main@{1}", "HEAD@{1}"} {
		if was := runGit(t, dir, "rev-parse", name); was != runGit(t, dir, "rev-parse", "main~1") {
			t.Errorf("%s is %s", name, was)
		}
	}
	runGit(t, dir, "commit", "-q", "-m", "Commit what was staged") // the index is one that git reads
	if changed := runGit(t, dir, "diff", "--name-only", "HEAD~1", "HEAD"); changed != "staged.txt" {
		t.Errorf("the next commit of what was staged has\n%s", changed)
	}
}

// state is all that a refused commit must not change.
func state(t *testing.T, dir string) string {
	t.Helper()
	return runGit(t, dir, "for-each-ref") + "\n" + runGit(t, dir, "status", "--porcelain=v2") + "\n" + runGit(t, dir, "ls-files", "--stage")
}

func TestCommitRefusesWhatWouldLoseSomething(t *testing.T) {
	const file = "overlays/field/kustomization.yaml"
	for name, c := range map[string]struct {
		branch string
		// meanwhile happens between the draft and the commit.
		meanwhile func(t *testing.T, dir string)
		want      string
	}{
		"a file with changes": {"main", func(t *testing.T, dir string) { write(t, dir, file, "mine\n") }, file},
		"a file with staged changes": {"main", func(t *testing.T, dir string) {
			old := read(t, dir, file)
			write(t, dir, file, "mine\n")
			runGit(t, dir, "add", file)
			write(t, dir, file, old)
		}, file},
		"a file that was removed":     {"main", func(t *testing.T, dir string) { _ = os.Remove(filepath.Join(dir, file)) }, file},
		"a file where there was none": {"main", func(t *testing.T, dir string) { write(t, dir, "overlays/field/new.yaml", "mine\n") }, "overlays/field/new.yaml"},
		"a folder that is a link now": {"main", func(t *testing.T, dir string) {
			elsewhere := filepath.Join(t.TempDir(), "field")
			if err := os.Rename(filepath.Join(dir, "overlays/field"), elsewhere); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(elsewhere, filepath.Join(dir, "overlays/field")); err != nil {
				t.Fatal(err)
			}
		}, file},
		"a branch that has moved":       {"main", func(t *testing.T, dir string) { runGit(t, dir, "commit", "-q", "--allow-empty", "-m", "x") }, "moved meanwhile"},
		"a branch that has come":        {"new", func(t *testing.T, dir string) { runGit(t, dir, "branch", "new") }, "moved meanwhile"},
		"a branch that has gone":        {"old", func(t *testing.T, dir string) { runGit(t, dir, "branch", "-D", "old") }, "removed meanwhile"},
		"another branch is checked out": {"main", func(t *testing.T, dir string) { runGit(t, dir, "checkout", "-q", "old") }, "checked out meanwhile"},
		"git at work on the index":      {"main", func(t *testing.T, dir string) { write(t, dir, ".git/index.lock", "") }, "index.lock"},
		"git at work on the branch":     {"main", func(t *testing.T, dir string) { write(t, dir, ".git/refs/heads/main.lock", "") }, "main.lock"},
		"a merge": {"main", func(t *testing.T, dir string) {
			write(t, dir, ".git/MERGE_HEAD", runGit(t, dir, "rev-parse", "old")+"\n")
		}, "MERGE_HEAD"},
		"a folder that can't be written": {"main", func(t *testing.T, dir string) {
			if os.Geteuid() == 0 {
				// Nothing stops root but what is in the way of the file that is written first.
				write(t, dir, "overlays/field/kustomization.yaml.fleet-new/x", "")
				return
			}
			if err := os.Chmod(filepath.Join(dir, "overlays/field"), 0o555); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "overlays/field"), 0o755) })
		}, "kustomization.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := fleetRepository(t)
			runGit(t, dir, "branch", "old")
			d := draft(t, openBranch(t, dir, c.branch), map[string]string{"base/hello.yaml": "a: 1\n", file: "a: 1\n", "overlays/field/new.yaml": "b: 1\n"})
			c.meanwhile(t, dir)
			var before string
			if !strings.HasPrefix(name, "git at work") {
				before = state(t, dir)
			}
			_, err := d.Commit(t.Context(), commitOptions())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			for _, lock := range []string{".git/index.lock", ".git/refs/heads/main.lock"} {
				if _, err := os.Stat(filepath.Join(dir, lock)); (err == nil) != strings.Contains(lock, c.want) {
					t.Errorf("%s: %v", lock, err)
				}
				_ = os.Remove(filepath.Join(dir, lock))
			}
			if after := state(t, dir); before != "" && after != before {
				t.Errorf("it was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

func TestOpenBranchSaysWhyThereCanBeNoCommit(t *testing.T) {
	for name, c := range map[string]struct {
		branch  string
		follow  bool
		prepare func(t *testing.T, dir string) string
		want    string
	}{
		"a name that is none":  {"a..b", false, nil, "can't be the name"},
		"an option for a name": {"--force", false, nil, "can't be the name"},
		"no repository":        {"x", false, func(t *testing.T, _ string) string { return t.TempDir() }, "not in a Git repository"},
		"no folder":            {"x", false, func(t *testing.T, dir string) string { return filepath.Join(dir, "none") }, "there is no folder"},
		"a bare repository": {"x", false, func(t *testing.T, dir string) string {
			bare := filepath.Join(t.TempDir(), "bare")
			runGit(t, dir, "clone", "-q", "--bare", dir, bare)
			return bare
		}, "is bare"},
		"no commit yet": {"x", false, func(t *testing.T, _ string) string {
			empty := t.TempDir()
			runGit(t, empty, "init", "-q", "-b", "main")
			return empty
		}, "no commit yet"},
		"a branch in the way of the folder": {"main/x", false, nil, "beside branch main"},
		"a branch in the folder": {"team", false, func(t *testing.T, dir string) string {
			runGit(t, dir, "branch", "team/x")
			return dir
		}, "beside branch team/x"},
		"a branch of another working tree": {"other", false, func(t *testing.T, dir string) string {
			runGit(t, dir, "worktree", "add", "-q", "-b", "other", filepath.Join(t.TempDir(), "other"))
			return dir
		}, "another working tree"},
		"the branch of the main working tree": {"main", false, func(t *testing.T, dir string) string {
			other := filepath.Join(t.TempDir(), "other")
			runGit(t, dir, "worktree", "add", "-q", "-b", "other", other)
			return other
		}, "another working tree"},
		"a branch left over that has gone its own way": {"left", true, func(t *testing.T, dir string) string {
			runGit(t, dir, "checkout", "-q", "-b", "left", "HEAD~1")
			runGit(t, dir, "commit", "-q", "--allow-empty", "-m", "Squashed elsewhere")
			runGit(t, dir, "checkout", "-q", "main")
			return dir
		}, "git branch -D left"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := fleetRepository(t)
			if c.prepare != nil {
				dir = c.prepare(t, dir)
			}
			if _, err := gitops.OpenBranch(t.Context(), dir, c.branch, c.follow); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestBranchThatIsLeftOverGoesOn(t *testing.T) {
	dir := fleetRepository(t)
	for name, at := range map[string]string{"merged": "HEAD~1", "ahead": "HEAD"} {
		runGit(t, dir, "branch", name, at)
	}
	runGit(t, dir, "checkout", "-q", "ahead")
	runGit(t, dir, "commit", "-q", "--allow-empty", "-m", "More")
	runGit(t, dir, "checkout", "-q", "main")
	for name, want := range map[string]string{"merged": "main", "ahead": "ahead"} {
		branch, err := gitops.OpenBranch(t.Context(), dir, name, true)
		if err != nil {
			t.Fatal(err)
		}
		if got := branch.Base(); got != runGit(t, dir, "rev-parse", want) {
			t.Errorf("a branch that is %s is built upon %s", name, got)
		}
		if _, err := draft(t, branch, map[string]string{"new": "x\n"}).Commit(t.Context(), commitOptions()); err != nil {
			t.Error(err)
		}
	}
	runGit(t, dir, "fsck", "--strict")
}

func TestCommitInALinkedWorkingTree(t *testing.T) {
	dir := fleetRepository(t)
	other := filepath.Join(t.TempDir(), "other")
	runGit(t, dir, "worktree", "add", "-q", "-b", "other", other)
	for _, name := range []string{"other", "beside"} {
		if _, err := draft(t, openBranch(t, other, name), map[string]string{"new-" + name: "x\n"}).Commit(t.Context(), commitOptions()); err != nil {
			t.Fatal(err)
		}
		if files := runGit(t, dir, "ls-tree", "--name-only", name, "new-"+name); files == "" {
			t.Errorf("branch %s has no new file", name)
		}
	}
	for _, place := range []string{dir, other} {
		if status := runGit(t, place, "status", "--porcelain"); status != "" {
			t.Errorf("%s is not clean:\n%s", place, status)
		}
	}
}

func TestCommitIsBySomebody(t *testing.T) {
	dir := fleetRepository(t)
	runGit(t, dir, "config", "--unset", "user.name")
	before := state(t, dir)
	if _, err := draft(t, openBranch(t, dir, "new"), map[string]string{"new": "x\n"}).Commit(t.Context(), commitOptions()); err == nil || !strings.Contains(err.Error(), "git config --global user.name") {
		t.Errorf("error %v", err)
	}
	if after := state(t, dir); after != before {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
	// An included file, as a condition on the folder brings it.
	write(t, dir, ".git/work", "[user]\n\tname = Grace\n")
	runGit(t, dir, "config", "include.path", "work")
	t.Setenv("GIT_COMMITTER_EMAIL", "robot@example.com")
	if _, err := draft(t, openBranch(t, dir, "new"), map[string]string{"new": "x\n"}).Commit(t.Context(), commitOptions()); err != nil {
		t.Fatal(err)
	}
	if who := runGit(t, dir, "log", "-1", "--format=%an <%ae> %cn <%ce>", "new"); who != "Grace <ada@example.com> Grace <robot@example.com>" {
		t.Errorf("the commit is by %s", who)
	}
}
