package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// root is the repository.
const root = "../.."

// tag is what the release of the test is tagged.
const tag = "v1.2.3"

// TestRelease makes the release of the repository as it is, for this machine's platform
// alone, and installs what is in it.
func TestRelease(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the agent's package is made and tried on Linux only")
	}
	if testing.Short() {
		t.Skip("it builds goreleaser first, which takes minutes; make test-release runs it")
	}
	config := ofThisPlatform(t)
	first, second := copyOfTree(t), copyOfTree(t)
	for _, tree := range []string{first, second} {
		run(t, tree, filepath.Join(tree, "test/release/goreleaser.sh"), "release", "--skip=publish", "--config", config)
	}
	dist := filepath.Join(first, "dist")
	r, err := readRelease(dist)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("has an archive and an SBOM of each program, and the agent's package", func(t *testing.T) {
		platform := "_1.2.3_" + runtime.GOOS + "_" + runtime.GOARCH
		want := []string{"fleet-agent_1.2.3_" + runtime.GOARCH + ".deb"}
		for _, program := range []string{"fleet-agent", "fleet-operator", "kubectl-fleet"} {
			want = append(want, program+platform+".tar.gz", program+platform+".cdx.json")
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(r.sums))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("is the same when it is built in another folder", func(t *testing.T) {
		again, err := readRelease(filepath.Join(second, "dist"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r.sums, again.sums); diff != "" {
			t.Errorf("(-first +second):\n%s", diff)
		}
	})
	t.Run("leaves nothing in the tree", func(t *testing.T) {
		for _, tree := range []string{first, second} {
			if out := run(t, tree, "git", "status", "--porcelain"); out != "" {
				t.Errorf("git status says\n%s", out)
			}
		}
	})
	t.Run("is what krew and checksums say", func(t *testing.T) {
		problems, err := check(dist)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Error(p)
		}
	})
	t.Run("names its modules", func(t *testing.T) { namesModules(t, dist) })
	t.Run("installs the plugin", func(t *testing.T) { installsPlugin(t, dist) })
	t.Run("has the agent's package", func(t *testing.T) { hasAgent(t, dist) })
	t.Run("installs the agent", func(t *testing.T) { installsAgent(t, dist) })
}

// ofThisPlatform is the configuration of goreleaser with this platform alone: the others
// take minutes.
func ofThisPlatform(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, ".goreleaser.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	for _, build := range config["builds"].([]any) {
		build := build.(map[string]any)
		build["goos"], build["goarch"] = []string{runtime.GOOS}, []string{runtime.GOARCH}
	}
	if text, err = yaml.Marshal(config); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "goreleaser.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// copyOfTree is a repository of its own with the files as they are now, committed and
// tagged. All such copies have the same commit.
func copyOfTree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "fleet")
	for name := range strings.SplitSeq(run(t, root, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00") {
		from, to := filepath.Join(root, name), filepath.Join(dir, name)
		info, err := os.Lstat(from)
		if name == "" || os.IsNotExist(err) {
			continue // deleted, and tracked still
		}
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o750)
		}
		if err == nil {
			err = copyFile(from, to, info.Mode())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"}, {"remote", "add", "origin", "https://github.com/nationtech/fleet.git"},
		{"add", "-A"}, {"commit", "-q", "-m", "release"}, {"tag", tag},
	} {
		run(t, dir, "git", args...)
	}
	return dir
}

func copyFile(from, to string, mode fs.FileMode) error {
	if mode&fs.ModeSymlink != 0 {
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, mode.Perm())
}

// run is what a command prints; it must succeed. It knows nothing of this user's Git.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	return runWith(t, dir, nil, name, args...)
}

func runWith(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	const who, when = "release", "2026-01-02T03:04:05Z"
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME="+who, "GIT_AUTHOR_EMAIL="+who, "GIT_AUTHOR_DATE="+when,
		"GIT_COMMITTER_NAME="+who, "GIT_COMMITTER_EMAIL="+who, "GIT_COMMITTER_DATE="+when), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String()
}

// namesModules holds the SBOMs to what is known to be in the programs.
func namesModules(t *testing.T, dist string) {
	for program, module := range map[string]string{
		"kubectl-fleet": "k8s.io/client-go", "fleet-operator": "sigs.k8s.io/controller-runtime", "fleet-agent": "github.com/nats-io/nats.go",
	} {
		var sbom struct {
			BOMFormat string
			Metadata  struct {
				Component struct{ Name, Version string }
			}
			Components []struct{ Name, Version, PURL string }
		}
		if err := readJSON(filepath.Join(dist, program+"_1.2.3_"+runtime.GOOS+"_"+runtime.GOARCH+".cdx.json"), &sbom); err != nil {
			t.Fatal(err)
		}
		if of := sbom.Metadata.Component; sbom.BOMFormat != "CycloneDX" || of.Name != "github.com/nationtech/fleet" || of.Version != tag {
			t.Errorf("%s: it is a %s of %s %s", program, sbom.BOMFormat, of.Name, of.Version)
		}
		found := false
		for _, c := range sbom.Components {
			found = found || c.Name == module && c.Version != "" && c.PURL != ""
		}
		if !found {
			t.Errorf("%s: %s is not among its %d components", program, module, len(sbom.Components))
		}
	}
}

// versionOf is what `kubectl fleet version` says of the plugin.
func versionOf(t *testing.T, output string) string {
	t.Helper()
	var v struct {
		Client struct{ Version, Platform string }
	}
	if err := json.Unmarshal([]byte(output), &v); err != nil {
		t.Fatalf("kubectl fleet version says %q: %v", output, err)
	}
	return v.Client.Version + " " + v.Client.Platform
}
