// Package gate holds the reconcilers back until the operator has seen all that
// there is: deciding on half of it would take the other half for gone.
package gate

import (
	"context"
	"sync"
)

// Gate is closed until Open is called, then open for good.
type Gate struct {
	once sync.Once
	open chan struct{}
}

// New makes a closed gate.
func New() *Gate { return &Gate{open: make(chan struct{})} }

// Open lets everybody through.
func (g *Gate) Open() { g.once.Do(func() { close(g.open) }) }

// IsOpen reports whether the gate is open.
func (g *Gate) IsOpen() bool {
	select {
	case <-g.open:
		return true
	default:
		return false
	}
}

// Wait returns when the gate is open, or with the context's error.
func (g *Gate) Wait(ctx context.Context) error {
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
