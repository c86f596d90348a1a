// Package report sends what the device says of its deployments. Of each only the
// last counts: what could not be sent while the device was away is replaced by
// what is true when it is back.
package report

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
)

// Timing of sending again what the server did not take.
const (
	firstPause = 100 * time.Millisecond
	longPause  = 5 * time.Second
)

// Sender sends states in the background. Its methods may be called at any time.
type Sender struct {
	// Send stores a state, or says why it could not.
	Send func(context.Context, contracts.DeploymentState) error
	// Gone is called when the server knows that a deployment was removed.
	Gone   func(contracts.DeploymentName)
	Logger *slog.Logger

	mu      sync.Mutex
	last    map[contracts.DeploymentName]contracts.DeploymentState
	pending map[contracts.DeploymentName]bool
	wake    chan struct{}
}

// New makes a Sender.
func New(send func(context.Context, contracts.DeploymentState) error, gone func(contracts.DeploymentName), log *slog.Logger) *Sender {
	return &Sender{
		Send: send, Gone: gone, Logger: log, wake: make(chan struct{}, 1),
		last: map[contracts.DeploymentName]contracts.DeploymentState{}, pending: map[contracts.DeploymentName]bool{},
	}
}

// Report has a state sent. It does not block.
func (s *Sender) Report(state contracts.DeploymentState) {
	s.mu.Lock()
	s.last[state.Deployment], s.pending[state.Deployment] = state, true
	s.mu.Unlock()
	s.poke()
}

// All has everything sent again: the server may have lost it, or never got it.
func (s *Sender) All() {
	s.mu.Lock()
	for name := range s.last {
		s.pending[name] = true
	}
	s.mu.Unlock()
	s.poke()
}

func (s *Sender) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run sends until the context ends.
func (s *Sender) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		if s.sendAll(ctx) {
			failures = 0
			continue
		}
		timer.Reset(bus.Backoff(failures, firstPause, longPause))
		failures++
	}
}

// sendAll reports whether everything was sent.
func (s *Sender) sendAll(ctx context.Context) bool {
	s.mu.Lock()
	var states []contracts.DeploymentState
	for name := range s.pending {
		states = append(states, s.last[name])
	}
	s.mu.Unlock()
	for _, state := range states {
		// Of sending, so that whoever reads it knows how long the phase has lasted,
		// however late it is sent and whatever the device's clock says.
		if state.Time = time.Now().UTC(); !state.Since.IsZero() {
			// By the clock that is never set, as long as this agent runs.
			state.Time = state.Since.Add(time.Since(state.Since))
		}
		if err := s.Send(ctx, state); err != nil {
			s.Logger.Debug("report not sent, will be again", "deployment", state.Deployment, "error", err)
			return false
		}
		s.sent(state)
	}
	return true
}

func (s *Sender) sent(state contracts.DeploymentState) {
	s.mu.Lock()
	current := s.last[state.Deployment].Seq == state.Seq
	if current {
		delete(s.pending, state.Deployment)
		if state.Phase == contracts.PhaseRemoved {
			delete(s.last, state.Deployment)
		}
	}
	s.mu.Unlock()
	if current && state.Phase == contracts.PhaseRemoved {
		s.Gone(state.Deployment)
	}
}
