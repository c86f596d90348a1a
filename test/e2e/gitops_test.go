package e2e

import (
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/test/env"
)

// TestGitOps goes the way of somebody who works with the repository alone: a version is
// tried in the lab, promoted to the field, and taken back.
func TestGitOps(t *testing.T) {
	s := newSuite(t, 0, func(f *env.Fleet) { f.Devices[2].Overlay = gitops.LabOverlay })
	s.steps(
		step{"a commit is waited for until every device runs it", (*suite).delivered},
		step{"what the lab runs is promoted to the field, and nothing else changes", (*suite).promoted},
		step{"a bad image is told at once, with the device and the reason", (*suite).badImageTold},
		step{"a rollback restores what ran, as a commit", (*suite).takenBack},
		step{"a device leads back to the commit and its author", (*suite).traced},
	)
}

// repo runs a command on the repository, and returns its exit code with what it printed.
// What it says on stderr is in the error.
func (s *suite) repo(args ...string) (string, int, error) {
	s.Helper()
	out, err := s.Kubectl(s.Context(), args...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out, exit.ExitCode(), err
	}
	s.must("run kubectl fleet", err)
	return out, 0, nil
}

// wait waits until what was pushed last runs everywhere.
func (s *suite) wait() {
	s.Helper()
	if _, code, err := s.repo("wait", "--repo", s.Repository.Dir, "--timeout", limit.String()); code != 0 {
		s.Fatalf("exit code %d: %v", code, err)
	}
}

// serve holds what devices serve to what they should, without waiting.
func (s *suite) serve(want map[string]string) {
	s.Helper()
	for _, d := range s.Devices {
		if g, err := d.Greet(s.Context()); err != nil || g.Version != want[d.ID] {
			s.Errorf("%s serves %q (%v), want %s", d.ID, g.Version, err, want[d.ID])
		}
	}
}

// tag changes the version of hello in an overlay and pushes that.
func (s *suite) tag(overlay, from, to string) {
	s.Helper()
	s.must("edit", s.Repository.Edit("overlays/"+overlay+"/kustomization.yaml", "newTag: "+from, "newTag: "+to))
	_, err := s.Repository.Push(s.Context(), "Roll out hello "+to+" in the "+overlay)
	s.must("push", err)
}

func (s *suite) delivered() {
	if out, code, err := s.repo("repo", "validate", s.Repository.Dir); code != 0 {
		s.Fatalf("the repository is not valid: %v\n%s", err, out)
	}
	s.wait()
	s.tag("lab", "v1", "v2")
	s.wait()
	s.serve(map[string]string{"shop-1": "v1", "shop-2": "v1", "shop-3": "v2"})
}

func (s *suite) promoted() {
	if out, code, err := s.repo("repo", "promote", "lab", "field", "--repo", s.Repository.Dir, "--branch", "main", "--push", "--yes"); code != 0 {
		s.Fatalf("%v\n%s", err, out)
	}
	out, code, err := s.repo("repo", "diff", "--repo", s.Repository.Dir, "--rev", "HEAD~1..HEAD", "-o", "json")
	if code != 1 {
		s.Fatalf("exit code %d, want 1 for what differs: %v", code, err)
	}
	var diff struct {
		Added, Changed, Removed, Devices int
		Overlays                         []struct {
			Name        string
			Objects     []struct{ Kind, Name string }
			Deployments []struct {
				Waves []struct{ Devices []string }
			}
		}
	}
	s.must("read the diff", json.Unmarshal([]byte(out), &diff))
	var objects, devices []string
	for _, o := range diff.Overlays {
		for _, object := range o.Objects {
			objects = append(objects, o.Name+" "+object.Kind+" "+object.Name)
		}
		for _, d := range o.Deployments {
			for _, w := range d.Waves {
				devices = append(devices, w.Devices...)
			}
		}
	}
	slices.Sort(devices)
	if !slices.Equal(objects, []string{"field Deployment hello"}) || !slices.Equal(devices, []string{"shop-1", "shop-2"}) || diff.Devices != 2 {
		s.Errorf("objects %q change, and devices %q of %d; want Deployment hello of the field on shop-1 and shop-2:\n%s", objects, devices, diff.Devices, out)
	}
	s.wait()
	s.serve(map[string]string{"shop-1": "v2", "shop-2": "v2", "shop-3": "v2"})
}

func (s *suite) badImageTold() {
	s.tag("field", "v2", "missing")
	begun := time.Now()
	_, code, err := s.repo("wait", "--repo", s.Repository.Dir, "--timeout", limit.String())
	took := time.Since(begun)
	if code != 1 {
		s.Fatalf("exit code %d after %s, want 1: %v", code, took, err)
	}
	s.Logf("told after %s:\n%v", took, err)
	if text := err.Error(); !strings.Contains(text, "ImagePullFailed") || !slices.ContainsFunc([]string{"device shop-1", "device shop-2"}, func(d string) bool { return strings.Contains(text, d) }) {
		s.Error("it does not name a device and the reason")
	}
	s.serve(map[string]string{"shop-1": "v2", "shop-2": "v2", "shop-3": "v2"})
}

func (s *suite) takenBack() {
	hello := s.containers("hello")
	if out, code, err := s.repo("repo", "rollback", "hello", "--overlay", "field", "--to", "HEAD~1", "--repo", s.Repository.Dir, "--branch", "main", "--push", "--yes"); code != 0 {
		s.Fatalf("%v\n%s", err, out)
	}
	s.wait()
	s.serve(map[string]string{"shop-1": "v2", "shop-2": "v2", "shop-3": "v2"})
	s.same("hello", hello)
}

func (s *suite) traced() {
	out, _, err := s.repo("trace", "shop-3", "--repo", s.Repository.Dir, "-n", env.LabNamespace)
	s.must("trace", err)
	for _, want := range []string{"Roll out hello v2 in the lab", "Platform Engineer <platform@example.com>", "./overlays/lab", "Running on the device"} {
		if !strings.Contains(out, want) {
			s.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	out, _, err = s.repo("log", "hello", "--repo", s.Repository.Dir, "-n", env.Namespace)
	s.must("log", err)
	for _, want := range []string{"Platform Engineer", "Begin the fleet", "Roll out hello missing in the field", "Roll hello back"} {
		if !strings.Contains(out, want) {
			s.Errorf("it does not have %q:\n%s", want, out)
		}
	}
}
