package gitops_test

import (
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nationtech/fleet/gitops"
)

// bareRemote is a repository to push to, which has what dir has.
func bareRemote(t *testing.T, dir string) string {
	t.Helper()
	bare := filepath.Join(t.TempDir(), "shops.git")
	runGit(t, dir, "clone", "-q", "--bare", dir, bare)
	runGit(t, bare, "config", "http.receivepack", "true")
	return bare
}

// pushed commits to a branch and pushes it.
func pushed(t *testing.T, dir, name, remote string) (string, error) {
	t.Helper()
	branch := openBranch(t, dir, name)
	to, err := branch.Remote(remote)
	if err != nil {
		return "", err
	}
	hash, err := draft(t, branch, map[string]string{"new-" + strings.ReplaceAll(name, "/", "-"): "x\n"}).Commit(t.Context(), commitOptions())
	if err != nil {
		t.Fatal(err)
	}
	return hash, branch.Push(t.Context(), to, os.Getenv)
}

func TestPushBringsThatBranchAlone(t *testing.T) {
	dir := fleetRepository(t)
	bare := bareRemote(t, dir)
	runGit(t, dir, "remote", "add", "origin", "shops:shops.git")
	// Only git knows of this rewrite: it is not the repository's own.
	write(t, dir, ".git/rewrites", fmt.Sprintf("[url %q]\n\tinsteadOf = shops:\n", filepath.Dir(bare)+"/"))
	runGit(t, dir, "config", "include.path", "rewrites")
	runGit(t, dir, "branch", "private")
	runGit(t, dir, "tag", "secret")
	for _, name := range []string{"promote/lab-to-field", "main"} {
		hash, err := pushed(t, dir, name, "")
		if err != nil {
			t.Fatal(err)
		}
		if got := runGit(t, bare, "rev-parse", name); got != hash {
			t.Errorf("the remote's %s is at %s, not at %s", name, got, hash)
		}
		if got := runGit(t, dir, "rev-parse", "origin/"+name); got != hash {
			t.Errorf("origin/%s is at %s, not at %s", name, got, hash)
		}
	}
	if refs := runGit(t, bare, "for-each-ref", "--format=%(refname)"); refs != "refs/heads/main\nrefs/heads/promote/lab-to-field" {
		t.Errorf("the remote has\n%s", refs)
	}
	runGit(t, bare, "fsck", "--strict")
}

func TestPushOfAShallowClone(t *testing.T) {
	dir := fleetRepository(t)
	bare := bareRemote(t, dir)
	clone := filepath.Join(t.TempDir(), "clone")
	runGit(t, dir, "clone", "-q", "--depth", "1", "file://"+bare, clone)
	runGit(t, clone, "config", "user.name", "Ada")
	runGit(t, clone, "config", "user.email", "ada@example.com")
	for _, name := range []string{"main", "new"} {
		hash, err := pushed(t, clone, name, "")
		if err != nil {
			t.Fatal(err)
		}
		if got := runGit(t, bare, "rev-parse", name); got != hash {
			t.Errorf("the remote's %s is at %s, not at %s", name, got, hash)
		}
	}
	runGit(t, bare, "fsck", "--strict")
}

func TestRefusedPushLosesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(t *testing.T, dir, bare string)
		want    string
	}{
		"a newer commit that was never fetched": {func(t *testing.T, dir, bare string) {
			clone := filepath.Join(t.TempDir(), "clone")
			runGit(t, dir, "clone", "-q", bare, clone)
			runGit(t, clone, "-c", "user.name=Grace", "-c", "user.email=grace@example.com", "commit", "-q", "--allow-empty", "-m", "Newer")
			runGit(t, clone, "push", "-q")
		}, "commits that this one lacks"},
		"a newer commit that was fetched": {func(t *testing.T, dir, bare string) {
			runGit(t, dir, "push", "-q", bare, runGit(t, dir, "commit-tree", "-p", "main", "-m", "Newer", "main^{tree}")+":refs/heads/main")
			runGit(t, dir, "fetch", "-q", "origin")
		}, "commits that this one lacks"},
		"a hook": {func(t *testing.T, _, bare string) {
			write(t, bare, "hooks/pre-receive", "#!/bin/sh\necho not on a Friday >&2\nexit 1\n")
			if err := os.Chmod(filepath.Join(bare, "hooks/pre-receive"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, "pre-receive hook declined"},
		"no repository there": {func(t *testing.T, _, bare string) {
			if err := os.RemoveAll(bare); err != nil {
				t.Fatal(err)
			}
		}, "not found"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := fleetRepository(t)
			bare := bareRemote(t, dir)
			runGit(t, dir, "remote", "add", "origin", bare)
			c.prepare(t, dir, bare)
			before := ""
			if _, err := os.Stat(bare); err == nil {
				before = runGit(t, bare, "for-each-ref")
			}
			hash, err := pushed(t, dir, "main", "")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if got := runGit(t, dir, "rev-parse", "main"); got != hash {
				t.Errorf("the commit is lost: main is at %s, not at %s", got, hash)
			}
			if before != "" && runGit(t, bare, "for-each-ref") != before {
				t.Errorf("the remote had\n%s\nand has\n%s", before, runGit(t, bare, "for-each-ref"))
			}
		})
	}
}

func TestWhichRemote(t *testing.T) {
	for name, c := range map[string]struct{ configure, ask, want string }{
		"the only one":             {"remote.hub.url=/hub", "", "hub"},
		"origin":                   {"remote.hub.url=/hub remote.origin.url=/origin", "", "origin"},
		"of the upstream":          {"remote.hub.url=/hub remote.origin.url=/origin branch.new.remote=hub", "", "hub"},
		"of the branch at hand":    {"remote.hub.url=/hub remote.origin.url=/origin branch.main.remote=hub", "", "hub"},
		"for pushing":              {"remote.hub.url=/hub remote.origin.url=/origin branch.new.remote=origin remote.pushDefault=hub", "", "hub"},
		"that was asked for":       {"remote.hub.url=/hub remote.origin.url=/origin", "hub", "hub"},
		"none at all":              {"", "", "git remote add origin"},
		"one that is none":         {"remote.hub.url=/hub", "hob", `no remote "hob"; there are: hub`},
		"one of several":           {"remote.hub.url=/hub remote.fork.url=/fork", "", "say --remote"},
		"an upstream that is none": {"remote.hub.url=/hub branch.new.remote=gone", "", `no remote "gone"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := fleetRepository(t)
			for _, pair := range strings.Fields(c.configure) {
				key, value, _ := strings.Cut(pair, "=")
				runGit(t, dir, "config", key, value)
			}
			remote, err := openBranch(t, dir, "new").Remote(c.ask)
			if err != nil {
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, want one with %q", err, c.want)
				}
				return
			}
			if remote.Name != c.want || remote.String() != "/"+c.want {
				t.Errorf("remote %s at %s, want %s", remote.Name, remote, c.want)
			}
		})
	}
}

// server is Git's own HTTP server, which wants a name and a password.
func server(t *testing.T, bare string) *httptest.Server {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{
		Path: git, Args: []string{"http-backend"},
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(bare), "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=ada", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null"},
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "ada" || password != "s3cret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// helper is a credential helper that notes what it is asked.
func helper(t *testing.T, dir, password string) (asked func() string) {
	t.Helper()
	folder := t.TempDir()
	write(t, folder, "helper", fmt.Sprintf("#!/bin/sh\necho $1 >>%[1]s/asked\n[ $1 = get ] && printf 'username=ada\\npassword=%[2]s\\n'\ncat >/dev/null\n", folder, password))
	if err := os.Chmod(filepath.Join(folder, "helper"), 0o755); err != nil {
		t.Fatal(err)
	}
	runGit(t, dir, "config", "credential.helper", filepath.Join(folder, "helper"))
	return func() string {
		raw, _ := os.ReadFile(filepath.Join(folder, "asked"))
		return strings.Join(strings.Fields(string(raw)), " ")
	}
}

func TestPushWithTheUsersCredentials(t *testing.T) {
	for name, c := range map[string]struct {
		url         string // before the server's address
		environment map[string]string
		helper      string // the password that it gives
		asked       string
		want        string // of the error
	}{
		"a token":                      {"", map[string]string{"GIT_TOKEN": "s3cret", "GIT_USERNAME": "ada"}, "", "", ""},
		"a token, the name in the URL": {"ada@", map[string]string{"GIT_TOKEN": "s3cret"}, "wrong", "", ""},
		"a wrong token":                {"", map[string]string{"GIT_TOKEN": "wrong", "GIT_USERNAME": "ada"}, "", "", "the credentials were refused"},
		"all in the URL":               {"ada:s3cret@", nil, "wrong", "", ""},
		"a credential helper":          {"", nil, "s3cret", "get store", ""},
		"a helper that is wrong":       {"", nil, "wrong", "get erase", "the credentials were refused"},
		"nothing at all":               {"", nil, "", "", "GIT_TOKEN"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := fleetRepository(t)
			bare := bareRemote(t, dir)
			address := server(t, bare).URL + "/shops.git"
			runGit(t, dir, "remote", "add", "origin", strings.Replace(address, "http://", "http://"+c.url, 1))
			for variable, value := range c.environment {
				t.Setenv(variable, value)
			}
			asked := func() string { return "" }
			if c.helper != "" {
				asked = helper(t, dir, c.helper)
			}
			hash, err := pushed(t, dir, "new", "")
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret")):
				t.Errorf("error %v, want one with %q", err, c.want)
			case c.want == "" && runGit(t, bare, "rev-parse", "new") != hash:
				t.Error("the remote has something else")
			}
			if got := asked(); got != c.asked {
				t.Errorf("the helper was asked to %q, want %q", got, c.asked)
			}
		})
	}
}

func TestPushToNobody(t *testing.T) {
	dir := fleetRepository(t)
	gone := httptest.NewServer(nil)
	address := gone.URL
	gone.Close()
	runGit(t, dir, "remote", "add", "origin", strings.Replace(address, "http://", "http://ada:s3cret@", 1)+"/shops.git")
	if _, err := pushed(t, dir, "new", ""); err == nil || !strings.Contains(err.Error(), "refused") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("error %v", err)
	}
	remote, err := openBranch(t, dir, "new").Remote("")
	if err != nil || strings.Contains(remote.String(), "s3cret") {
		t.Errorf("remote %s, %v", remote, err)
	}
	runGit(t, dir, "remote", "set-url", "origin", "ssh://git@"+strings.TrimPrefix(address, "http://")+"/shops.git")
	if _, err := pushed(t, dir, "other", ""); err == nil || !strings.Contains(err.Error(), "no SSH key") {
		t.Errorf("without a key: error %v", err)
	}
}

// TestTwoAtTheSameTime has many commit to one branch at once: each gets on or is told
// to try again, and none is lost.
func TestTwoAtTheSameTime(t *testing.T) {
	dir := fleetRepository(t)
	const writers = 8
	before := runGit(t, dir, "rev-list", "--count", "main")
	var mu sync.Mutex
	var made []string
	var group sync.WaitGroup
	begin := make(chan struct{})
	for i := range writers {
		branch, err := gitops.OpenBranch(t.Context(), dir, "main", false)
		if err != nil {
			t.Fatal(err)
		}
		d := draft(t, branch, map[string]string{fmt.Sprintf("new-%d", i): "x\n"})
		group.Go(func() {
			<-begin
			hash, err := d.Commit(t.Context(), commitOptions())
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made = append(made, hash)
			} else if !strings.Contains(err.Error(), "meanwhile") && !strings.Contains(err.Error(), "by somebody else") {
				t.Error(err)
			}
		})
	}
	close(begin)
	group.Wait()
	if len(made) != 1 || runGit(t, dir, "rev-parse", "main") != made[0] || runGit(t, dir, "rev-parse", "main~1^{tree}") == "" {
		t.Errorf("of %d on top of the same commit (%s before) there are %v", writers, before, made)
	}
	if status := runGit(t, dir, "status", "--porcelain"); status != "" {
		t.Errorf("not clean:\n%s", status)
	}
	runGit(t, dir, "fsck", "--strict")
}
