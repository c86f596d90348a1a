package main

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/labels"
)

// installsPlugin has krew install the plugin from the archive that the manifest names for
// this platform, and kubectl run it.
func installsPlugin(t *testing.T, dist string) {
	m, err := readManifest(dist)
	if err != nil {
		t.Fatal(err)
	}
	var here platform
	for _, p := range m.Spec.Platforms {
		for _, on := range p.matches() {
			if labels.Equals(on, labels.Set{"os": runtime.GOOS, "arch": runtime.GOARCH}) {
				here = p
			}
		}
	}
	if here.Bin == "" {
		t.Fatalf("the manifest has nothing for this platform: %+v", m.Spec.Platforms)
	}
	krew := strings.TrimSpace(run(t, ".", "go", "tool", "-n", "krew"))
	krewRoot := t.TempDir()
	archive := filepath.Join(dist, path.Base(here.URI))
	install := []string{"install", "--manifest", manifestPath(dist), "--archive"}
	krewEnv := []string{"KREW_ROOT=" + krewRoot, "KREW_NO_UPGRADE_CHECK=1"}

	// What was changed on the way is not installed.
	data, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	changed := filepath.Join(t.TempDir(), filepath.Base(archive))
	if err := os.WriteFile(changed, data, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), krew, append(install, changed)...)
	cmd.Env = append(os.Environ(), krewEnv...)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "checksum") {
		t.Errorf("krew takes an archive that was changed: %v\n%s", err, out)
	}

	runWith(t, dist, krewEnv, krew, append(install, archive)...)
	store := filepath.Join(krewRoot, "store", m.Metadata.Name, m.Spec.Version)
	bin := filepath.Join(krewRoot, "bin")

	tools := t.TempDir()
	kubectl := filepath.Join(tools, "kubectl")
	run(t, root, "go", "build", "-ldflags", "-s -w", "-o", kubectl, "./test/kubectl")
	// This machine's own plugins are not asked, and neither is its cluster.
	env := []string{"PATH=" + strings.Join([]string{bin, tools, "/usr/bin", "/bin"}, string(filepath.ListSeparator)), "KUBECONFIG=" + filepath.Join(tools, "none")}
	if got, want := versionOf(t, runWith(t, tools, env, kubectl, "fleet", "version", "--client", "-o", "json")), tag+" "+runtime.GOOS+"/"+runtime.GOARCH; got != want {
		t.Errorf("kubectl fleet version is %s, want %s", got, want)
	}
	if help := runWith(t, tools, env, kubectl, "fleet", "--help"); !strings.Contains(help, "kubectl fleet status") {
		t.Errorf("kubectl fleet --help does not have kubectl fleet status:\n%s", help)
	}
	if list := runWith(t, tools, env, kubectl, "plugin", "list"); !strings.Contains(list, filepath.Join(bin, "kubectl-fleet")) {
		t.Errorf("kubectl plugin list does not have it:\n%s", list)
	}
	// What kubectl asks for completions, from the archive too.
	env = append(env, "PATH="+store+string(filepath.ListSeparator)+strings.TrimPrefix(env[0], "PATH="))
	if out := runWith(t, tools, env, kubectl, "__complete", "fleet", "rep"); !strings.HasPrefix(out, "repo\t") {
		t.Errorf("kubectl completes `fleet rep` with %q", out)
	}
}
