package gitops_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/nationtech/fleet/gitops"
)

// TestValidateNamesFileObjectAndField breaks a good repository in one place after
// the other.
func TestValidateNamesFileObjectAndField(t *testing.T) {
	schemas, err := gitops.NewSchemas()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name          string
		file          string
		old, new      string
		severity      gitops.Severity
		at            string // file of the finding
		object, field string
		message, hint string
	}{
		{"an overlay that doesn't build", "overlays/site/kustomization.yaml", "resources: [../../base]", "resources: [../../base, missing.yaml]",
			gitops.Error, "overlays/site/kustomization.yaml", "", "", "missing.yaml", ""},
		{"YAML that is none", "base/base.yaml", "spec:\n", "spec: {\n", gitops.Error, "base/base.yaml", "", "", "", ""},
		{"a kustomization field that is none", "overlays/site/kustomization.yaml", "resources:", "resourcess: []\nresources:", gitops.Error,
			"overlays/site/kustomization.yaml", "", "", "resourcess", ""},
		{"an unknown field", "base/base.yaml", "        image: hello\n        ports:", "        image: hello\n        imagge: x\n        ports:",
			gitops.Error, "base/base.yaml", "fleet Deployment web", "spec.score.podman.containers[0].imagge", "unknown field", "kubectl explain"},
		{"two scores at once", "base/base.yaml", "    podman:\n", "    kubernetes: {manifests: [{apiVersion: v1, kind: Namespace, metadata: {name: x}}]}\n    podman:\n",
			gitops.Error, "base/base.yaml", "fleet Deployment web", "spec.score", "exactly one of podman, kubernetes and kvm", ""},
		{"a text for a number", "base/base.yaml", "hostPort: 8080", "hostPort: eighty", gitops.Error, "base/base.yaml", "fleet Deployment web",
			"spec.score.podman.containers[0].ports[0].hostPort", "integer", ""},
		{"a device ID with dots", "base/base.yaml", "  name: shop-1", "  name: shop.1", gitops.Error, "base/base.yaml", "Device shop.1", "", "DNS label", ""},
		{"a key that is missing", "base/base.yaml", "key: GREETING", "key: GREETINGS", gitops.Error, "base/base.yaml", "fleet Deployment web",
			"spec.score.podman.containers[0].env[1].valueFrom.configMapKeyRef.name", `has no key "GREETINGS"`, ""},
		{"a ConfigMap that is missing", "base/base.yaml", "      - name: config\n        configMap:\n          name: settings", "      - name: config\n        configMap:\n          name: setting",
			gitops.Warning, "base/base.yaml", "fleet Deployment web", "spec.score.podman.volumes[0].configMap.name", "no ConfigMap setting", "waits until"},
		{"a selector that selects nobody", "base/base.yaml", "    matchLabels:\n      site: shop", "    matchLabels:\n      site: moon", gitops.Warning,
			"base/base.yaml", "fleet Deployment web", "spec.targetSelector", "selects none", ""},
		{"a kind that is none", "base/base.yaml", "kind: Device\n", "kind: Gadget\n", gitops.Error, "base/base.yaml", "Gadget shop-1", "kind", "no kind Gadget", ""},
		{"a field of Kubernetes' own kinds", "base/base.yaml", "    matchLabels: {app: web}", "    matchLabelz: {app: web}", gitops.Error, "base/base.yaml",
			"Deployment web", "", "unknown field", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := repository(t, "")
			path := filepath.Join(dir, c.file)
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(raw), c.old) {
				t.Fatalf("%s has no %q", c.file, c.old)
			}
			write(t, dir, c.file, strings.Replace(string(raw), c.old, c.new, 1))
			tree, overlays := open(t, dir)
			report := gitops.Validate(tree, overlays, schemas)
			var of []gitops.Finding
			for _, f := range report.Findings {
				if f.Severity == c.severity && (c.severity == gitops.Error || f.Field == c.field) {
					of = append(of, f)
				}
			}
			if len(of) != 1 {
				t.Fatalf("want one finding, got %+v", report.Findings)
			}
			f := of[0]
			if f.File != c.at || f.Object != c.object || c.field != "" && f.Field != c.field ||
				!strings.Contains(f.Message, c.message) || !strings.Contains(f.Hint, c.hint) {
				t.Errorf("finding %+v", f)
			}
			if f.Line == 0 && c.field != "" {
				t.Errorf("no line: %+v", f)
			}
		})
	}
}

func TestValidateFindsADeviceInTwoOverlays(t *testing.T) {
	schemas, err := gitops.NewSchemas()
	if err != nil {
		t.Fatal(err)
	}
	dir := repository(t, "\nnamespace: here\n")
	write(t, dir, "overlays/other/kustomization.yaml", "resources: [../../base]\ncomponents: [../../components/fleet]\nnamespace: there\n")
	tree, overlays := open(t, dir)
	report := gitops.Validate(tree, overlays, schemas)
	for _, f := range report.Findings {
		if strings.Contains(f.Message, "has a device of this name too") && strings.Contains(f.Hint, "unique in the whole fleet") {
			return
		}
	}
	t.Errorf("findings %+v", report.Findings)
}

// TestRenderOfARevisionIsOfThatRevision renders what was committed once, while the
// working tree has something else.
func TestRenderOfARevisionIsOfThatRevision(t *testing.T) {
	dir := repository(t, "\nimages:\n- name: hello\n  newTag: v1\n")
	repo, err := git.PlainInit(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	commit := func() string {
		w, err := repo.Worktree()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.AddGlob("."); err != nil {
			t.Fatal(err)
		}
		hash, err := w.Commit("a change", &git.CommitOptions{Author: &object.Signature{Name: "test", Email: "test@example.com", When: time.Unix(0, 0)}})
		if err != nil {
			t.Fatal(err)
		}
		return hash.String()
	}
	first := commit()
	overlay := filepath.Join(dir, "overlays/site/kustomization.yaml")
	raw, err := os.ReadFile(overlay)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, []byte(strings.Replace(string(raw), "newTag: v1", "newTag: v2", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	commit()
	if err := os.WriteFile(overlay, []byte(strings.Replace(string(raw), "newTag: v1", "newTag: v3", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	image := func(tree *gitops.Tree, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		o, err := tree.Find("site")
		if err != nil {
			t.Fatal(err)
		}
		rendered, err := gitops.Render(tree, o)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(rendered.Objects[0].YAML()), "\n") {
			if _, tag, ok := strings.Cut(line, "image: hello:"); ok {
				return tag
			}
		}
		return ""
	}
	if got := image(gitops.OpenWorkingTree(dir)); got != "v3" {
		t.Errorf("the working tree has %s", got)
	}
	for revision, want := range map[string]string{"HEAD": "v2", "HEAD~1": "v1", first: "v1", first[:10]: "v1"} {
		if got := image(gitops.OpenRevision(dir, revision)); got != want {
			t.Errorf("revision %s has %s, want %s", revision, got, want)
		}
	}
	for _, revision := range []string{"no-such-branch", "", "HEAD~9"} {
		if _, err := gitops.OpenRevision(dir, revision); err == nil || revision != "" && !strings.Contains(err.Error(), revision) {
			t.Errorf("revision %q: %v", revision, err)
		}
	}
	tree, err := gitops.OpenRevision(dir, "HEAD")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Find("moon"); err == nil || !strings.Contains(err.Error(), "moon") {
		t.Errorf("an overlay that is none: %v", err)
	}
}

// TestHostileRepositoriesReachNothing has a repository refer to what it must not.
func TestHostileRepositoriesReachNothing(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret.yaml")
	if err := os.WriteFile(secret, []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: stolen}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, kustomization := range map[string]string{
		"an absolute path":  "resources: [" + secret + "]\n",
		"a path upwards":    "resources: [" + strings.Repeat("../", 12) + strings.TrimPrefix(secret, "/") + "]\n",
		"a symbolic link":   "resources: [link.yaml]\n",
		"a remote base":     "resources: [https://git.example.com/evil.git]\n",
		"a remote file":     "resources: [https://git.example.com/evil.yaml]\n",
		"an exec plugin":    "generators: [exec.yaml]\n",
		"a Helm chart":      "helmCharts: [{name: evil, repo: https://charts.example.com}]\n",
		"a file over limit": "configMapGenerator: [{name: big, files: [big.bin]}]\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := repository(t, "")
			write(t, dir, "overlays/evil/kustomization.yaml", kustomization)
			write(t, dir, "overlays/evil/exec.yaml", "apiVersion: v1\nkind: X\nmetadata:\n  name: x\n  annotations: {config.kubernetes.io/function: \"exec: {path: /bin/true}\"}\n")
			write(t, dir, "overlays/evil/big.bin", strings.Repeat("x", 5<<20))
			if err := os.Symlink(secret, filepath.Join(dir, "overlays/evil/link.yaml")); err != nil {
				t.Fatal(err)
			}
			tree, err := gitops.OpenWorkingTree(dir)
			if err != nil {
				t.Fatal(err)
			}
			overlay, err := tree.Find("evil")
			if err != nil {
				t.Fatal(err)
			}
			rendered, err := gitops.Render(tree, overlay)
			if err == nil {
				t.Fatalf("rendered %+v", rendered.Objects)
			}
			t.Log(err)
		})
	}
}
