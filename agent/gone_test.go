package agent

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/agent/store"
	"github.com/nationtech/fleet/agent/worker"
	"github.com/nationtech/fleet/contracts"
)

// idle is a runtime that has nothing and does nothing.
type idle struct{}

func (idle) Observe(context.Context, contracts.DeploymentName, *reconcile.Desired) (reconcile.Observed, error) {
	return reconcile.Observed{}, &reconcile.Failure{Reason: reconcile.ReasonVolume, Message: "it is away"}
}
func (idle) Do(context.Context, *reconcile.Desired, reconcile.Step) error { return nil }
func (idle) Settle(context.Context, contracts.DeploymentName, *reconcile.Desired) error {
	return nil
}
func (idle) Rootless(context.Context) (bool, error) { return false, nil }
func (idle) Address(context.Context, string) (reconcile.Address, error) {
	return reconcile.Address{}, nil
}
func (idle) Log(context.Context, string) (string, error) { return "", nil }
func (idle) Exec(context.Context, string, contracts.Container, []string) error {
	return nil
}

func TestWhatIsToldWhileItGoesIsNeitherLostNorForgotten(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	disk, err := store.Open(t.TempDir(), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	f := &fleet{ctx: ctx, disk: disk, log: log, workers: map[contracts.DeploymentName]*running{}}
	f.options = worker.Options{Pods: idle{}, Save: disk.PutRecord, SaveGood: disk.PutGood, Report: func(contracts.DeploymentState) {}, Logger: log}
	t.Cleanup(func() { cancel(); f.wait() })

	score := contracts.ReconcileScore{Podman: &contracts.PodmanScore{RestartPolicy: "Always",
		Containers: []contracts.Container{{Name: "app", Image: "localhost/app:1", PullPolicy: "IfNotPresent"}}}}
	d := contracts.DesiredState{V: contracts.Version, Deployment: "web", Namespace: "shops", Revision: "web-1", Digest: score.Digest(), Score: score, Issued: 1, Time: time.Unix(0, 0).UTC()}
	for range 200 {
		f.remove("web", 1)
		var both sync.WaitGroup
		both.Go(func() { f.gone("web") })
		both.Go(func() { f.set(d) })
		both.Wait()
		f.mu.Lock()
		w := f.workers["web"]
		f.mu.Unlock()
		if w == nil || w.Removed() {
			t.Fatal("what was told last is lost")
		}
		select {
		case <-w.done:
			t.Fatal("the worker that was told has ended")
		default:
		}
		// Whichever worker it is, its record is on disk and stays there.
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			records, err := disk.Records()
			if err != nil {
				t.Fatal(err)
			}
			if records["web"].Report.Revision == d.Revision {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the record of what was told is gone: %+v", records)
			}
		}
	}
}
