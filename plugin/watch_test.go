package plugin

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/plugin/cli"
)

// buffer can be read while a command writes it.
type buffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// watching is a command that runs until the test ends.
type watching struct{ out, errOut buffer }

func watchCommand(t *testing.T, args ...string) *watching {
	t.Helper()
	w := &watching{}
	env := cli.NewEnv(genericiooptions.IOStreams{In: strings.NewReader(""), Out: &w.out, ErrOut: &w.errOut})
	env.Now = func() time.Time { return shared.now }
	env.Getenv = func(string) string { return "" }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	go func() { done <- execute(ctx, append(args, "--kubeconfig", shared.kubeconfig), env) }()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != cli.CodeInterrupted {
			t.Errorf("%v: exit code %d, stderr %q", args, code, w.errOut.String())
		}
	})
	return w
}

// says waits until a stream has a text.
func says(t *testing.T, b *buffer, want string) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !strings.Contains(b.String(), want) {
		if time.Now().After(deadline) {
			t.Fatalf("%q does not come:\n%s", want, b.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestWatchGoesThroughARestartOfTheOperator(t *testing.T) {
	ns := namespace(t, "watched")
	shared.live.device(ns, "watched-1", beat(time.Second))
	shared.live.device(ns, "watched-2", beat(time.Second))
	shared.live.placement("watched-1", "web", placed("web-1", time.Hour))
	heartbeats := watchCommand(t, "heartbeats", "-n", ns, "-w")
	placements := watchCommand(t, "placements", "-n", ns, "-w", "-o", "jsonpath={.metadata.name} {.status.phase}{\"\\n\"}")
	failed := watchCommand(t, "placements", "-n", ns, "-w", "--phase", "Failed", "--output-watch-events")
	says(t, &heartbeats.out, "watched-2")
	says(t, &placements.out, "watched-1.web Running\n")
	says(t, &failed.errOut, "No such placements in namespace watched.\n")

	shared.live.device(ns, "watched-2", silent(time.Minute))
	says(t, &heartbeats.out, "watched-2   False")
	p := placed("web-1", time.Minute)
	p.Phase = contracts.PhaseFailed
	shared.live.placement("watched-1", "web", p)
	says(t, &placements.out, "watched-1.web Failed\n")
	says(t, &failed.out, "ADDED")

	before := heartbeats.out.String()
	shared.live.restart(t, func() {
		says(t, &heartbeats.errOut, "connection lost, trying again: ")
		// The new one answers before it has read the buckets.
		shared.live.ready.Store(false)
		time.AfterFunc(3*time.Second, func() { shared.live.ready.Store(true) })
	})
	says(t, &heartbeats.errOut, "connection is back")
	shared.live.device(ns, "watched-3", beat(time.Second))
	says(t, &heartbeats.out, "watched-3")
	shared.live.placement("watched-1", "web", placed("web-2", time.Second))
	says(t, &failed.out, "DELETED")
	says(t, &failed.out, "Deselected")
	after := strings.Split(strings.TrimSpace(strings.TrimPrefix(heartbeats.out.String(), before)), "\n")
	if len(after) != 1 || !strings.HasPrefix(after[0], "watched-3 ") {
		t.Errorf("after the restart it repeats what has not changed: %q", after)
	}
	if lines := strings.Fields(failed.out.String()); !slices.Contains(lines, "ADDED") || slices.Contains(lines, "MODIFIED") {
		t.Errorf("of what failed it says %q", failed.out.String())
	}
}
