package agent

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleet/agent/config"
	"github.com/nationtech/fleet/agent/join"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
)

// refusal finds out why the server does not let the device in, and has it try again when
// that may have changed.
type refusal struct {
	config   config.Config
	log      *slog.Logger
	happened chan struct{}

	mu      sync.Mutex
	message string
}

// tell notes that the server has refused the device.
func (r *refusal) tell() {
	select {
	case r.happened <- struct{}{}:
	default:
	}
}

// why is the reason, in words; empty if there is none.
func (r *refusal) why() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.message
}

func (r *refusal) note(s contracts.JoinStatement) {
	message := s.Message
	if s.Standing == contracts.StandingApproved {
		message = ""
	}
	r.mu.Lock()
	said := r.message == message
	r.message = message
	r.mu.Unlock()
	if !said && message != "" {
		r.log.Warn("the fleet does not let this device in", "standing", s.Standing, "message", message)
	}
}

const (
	// firstQuestion and lastQuestion bound how long to wait before asking about a refusal.
	firstQuestion = 2 * time.Second
	lastQuestion  = 5 * time.Minute
)

// resolve waits for refusals until the context ends. Many devices may be refused at once,
// when an operator is not up to date, and most of them are let in a moment later.
func (r *refusal) resolve(ctx context.Context, nc *nats.Conn) {
	options := join.Options{Server: r.config.NATS.URL, Device: r.config.Device, SeedFile: r.config.NATS.SeedFile, Log: slog.New(slog.DiscardHandler)}
	for attempt := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-r.happened:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(bus.Backoff(attempt, firstQuestion, lastQuestion)):
		}
		attempt++
		if nc.IsConnected() {
			attempt = 0
			continue
		}
		s, err := join.Decided(ctx, options, r.config.Trust, r.note)
		if err != nil {
			return // the context has ended
		}
		r.note(s)
		if s.Standing == contracts.StandingApproved {
			if err := nc.ForceReconnect(); err != nil {
				r.log.Debug("connect again", "error", err)
			}
		}
	}
}
