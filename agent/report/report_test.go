package report

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nationtech/fleet/contracts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wire takes what a Sender sends, or refuses it.
type wire struct {
	mu   sync.Mutex
	down bool
	sent []contracts.DeploymentState
	gone []contracts.DeploymentName
}

func (w *wire) send(_ context.Context, s contracts.DeploymentState) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return errors.New("no connection")
	}
	w.sent = append(w.sent, s)
	return nil
}

func (w *wire) set(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
}

func (w *wire) left(name contracts.DeploymentName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone = append(w.gone, name)
}

func (w *wire) phases(name contracts.DeploymentName) []contracts.Phase {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []contracts.Phase
	for _, s := range w.sent {
		if s.Deployment == name {
			out = append(out, s.Phase)
		}
	}
	return out
}

func start(t *testing.T) (*Sender, *wire) {
	t.Helper()
	w := &wire{}
	s := New(w.send, w.left, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s, w
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal(what, ": not after 10 s")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func state(name contracts.DeploymentName, seq uint64, phase contracts.Phase) contracts.DeploymentState {
	return contracts.DeploymentState{Deployment: name, Seq: seq, Phase: phase}
}

func TestOnlyTheLastIsSentOfWhatWaited(t *testing.T) {
	s, w := start(t)
	w.set(true)
	for i, p := range []contracts.Phase{contracts.PhasePulling, contracts.PhaseApplying, contracts.PhaseRunning} {
		s.Report(state("a", uint64(i+1), p))
	}
	s.Report(state("b", 1, contracts.PhaseFailed))
	w.set(false)
	eventually(t, "both are sent", func() bool { return len(w.phases("a")) > 0 && len(w.phases("b")) > 0 })
	if got := w.phases("a"); !slices.Equal(got, []contracts.Phase{contracts.PhaseRunning}) {
		t.Errorf("of a was sent %v", got)
	}
}

func TestAllSendsEverythingAgain(t *testing.T) {
	s, w := start(t)
	s.Report(state("a", 1, contracts.PhaseRunning))
	eventually(t, "it is sent", func() bool { return len(w.phases("a")) == 1 })
	s.All()
	eventually(t, "it is sent again", func() bool { return len(w.phases("a")) == 2 })
}

func TestWhatWasRemovedIsForgottenOnceItIsSent(t *testing.T) {
	s, w := start(t)
	w.set(true)
	s.Report(state("a", 1, contracts.PhaseRemoved))
	w.mu.Lock()
	early := len(w.gone)
	w.mu.Unlock()
	if early > 0 {
		t.Error("it is forgotten before the server knows")
	}
	w.set(false)
	eventually(t, "it is forgotten", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.gone) == 1 })
	before := len(w.phases("a"))
	s.Report(state("b", 1, contracts.PhaseRunning))
	s.All()
	eventually(t, "the other is sent", func() bool { return len(w.phases("b")) > 0 })
	if got := len(w.phases("a")); got != before {
		t.Errorf("it was sent %d times more", got-before)
	}
}
