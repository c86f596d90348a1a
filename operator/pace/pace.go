// Package pace keeps the writes of one object's status apart, so that a fleet
// that reports a thousand times a second costs etcd one write a second.
package pace

import (
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// What is urgent, because a person or Flux waits for it, may follow the write
// before it sooner. Neither ever delays a first change.
const (
	Interval       = time.Second
	UrgentInterval = 100 * time.Millisecond
)

// Pacer remembers when objects were written.
type Pacer[K comparable] struct {
	clock clock.PassiveClock
	mu    sync.Mutex
	last  map[K]time.Time
}

// New makes a Pacer.
func New[K comparable](c clock.PassiveClock) *Pacer[K] {
	return &Pacer[K]{clock: c, last: map[K]time.Time{}}
}

// Wait returns how long a write of the object has to wait; 0 lets it go ahead and
// counts as that write.
func (p *Pacer[K]) Wait(key K, urgent bool) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	interval := Interval
	if urgent {
		interval = UrgentInterval
	}
	now := p.clock.Now()
	if last, ok := p.last[key]; ok {
		if wait := last.Add(interval).Sub(now); wait > 0 {
			return wait
		}
	}
	p.last[key] = now
	return 0
}

// Forget drops an object that is gone.
func (p *Pacer[K]) Forget(key K) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.last, key)
}
