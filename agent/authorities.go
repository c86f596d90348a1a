package agent

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/nationtech/fleet/agent/config"
	"github.com/nationtech/fleet/agent/join"
	"github.com/nationtech/fleet/agent/trust"
)

// authorities are those that the server is checked against. They follow what the operator
// says, so that a device knows the next one long before it signs.
type authorities struct {
	config config.Config
	log    *slog.Logger
}

// now are those on disk.
func (a *authorities) now() ([]byte, error) {
	t, err := trust.Load(a.config.StateDir)
	return []byte(t.CA), err
}

const (
	// firstLook bounds how long after the start the operator is asked: who is started once
	// a day asks too.
	firstLook = time.Hour
	// nextLook is how often after that. A new authority does not sign for weeks.
	nextLook = 24 * time.Hour
)

// follow asks the operator until the context ends. No more than a part of the fleet asks
// at the same time.
func (a *authorities) follow(ctx context.Context) {
	options := join.Options{
		Server: a.config.NATS.URL, Device: a.config.Device, SeedFile: a.config.NATS.SeedFile, StateDir: a.config.StateDir, Log: slog.New(slog.DiscardHandler),
	}
	for wait := rand.N(firstLook); ; wait = nextLook/2 + rand.N(nextLook/2) {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		changed, err := join.Authorities(ctx, options)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			a.log.Warn("the operator was not asked which authorities to trust, trying again", "error", err)
		case changed:
			a.log.Info("the authorities that the server is checked against have changed")
		}
	}
}
