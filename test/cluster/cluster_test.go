package cluster

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/simulated"
)

const (
	devices = 24
	app     = "app"
)

func image(tag int) string { return fmt.Sprintf("registry.example.com/app:%d", tag) }

// TestServersDie kills the server that it hurts most to lose, the leader of what devices
// are told, in the middle of a rollout, and when it is back another one, which leaves a
// majority only if the first has come back with all it had.
func TestServersDie(t *testing.T) {
	w := newWorld(t, 3, nil)
	agents := w.agents(devices, app, w.urls())
	w.deploy(app)
	w.complete(app, devices)
	w.current()
	w.spread(agents)

	w.roll(app, image(2), "50%")
	until(t, "the rollout is under way", func(context.Context) error {
		if a := w.get(app).Status.Aggregate; a.Updated == 0 || a.Updated > devices/2 {
			return fmt.Errorf("%+v", a)
		}
		return nil
	})
	t.Logf("the leader is killed with %+v", *w.get(app).Status.Aggregate)
	first, begun := w.killLeader(), time.Now()
	revision := w.complete(app, devices)
	t.Logf("all %d devices run %s %s later", devices, revision, time.Since(begun).Round(100*time.Millisecond))
	w.consistent(agents, app, revision)

	begun = time.Now()
	first.start(t)
	w.current()
	t.Logf("%s is back and has every stream after %s", first.Name, time.Since(begun).Round(100*time.Millisecond))
	if second := w.killLeader(); second == first {
		t.Fatalf("%s was killed twice and not another server", first.Name)
	}
	w.consistent(agents, app, revision)
}

// killLeader kills the leader of what devices are told, and waits for the next one. It
// returns the one that was killed.
func (w *world) killLeader() *process {
	w.Helper()
	victim, begun := w.leader(contracts.BucketDesiredState), time.Now()
	victim.kill(w)
	until(w, "every stream has a leader that is there", func(ctx context.Context) error {
		for _, b := range buckets {
			info, err := w.cluster(ctx, b)
			if err == nil && (info.Leader == "" || info.Leader == victim.Name) {
				err = fmt.Errorf("%q leads", info.Leader)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", b, err)
			}
		}
		return nil
	})
	w.Logf("%s was killed; every stream has a leader after %s", victim.Name, time.Since(begun).Round(100*time.Millisecond))
	return victim
}

// spread holds devices and operator to what a cluster is for: each server lets in.
func (w *world) spread(agents []*simulated.Agent) {
	w.Helper()
	on := map[string]int{}
	for _, a := range agents {
		on[a.Server()]++
	}
	if len(on) != len(w.nodes) {
		w.Errorf("the operator has let devices in at %v, want at each of %d servers", on, len(w.nodes))
	}
	var names []string
	list, err := bus.Servers(w.Context(), w.sys)
	must(w.T, err)
	for _, s := range list {
		names = append(names, s.Name)
	}
	if slices.Sort(names); len(names) != len(w.nodes) {
		w.Errorf("the operator's system account sees the servers %q", names)
	}
}
