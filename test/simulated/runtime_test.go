package simulated

import (
	"testing"
	"time"

	"github.com/nationtech/fleet/agent/driver/podman"
	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/agent/store"
	"github.com/nationtech/fleet/agent/worker"
	"github.com/nationtech/fleet/contracts"
)

// A worker of the agent's above the simulated runtime goes through what it does above
// podman.
func TestRuntime(t *testing.T) {
	r := newRuntime()
	reports := make(chan contracts.DeploymentState, 100)
	w := worker.New("app", store.Record{}, nil, worker.Options{
		Pods: r, Settings: reconcile.Settings{Device: "d"}, Logger: quiet,
		Save: func(store.Record) error { return nil }, SaveGood: func(contracts.DesiredState) error { return nil },
		Report: func(s contracts.DeploymentState) { reports <- s },
	})
	go w.Run(t.Context())
	go r.Watch(t.Context(), func(e podman.Event) { w.Event(e.Container, e.ByHand) })
	tell := func(revision, image string) {
		score := contracts.ReconcileScore{Podman: &contracts.PodmanScore{RestartPolicy: "Always", Containers: []contracts.Container{{Name: "app", Image: image, PullPolicy: "IfNotPresent"}}}}
		w.Set(contracts.DesiredState{Deployment: "app", Namespace: "n", Revision: revision, Digest: score.Digest(), Score: score, Issued: time.Now().UnixNano()})
	}
	await := func(revision string, phase contracts.Phase, reason string) {
		t.Helper()
		var last contracts.DeploymentState
		for timeout := time.After(20 * time.Second); ; {
			select {
			case last = <-reports:
				if last.Revision == revision && last.Phase == phase && last.Reason == reason {
					return
				}
			case <-timeout:
				t.Fatalf("the last report is %+v, want %s %s %s", last, revision, phase, reason)
			}
		}
	}
	tell("app-1", "app:v1")
	await("app-1", contracts.PhaseRunning, "")
	tell("app-2", "app:v2")
	await("app-2", contracts.PhaseRunning, "")
	r.crash("app")
	await("app-2", contracts.PhaseRunning, "")
	tell("app-3", "app"+badTag)
	await("app-3", contracts.PhaseFailed, reconcile.ReasonImagePull)
}
