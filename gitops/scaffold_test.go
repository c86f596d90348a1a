package gitops_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nationtech/fleet/gitops"
)

const key = "UDKSRPM2KKLHVWKMOLPDFT2QRCYP34KQIBYR6MAIR4JXJ3QIN5HM4V5T"

func options() gitops.ScaffoldOptions {
	return gitops.ScaffoldOptions{
		URL: "https://git.example.com/shops.git", Name: "shops", Namespace: "retail", Image: "registry.example.com/hello:1.10",
		Devices: []gitops.ScaffoldDevice{{ID: "till-1", PublicKey: key}, {ID: "007"}, {Overlay: gitops.LabOverlay, ID: "desk"}},
	}
}

func TestScaffoldIsValidAsItIs(t *testing.T) {
	schemas, err := gitops.NewSchemas()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*gitops.ScaffoldOptions){
		"with devices":    func(*gitops.ScaffoldOptions) {},
		"without devices": func(o *gitops.ScaffoldOptions) { o.Devices = nil },
		"with a digest": func(o *gitops.ScaffoldOptions) {
			o.Image = "registry.example.com/hello@sha256:" + strings.Repeat("0", 64)
		},
		"with defaults": func(o *gitops.ScaffoldOptions) { o.Name, o.Namespace, o.Branch = "", "", "" },
	} {
		t.Run(name, func(t *testing.T) {
			o := options()
			change(&o)
			dir := filepath.Join(t.TempDir(), "repo")
			files, err := gitops.Scaffold(dir, o)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.IsSorted(files) || !slices.Contains(files, "overlays/field/kustomization.yaml") {
				t.Errorf("wrote %v", files)
			}
			for _, f := range files {
				raw, err := os.ReadFile(filepath.Join(dir, f))
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(raw), "[[") || strings.Contains(string(raw), "<no value>") {
					t.Errorf("%s is not filled in:\n%s", f, raw)
				}
			}
			tree, overlays := open(t, dir)
			if len(overlays) != 2 {
				t.Fatalf("overlays %v", overlays)
			}
			report := gitops.Validate(tree, overlays, schemas)
			if len(report.Findings) > 0 {
				t.Errorf("findings: %+v", report.Findings)
			}
		})
	}
}

func TestScaffoldKeepsNumbersThatAreNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repo")
	if _, err := gitops.Scaffold(dir, options()); err != nil {
		t.Fatal(err)
	}
	tree, overlays := open(t, dir)
	for _, overlay := range overlays {
		if overlay.Name != gitops.FieldOverlay {
			continue
		}
		rendered, err := gitops.Render(tree, overlay)
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for _, o := range rendered.Objects {
			all.Write(o.YAML())
		}
		for _, want := range []string{`name: "007"`, "image: registry.example.com/hello:1.10", "publicKey: " + key, "namespace: retail"} {
			if !strings.Contains(all.String(), want) {
				t.Errorf("%q is not in\n%s", want, all.String())
			}
		}
	}
}

func TestScaffoldWritesNothingWhenSomethingIsWrong(t *testing.T) {
	for _, c := range []struct {
		name, want string
		change     func(*gitops.ScaffoldOptions)
	}{
		{"no URL", "where Flux will fetch", func(o *gitops.ScaffoldOptions) { o.URL = "" }},
		{"a URL that Flux does not take", "ssh://git@host/path", func(o *gitops.ScaffoldOptions) { o.URL = "git@host:path" }},
		{"a name with capitals", "DNS label", func(o *gitops.ScaffoldOptions) { o.Name = "Shops" }},
		{"a namespace that is too long", "DNS label", func(o *gitops.ScaffoldOptions) { o.Namespace = strings.Repeat("n", 62) }},
		{"no image", "which image", func(o *gitops.ScaffoldOptions) { o.Image = "" }},
		{"an image without a version", "neither tag nor digest", func(o *gitops.ScaffoldOptions) { o.Image = "registry.example.com/hello" }},
		{"an image that is none", "not an image reference", func(o *gitops.ScaffoldOptions) { o.Image = "a b" }},
		{"a device ID with dots", `device ID "a.b"`, func(o *gitops.ScaffoldOptions) { o.Devices = []gitops.ScaffoldDevice{{ID: "a.b"}} }},
		{"a device twice", "named twice", func(o *gitops.ScaffoldOptions) {
			o.Devices = []gitops.ScaffoldDevice{{ID: "a"}, {ID: "a", Overlay: gitops.LabOverlay}}
		}},
		{"a key that is none", "56 characters", func(o *gitops.ScaffoldOptions) { o.Devices = []gitops.ScaffoldDevice{{ID: "a", PublicKey: "U"}} }},
		{"an overlay that is none", `no overlay "moon"`, func(o *gitops.ScaffoldOptions) { o.Devices = []gitops.ScaffoldDevice{{ID: "a", Overlay: "moon"}} }},
	} {
		o := options()
		c.change(&o)
		dir := filepath.Join(t.TempDir(), "repo")
		if _, err := gitops.Scaffold(dir, o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s: something was written (%v)", c.name, err)
		}
	}
	dir := t.TempDir()
	write(t, dir, "notes.txt", "mine")
	if _, err := gitops.Scaffold(dir, options()); err == nil || !strings.Contains(err.Error(), "notes.txt") {
		t.Errorf("a folder with something in it: %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("the folder has %v now", entries)
	}
}
