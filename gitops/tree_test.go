package gitops_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nationtech/fleet/gitops"
)

// gitIn runs git, without the configuration of whoever runs the tests.
func gitIn(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "protocol.file.allow=always", "-c", "user.name=test", "-c", "user.email=test@example.com"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

// committed is repository, as the first commit of a Git repository.
func committed(t *testing.T) string {
	t.Helper()
	dir := repository(t, "")
	gitIn(t, dir, "init", "--quiet", "--initial-branch=main")
	gitIn(t, dir, "add", ".")
	gitIn(t, dir, "commit", "--quiet", "--message=begin")
	return dir
}

// only is what validate says of a repository that has one thing wrong.
func only(t *testing.T, tree *gitops.Tree, err error) string {
	t.Helper()
	if err != nil {
		return err.Error()
	}
	schemas, err := gitops.NewSchemas()
	if err != nil {
		t.Fatal(err)
	}
	overlays, err := tree.Overlays()
	if err != nil {
		return err.Error()
	}
	report := gitops.Validate(tree, overlays, schemas)
	var of []string
	for _, f := range report.Findings {
		if f.Severity == gitops.Error {
			of = append(of, f.String())
		}
	}
	return strings.Join(of, "\n")
}

func TestStagedIsWhatTheNextCommitHas(t *testing.T) {
	dir := committed(t)
	broken := strings.Replace(base, "hostPort: 8080", "hostPort: eighty", 1)

	write(t, dir, "base/base.yaml", broken)
	tree, err := gitops.OpenStaged(dir, "")
	if got := only(t, tree, err); got != "" {
		t.Errorf("what is not staged counts: %s", got)
	}
	gitIn(t, dir, "add", ".")
	write(t, dir, "base/base.yaml", base)
	tree, err = gitops.OpenStaged(filepath.Join(dir, "overlays"), "")
	if got := only(t, tree, err); !strings.Contains(got, "base/base.yaml:22: ") || !strings.Contains(got, "hostPort") {
		t.Errorf("what is staged does not count: %q", got)
	}
	if tree.Opened != "overlays" {
		t.Errorf("opened %q", tree.Opened)
	}
	// An index of its own, as git commit PATH has.
	gitIn(t, dir, "add", ".")
	other := filepath.Join(t.TempDir(), "index")
	write(t, dir, "base/base.yaml", broken)
	t.Setenv("GIT_INDEX_FILE", other)
	gitIn(t, dir, "add", ".")
	os.Unsetenv("GIT_INDEX_FILE")
	tree, err = gitops.OpenStaged(dir, other)
	if got := only(t, tree, err); !strings.Contains(got, "hostPort") {
		t.Errorf("another index does not count: %q", got)
	}
	tree, err = gitops.OpenStaged(dir, "")
	if got := only(t, tree, err); got != "" {
		t.Errorf("another index counts: %s", got)
	}
	if _, err := gitops.OpenStaged(dir, filepath.Join(dir, "no-such-index")); err == nil || !strings.Contains(err.Error(), "no-such-index") {
		t.Errorf("an index that is not there: %v", err)
	}
}

func TestStagedRefusesAConflict(t *testing.T) {
	dir := committed(t)
	gitIn(t, dir, "checkout", "--quiet", "-b", "other")
	write(t, dir, "base/base.yaml", strings.Replace(base, "blue", "red", 1))
	gitIn(t, dir, "commit", "--quiet", "--all", "--message=red")
	gitIn(t, dir, "checkout", "--quiet", "main")
	write(t, dir, "base/base.yaml", strings.Replace(base, "blue", "green", 1))
	gitIn(t, dir, "commit", "--quiet", "--all", "--message=green")
	merge := exec.CommandContext(t.Context(), "git", "merge", "other")
	merge.Dir = dir
	if out, err := merge.CombinedOutput(); err == nil {
		t.Fatalf("there is no conflict: %s", out)
	}
	if _, err := gitops.OpenStaged(dir, ""); err == nil || !strings.Contains(err.Error(), "base/base.yaml is in conflict") {
		t.Errorf("a conflict: %v", err)
	}
}

func TestShallowCloneSaysThatItIsOne(t *testing.T) {
	origin := committed(t)
	write(t, origin, "README.md", "more")
	gitIn(t, origin, "add", ".")
	gitIn(t, origin, "commit", "--quiet", "--message=more")
	dir := filepath.Join(t.TempDir(), "clone")
	gitIn(t, origin, "clone", "--quiet", "--depth=1", "file://"+origin, dir)

	tree, err := gitops.OpenRevision(dir, "HEAD")
	if got := only(t, tree, err); got != "" {
		t.Errorf("HEAD: %s", got)
	}
	for _, revision := range []string{"HEAD~1", "v1"} {
		if _, err := gitops.OpenRevision(dir, revision); err == nil || !strings.Contains(err.Error(), revision) || !strings.Contains(err.Error(), "git fetch --unshallow") {
			t.Errorf("%s: %v", revision, err)
		}
		if _, err := gitops.OpenRevision(origin, revision+"~5"); err == nil || !strings.Contains(err.Error(), "has no revision") || strings.Contains(err.Error(), "shallow") {
			t.Errorf("%s~5 of the whole: %v", revision, err)
		}
	}
}

// TestSubmoduleIsLeftOut has a submodule in the working tree, checked out and not, in
// the index and in a commit. It is no mistake until something refers to it.
func TestSubmoduleIsLeftOut(t *testing.T) {
	library := committed(t)
	dir := committed(t)
	gitIn(t, dir, "submodule", "--quiet", "add", "--name", "shared", "file://"+library, "vendor/shared")
	gitIn(t, dir, "commit", "--quiet", "--message=share")
	clone := filepath.Join(t.TempDir(), "clone")
	gitIn(t, dir, "clone", "--quiet", "file://"+dir, clone)

	for name, open := range map[string]func() (*gitops.Tree, error){
		"checked out":     func() (*gitops.Tree, error) { return gitops.OpenWorkingTree(dir) },
		"not checked out": func() (*gitops.Tree, error) { return gitops.OpenWorkingTree(clone) },
		"index":           func() (*gitops.Tree, error) { return gitops.OpenStaged(dir, "") },
		"commit":          func() (*gitops.Tree, error) { return gitops.OpenRevision(dir, "HEAD") },
	} {
		tree, err := open()
		if got := only(t, tree, err); got != "" {
			t.Errorf("%s: nothing refers to it: %s", name, got)
		}
	}
	for _, place := range []string{dir, clone} {
		write(t, place, "overlays/site/kustomization.yaml", "resources:\n- ../../vendor/shared/base\n")
	}
	gitIn(t, dir, "add", ".")
	gitIn(t, dir, "commit", "--quiet", "--message=refer")
	for name, open := range map[string]func() (*gitops.Tree, error){
		"checked out":     func() (*gitops.Tree, error) { return gitops.OpenWorkingTree(dir) },
		"not checked out": func() (*gitops.Tree, error) { return gitops.OpenWorkingTree(clone) },
		"index":           func() (*gitops.Tree, error) { return gitops.OpenStaged(dir, "") },
		"commit":          func() (*gitops.Tree, error) { return gitops.OpenRevision(dir, "HEAD") },
	} {
		tree, err := open()
		got := only(t, tree, err)
		for _, want := range []string{"overlays/site/kustomization.yaml:2: ", "vendor/shared", `the submodule "shared"`, "copy what is needed"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q is not in %q", name, want, got)
			}
		}
	}
}

// TestBadRepositoriesAreExplained has what is no mistake in an object.
func TestBadRepositoriesAreExplained(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"a kustomization that includes itself", map[string]string{"overlays/site/kustomization.yaml": "resources: [.]\n"}, []string{"overlays/site/kustomization.yaml", "cycle"}},
		{"two that include each other", map[string]string{"overlays/site/kustomization.yaml": "resources: [../../base]\n", "base/kustomization.yaml": "resources: [../overlays/site]\n"}, []string{"cycle"}},
		{"a component that includes itself", map[string]string{"overlays/site/kustomization.yaml": "components: [../../c]\n", "c/kustomization.yaml": "kind: Component\napiVersion: kustomize.config.k8s.io/v1alpha1\ncomponents: [.]\n"}, []string{"cycle"}},
		{"a file that is not UTF-8", map[string]string{"base/base.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \xff\xfe}\n"}, []string{"base/base.yaml:3: ", "is not UTF-8"}},
		{"a file that is a picture", map[string]string{"base/base.yaml": "\x89PNG\r\n\x1a\n\x00\x00"}, []string{"base/base.yaml:1: ", "is not UTF-8"}},
		{"a kustomization that is a list", map[string]string{"overlays/site/kustomization.yaml": "- a\n- b\n"}, []string{"overlays/site/kustomization.yaml"}},
		{"a kustomization that is empty", map[string]string{"overlays/site/kustomization.yaml": ""}, []string{"overlays/site/kustomization.yaml", "empty"}},
		{"an alias within its anchor", map[string]string{"base/base.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: &a\n  b: *a\n"}, []string{"base/base.yaml:5: ", "within its own anchor"}},
		{"a remote base", map[string]string{"overlays/site/kustomization.yaml": "resources:\n- https://git.example.com/base.git\n"}, []string{"overlays/site/kustomization.yaml:2: ", "is not fetched"}},
		{"a schema that is none", map[string]string{"components/fleet/openapi.json": "{"}, []string{"openapi"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := repository(t, "")
			for name, content := range c.files {
				write(t, dir, name, content)
			}
			tree, err := gitops.OpenWorkingTree(dir)
			got := only(t, tree, err)
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("%q is not in %q", want, got)
				}
			}
		})
	}
}

func TestOverlayOutsideTheRepositoryIsNone(t *testing.T) {
	outside := repository(t, "")
	dir := repository(t, "")
	if err := os.Symlink(filepath.Join(outside, "overlays", "site"), filepath.Join(dir, "overlays", "link")); err != nil {
		t.Fatal(err)
	}
	tree, _ := open(t, dir)
	for name, want := range map[string]string{
		filepath.Join(outside, "overlays/site"): "lies outside the repository",
		"../../overlays":                        "lies outside the repository",
		"link":                                  "is a symbolic link",
		"link/deeper":                           "lies in overlays/link, which is a symbolic link",
		"moon":                                  "there are: site",
	} {
		if overlay, err := tree.Find(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", name, overlay, err)
		}
	}
}

// TestRemoteBasesAreFetchedWhenAllowed has kustomize clone a real repository and fetch
// a file over HTTP.
func TestRemoteBasesAreFetchedWhenAllowed(t *testing.T) {
	library := committed(t)
	secret := filepath.Join(t.TempDir(), "secret.yaml")
	if err := os.WriteFile(secret, []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: stolen}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(library, "link.yaml")); err != nil {
		t.Fatal(err)
	}
	write(t, library, "evil/link/kustomization.yaml", "resources: [../../link.yaml]\n")
	write(t, library, "evil/up/kustomization.yaml", "resources: ["+strings.Repeat("../", 12)+strings.TrimPrefix(secret, "/")+"]\n")
	gitIn(t, library, "add", ".")
	gitIn(t, library, "commit", "--quiet", "--message=evil")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fetched}\n")
	}))
	t.Cleanup(server.Close)
	t.Setenv("GIT_CONFIG_GLOBAL", "/dev/null")
	t.Setenv("GIT_CONFIG_SYSTEM", "/dev/null")
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)

	for name, c := range map[string]struct {
		resource, want string
		fails          bool
	}{
		"a base":             {"file://" + library + "//base?ref=main", "name: web", false},
		"a file":             {server.URL + "/config.yaml", "name: fetched", false},
		"a link out of it":   {"file://" + library + "//evil/link?ref=main", "", true},
		"a path out of it":   {"file://" + library + "//evil/up?ref=main", "", true},
		"no such revision":   {"file://" + library + "//base?ref=no-such", "no-such", true},
		"no such repository": {"file://" + library + "-none//base?ref=main", "-none", true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := repository(t, "")
			write(t, dir, "overlays/site/kustomization.yaml", "resources:\n- "+c.resource+"\n")
			tree, overlays := open(t, dir)
			if _, err := gitops.Render(tree, overlays[0]); err == nil || !strings.Contains(err.Error(), "is not fetched") {
				t.Errorf("without being allowed: %v", err)
			}
			tree.AllowRemote = true
			rendered, err := gitops.Render(tree, overlays[0])
			var text strings.Builder
			for _, o := range rendered.Objects {
				text.Write(o.YAML())
			}
			if (err != nil) != c.fails {
				t.Fatalf("error %v\n%s", err, text.String())
			}
			if err != nil {
				text.WriteString(err.Error())
			}
			if !strings.Contains(text.String(), c.want) || strings.Contains(text.String(), "stolen") {
				t.Errorf("%q is not in:\n%s", c.want, text.String())
			}
			left, err := filepath.Glob(filepath.Join(temporary, "kustomize-*"))
			if err != nil {
				t.Fatal(err)
			}
			if len(left) > 0 && !c.fails {
				t.Errorf("%v is left behind", left)
			}
		})
	}
}

// BenchmarkValidateAmongManyFiles has ten thousand files beside one overlay.
func BenchmarkValidateAmongManyFiles(b *testing.B) {
	dir := b.TempDir()
	for i := range 10_000 {
		folder := filepath.Join(dir, "notes", fmt.Sprint(i/100))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%d.md", i)), []byte("a note\n"), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := gitops.Scaffold(filepath.Join(dir, "fleet"), options()); err != nil {
		b.Fatal(err)
	}
	schemas, err := gitops.NewSchemas()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		tree, err := gitops.OpenWorkingTree(filepath.Join(dir, "fleet"))
		if err != nil {
			b.Fatal(err)
		}
		overlays, err := tree.Overlays()
		if err != nil {
			b.Fatal(err)
		}
		if report := gitops.Validate(tree, overlays, schemas); len(report.Findings) > 0 {
			b.Fatal(report.Findings)
		}
	}
}
