package agent_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/nationtech/fleet/agent/policy"
	"github.com/nationtech/fleet/contracts"
)

func TestTheDeviceHasTheLastWord(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("on what its configuration allows", func(t *testing.T) { lastWord(newWorld(t)) })
	t.Run("on where a link leads", func(t *testing.T) { links(newWorld(t)) })
}

// lastWord has a device refuse what its configuration does not allow, and carry it out
// when it does.
func lastWord(w *world) {
	t := w.T
	plain := contracts.PodmanScore{Containers: []contracts.Container{serving("web", 8080, "plain"), serving("side", 8081, "side")}}
	host := t.TempDir()
	must(t, os.WriteFile(filepath.Join(host, "file"), []byte("of the device"), 0o644))

	w.runs(w.tell("shop", plain))
	before := w.containers("shop")

	// What is refused touches nothing, even when its deadline is over.
	reaching := contracts.PodmanScore{
		Containers: []contracts.Container{serving("web", 8080, "reaches"), serving("side", 8081, "side")},
		Volumes:    []contracts.Volume{{Name: "host", HostPath: &contracts.HostPath{Path: host}}},
	}
	reaching.Containers[0].Mounts = []contracts.Mount{{Volume: "host", Path: "/host"}}
	reaching.Containers[0].Security = &contracts.SecurityContext{AddCapabilities: []string{"SYS_TIME"}}
	d := w.tellWithin("shop", reaching, 1)
	refused := func(d contracts.DesiredState, says ...string) contracts.DeploymentState {
		t.Helper()
		s := w.fails(d, "RefusedByDevice")
		for _, text := range says {
			if !strings.Contains(s.Message, text) {
				t.Errorf("it says %q, want %q in it", s.Message, text)
			}
		}
		return s
	}
	s := refused(d, "container web: host path "+host, "podman.allow.hostPaths: ["+host+"]", "podman.allow.capabilities: [SYS_TIME]")
	if len(s.Containers) != 2 || !s.Containers[0].Ready {
		t.Errorf("it reports %+v, want the containers that go on running", s.Containers)
	}
	if after := w.containers("shop"); !maps.Equal(after, before) {
		t.Errorf("containers %v, before %v", after, before)
	}
	// What goes on running is looked after.
	_, _ = get(8080, "/exit?code=3") // it ends before it answers
	w.reports(d, "refused, with a container that was started again", func(s contracts.DeploymentState) bool {
		return s.Phase == contracts.PhaseFailed && s.Reason == "RefusedByDevice" && s.Restarts == 1 && slices.ContainsFunc(s.Containers, ready("web"))
	})
	w.serves(8080, "/", "plain")
	d = w.tell("shop", reaching) // with the time to get healthy that it needs
	refused(d)

	// One that nothing ran before is not even made.
	for name, change := range map[string]func(*contracts.PodmanScore){
		"net": func(s *contracts.PodmanScore) { s.HostNetwork = true },
		"root": func(s *contracts.PodmanScore) {
			s.Containers[0].Security = &contracts.SecurityContext{Privileged: true}
		},
		"port": func(s *contracts.PodmanScore) { s.Containers[0].Ports[0].Host = 443 },
	} {
		score := contracts.PodmanScore{Containers: []contracts.Container{serving("web", 8090, name)}}
		change(&score)
		refused(w.tell(name, score), "podman.allow.")
		if left := w.left(name); left != "" {
			t.Errorf("%s was refused, and there is %s", name, left)
		}
		w.withdraw(name)
	}

	// Its owner allows it.
	w.config.Podman.Allow.HostPaths, w.config.Podman.Allow.Capabilities = []string{host}, []string{"SYS_TIME"}
	w.restart()
	w.runs(d)
	w.serves(8080, "/file?path=/host/file", "of the device")
	if after := w.containers("shop"); after["side"] != before["side"] || after["web"] == before["web"] {
		t.Errorf("containers %v, before %v", after, before)
	}

	// Its owner becomes stricter: what was allowed before ends, and nobody starts it.
	w.config.Podman.Allow = policy.Podman{HostPorts: w.config.Podman.Allow.HostPorts}
	w.restart()
	refused(d)
	after := w.containers("shop")
	if _, runs := after["web"]; runs || after["side"] != before["side"] {
		t.Errorf("containers %v, want the side one %s alone", after, before["side"])
	}

	// It lets it go on, as it was before.
	w.config.Podman.Allow.HostPaths, w.config.Podman.Allow.Capabilities = []string{host}, []string{"SYS_TIME"}
	w.restart()
	w.runs(d)
	w.serves(8080, "/file?path=/host/file", "of the device")
}

func ready(name string) func(contracts.ContainerState) bool {
	return func(c contracts.ContainerState) bool { return c.Name == name && c.Ready }
}

// links has a deployment try to get at the device through a link in a directory that a
// container may write to.
func links(w *world) {
	t := w.T
	host := filepath.Join(t.TempDir(), "data")
	w.config.Podman.Allow.HostPaths = []string{host}
	w.restart()

	score := contracts.PodmanScore{
		Containers: []contracts.Container{serving("web", 8080, "made")},
		Volumes:    []contracts.Volume{{Name: "host", HostPath: &contracts.HostPath{Path: host + "/.", Create: true}}},
	}
	score.Containers[0].Mounts = []contracts.Mount{{Volume: "host", Path: "/host"}}
	w.runs(w.tell("shop", score))
	must(t, os.Symlink("/", filepath.Join(host, "link")))

	for name, mount := range map[string]contracts.Volume{
		"path":    {Name: "host", HostPath: &contracts.HostPath{Path: host + "/link/etc"}},
		"up":      {Name: "host", HostPath: &contracts.HostPath{Path: host + "/link/../../etc"}},
		"subpath": {Name: "host", HostPath: &contracts.HostPath{Path: host}},
	} {
		score := contracts.PodmanScore{Containers: []contracts.Container{serving("web", 8090, name)}, Volumes: []contracts.Volume{mount}}
		score.Containers[0].Mounts = []contracts.Mount{{Volume: "host", Path: "/host"}}
		if name == "subpath" {
			score.Containers[0].Mounts[0].SubPath = "link/etc"
		}
		w.fails(w.tell(name, score), "RefusedByDevice")
		if left := w.left(name); left != "" {
			t.Errorf("%s was refused, and there is %s", name, left)
		}
	}
	w.serves(8080, "/", "made")
	if _, err := os.Stat(host); errors.Is(err, os.ErrNotExist) {
		t.Error(fmt.Errorf("what the score may have made is not there: %w", err))
	}
}
