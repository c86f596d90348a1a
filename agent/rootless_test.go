package agent_test

import (
	"maps"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/podmantest"
)

// TestOnARootlessPodman has the agent do with a podman without rights what it does with
// one of root's, above all look at ports that nobody but the pod reaches.
func TestOnARootlessPodman(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("life", func(t *testing.T) { rootless(newWorldOn(t, podmantest.Options{Name: "agent", Rootless: true})) })
}

func rootless(w *world) {
	t := w.T
	files := []contracts.File{{Path: "deep/down/file", Mode: 0o644, Data: []byte("of a ConfigMap")}}
	front := serving("front", 8080, "front")
	front.Mounts = []contracts.Mount{{Volume: "files", Path: "/files"}, {Volume: "kept", Path: "/kept"}}
	user := int64(1000)
	front.Security = &contracts.SecurityContext{RunAsUser: &user}
	// Its port is mapped by nobody, and all of its probes are well.
	back := serving("back", 8081, "back")
	back.Ports = nil
	back.Liveness = &contracts.Probe{TCP: &contracts.TCPProbe{Port: 8081}, Timeout: 1, Period: 1, SuccessThreshold: 1, FailureThreshold: 3}
	back.Startup = &contracts.Probe{Exec: []string{"/app", "check"}, Timeout: 5, Period: 1, SuccessThreshold: 1, FailureThreshold: 30}
	score := contracts.PodmanScore{
		InitContainers: []contracts.Container{{
			Name: "prepare", Image: image, PullPolicy: "IfNotPresent", Args: []string{"write", "/kept/file", "of an init container"},
			Mounts: []contracts.Mount{{Volume: "kept", Path: "/kept"}},
		}},
		Containers: []contracts.Container{front, back},
		Volumes:    []contracts.Volume{{Name: "files", Files: &files}, {Name: "kept", EmptyDir: &contracts.EmptyDir{}}},
	}
	d := w.tell("shop", score)
	w.runs(d)
	w.serves(8080, "/", "front")
	w.serves(8080, "/file?path=/files/deep/down/file", "of a ConfigMap")
	w.serves(8080, "/file?path=/kept/file", "of an init container")
	before := w.containers("shop")

	// An agent that starts anew finds everything as it is.
	w.restart()
	w.runs(d)
	if after := w.containers("shop"); !maps.Equal(after, before) {
		t.Errorf("containers %v, before %v", after, before)
	}

	// One that ends is started again.
	_, _ = get(8080, "/exit?code=3") // it ends before it answers
	w.reports(d, "started again", func(s contracts.DeploymentState) bool {
		return s.Phase == contracts.PhaseRunning && s.Restarts > 0
	})
	w.serves(8080, "/", "front")

	// A port on which nobody listens is not taken for one on which somebody does, though
	// podman accepts the connection.
	deaf := serving("deaf", 8090, "deaf")
	deaf.Ports = nil
	deaf.Readiness = &contracts.Probe{TCP: &contracts.TCPProbe{Port: 8099}, Timeout: 1, Period: 1, SuccessThreshold: 1, FailureThreshold: 3}
	none := w.tellWithin("deaf", contracts.PodmanScore{Containers: []contracts.Container{deaf}}, 4)
	if s := w.fails(none, "ProbeFailed"); !strings.Contains(s.Message, "nobody listens") {
		t.Errorf("it says %q", s.Message)
	}

	for _, name := range []string{"shop", "deaf"} {
		w.withdraw(name)
	}
	w.reports(d, "removed", func(s contracts.DeploymentState) bool { return s.Phase == contracts.PhaseRemoved })
	w.reports(none, "removed", func(s contracts.DeploymentState) bool { return s.Phase == contracts.PhaseRemoved })
	if left := w.left("shop") + w.left("deaf"); left != "" {
		t.Errorf("there is %s", left)
	}
}
