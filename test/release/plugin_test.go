package main

import (
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/labels"
)

// installsPlugin puts the plugin where krew puts it, from what the manifest says for this
// platform, and has kubectl run it.
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
	// https://github.com/kubernetes-sigs/krew/blob/v0.4.5/internal/installation/install.go
	krew := t.TempDir()
	store := filepath.Join(krew, "store", m.Metadata.Name, m.Spec.Version)
	bin := filepath.Join(krew, "bin")
	for _, dir := range []string{store, bin} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	run(t, store, "tar", "-xzf", filepath.Join(dist, path.Base(here.URI)))
	if err := os.Symlink(filepath.Join(store, here.Bin), filepath.Join(bin, "kubectl-fleet")); err != nil {
		t.Fatal(err)
	}

	tools := t.TempDir()
	kubectl := filepath.Join(tools, "kubectl")
	run(t, root, "go", "build", "-ldflags", "-s -w", "-o", kubectl, "./test/kubectl")
	// This machine's own plugins are not asked, and neither is its cluster.
	env := []string{"PATH=" + strings.Join([]string{bin, tools, "/usr/bin", "/bin"}, string(filepath.ListSeparator)), "KUBECONFIG=" + filepath.Join(tools, "none")}
	if got, want := versionOf(t, runWith(t, tools, env, kubectl, "fleet", "version", "--client", "-o", "json")), tag+" "+runtime.GOOS+"/"+runtime.GOARCH; got != want {
		t.Errorf("kubectl fleet version is %s, want %s", got, want)
	}
	for _, want := range []string{"kubectl fleet status", "Available Commands"} {
		if help := runWith(t, tools, env, kubectl, "fleet", "--help"); !strings.Contains(help, want) {
			t.Errorf("kubectl fleet --help does not have %q:\n%s", want, help)
		}
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
