package gitops_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nationtech/fleet/gitops"
)

func rollback(t *testing.T, dir string, o gitops.RollbackOptions) (gitops.Rollback, error) {
	t.Helper()
	return openBranch(t, dir, "rolling").Rollback(dir, o)
}

func TestRollbackTakesTheLeast(t *testing.T) {
	for name, c := range map[string]struct {
		// change is what has gone wrong since.
		change     func(t *testing.T, dir string)
		deployment string
		overlay    string
		files      []string
		others     []string
		check      func(t *testing.T, dir string)
	}{
		"a tag": {func(t *testing.T, dir string) { replace(t, dir, lab, "newTag: v2", "newTag: bad") }, "hello", "lab", []string{lab}, nil, nil},
		"one tag of two, with other changes in the file": {func(t *testing.T, dir string) {
			replace(t, dir, lab, "newTag: v2", "newTag: bad\n- name: other\n  newTag: v7 # stays")
			replace(t, dir, lab, "namespace: retail-lab", "# a comment that stays\nnamespace: retail-lab")
		}, "hello", "lab", []string{lab}, nil, func(t *testing.T, dir string) {
			if text := runGit(t, dir, "show", "rolling:"+lab); !strings.Contains(text, "newTag: v7 # stays") || !strings.Contains(text, "a comment that stays") || !strings.Contains(text, "newTag: v2") {
				t.Errorf("the kustomization is\n%s", text)
			}
		}},
		"a base, and nothing of what changed beside it": {func(t *testing.T, dir string) {
			replace(t, dir, "base/hello.yaml", "terminationGracePeriodSeconds: 5", "terminationGracePeriodSeconds: 500")
			replace(t, dir, "base/signage.yaml", "terminationGracePeriodSeconds: 5", "terminationGracePeriodSeconds: 6")
			write(t, dir, "README.md", "other\n")
		}, "hello", "lab", []string{"base/hello.yaml"}, []string{"fleet Deployment retail/hello of overlay field"}, nil},
		"a ConfigMap": {func(t *testing.T, dir string) { replace(t, dir, lab, "GREETING=", "GREETING=Bad ") }, "hello", "lab", []string{lab}, nil, nil},
		"a patch that has come": {func(t *testing.T, dir string) {
			withLabPatch(t, dir, "      terminationGracePeriodSeconds: 9\n")
		}, "hello", "lab", []string{lab}, nil, nil},
		"a file that has gone": {func(t *testing.T, dir string) {
			replace(t, dir, "base/kustomization.yaml", "- signage.yaml\n", "- screens.yaml\n")
			write(t, dir, "base/screens.yaml", strings.Replace(read(t, dir, "base/signage.yaml"), "terminationGracePeriodSeconds: 5", "terminationGracePeriodSeconds: 6", 1))
			if err := os.Remove(filepath.Join(dir, "base/signage.yaml")); err != nil {
				t.Fatal(err)
			}
		}, "signage", "lab", []string{"base/kustomization.yaml", "base/signage.yaml"}, []string{"fleet Deployment retail/signage of overlay field"}, nil},
		"an overlay that can't be built any more": {func(t *testing.T, dir string) {
			replace(t, dir, lab, "resources:\n", "resources:\n- missing.yaml\n")
		}, "hello", "lab", []string{lab}, nil, nil},
		"nothing": {func(t *testing.T, dir string) { write(t, dir, "README.md", "other\n") }, "hello", "lab", nil, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := fleetRepository(t)
			good := helloOf(t, dir, "lab")
			at := runGit(t, dir, "rev-parse", "--short", "HEAD")
			c.change(t, dir)
			commitAll(t, dir, "Change for the worse")
			o := gitops.RollbackOptions{Deployment: c.deployment, Overlay: c.overlay, Revision: at}
			found, err := rollback(t, dir, o)
			if len(c.others) > 0 {
				if refused := (*gitops.OthersError)(nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), c.others[0]) {
					t.Errorf("error %v", err)
				}
				o.WithOthers = true
				found, err = rollback(t, dir, o)
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := slices.Sorted(maps.Keys(found.Files)); !slices.Equal(got, c.files) {
				t.Errorf("files %v, want %v", got, c.files)
			}
			if !slices.Equal(found.Others, c.others) && len(found.Others)+len(c.others) > 0 {
				t.Errorf("others %v, want %v", found.Others, c.others)
			}
			if len(c.files) == 0 {
				return
			}
			if message := found.Message(); !strings.HasPrefix(message, "Roll "+c.deployment+" back to "+at+"\n\n") || !strings.Contains(message, "Try v2 in the lab") {
				t.Errorf("message\n%s", message)
			}
			d, err := openBranch(t, dir, "rolling").Draft(found.Files)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Commit(t.Context(), commitOptions()); err != nil {
				t.Fatal(err)
			}
			if c.check != nil {
				c.check(t, dir)
			}
			runGit(t, dir, "checkout", "-q", "rolling")
			if got := helloOf(t, dir, "lab"); c.deployment == "hello" && got != good {
				t.Errorf("hello is\n%s\nand was\n%s", got, good)
			}
		})
	}
}

func TestRollbackSaysWhatItCanNot(t *testing.T) {
	dir := fleetRepository(t)
	for name, c := range map[string]struct {
		o    gitops.RollbackOptions
		want string
	}{
		"no such revision":        {gitops.RollbackOptions{Deployment: "hello", Overlay: "lab", Revision: "v9"}, `no revision "v9"`},
		"no such Deployment":      {gitops.RollbackOptions{Deployment: "hallo", Revision: "HEAD~1"}, "no overlay has a fleet Deployment hallo"},
		"no such Deployment then": {gitops.RollbackOptions{Deployment: "hallo", Overlay: "lab", Revision: "HEAD~1"}, "had no fleet Deployment hallo at HEAD~1"},
		"no such overlay":         {gitops.RollbackOptions{Deployment: "hello", Overlay: "moon", Revision: "HEAD~1"}, `no overlay "moon"`},
		"which overlay":           {gitops.RollbackOptions{Deployment: "hello", Revision: "HEAD~1"}, "say which with --overlay"},
	} {
		if _, err := rollback(t, dir, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
	clone := filepath.Join(t.TempDir(), "clone")
	runGit(t, dir, "clone", "-q", "--depth", "1", "file://"+dir, clone)
	for _, revision := range []string{"HEAD~1", runGit(t, dir, "rev-parse", "HEAD~1")} {
		if _, err := rollback(t, clone, gitops.RollbackOptions{Deployment: "hello", Overlay: "lab", Revision: revision}); err == nil || !strings.Contains(err.Error(), "git fetch --unshallow") {
			t.Errorf("a shallow clone, %s: error %v", revision, err)
		}
	}
}
