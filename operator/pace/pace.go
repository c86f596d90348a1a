// Package pace keeps the writes of one object's status apart, so that a fleet
// that reports a thousand times a second costs etcd one write a second.
package pace

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/utils/clock"
)

// Interval is the time between two writes of an object in the long run. What is
// urgent, because a person or Flux waits for it, may follow the write before it at
// once, Burst times in a row. Neither ever delays a first change.
const (
	Interval = time.Second
	Burst    = 10
)

// Pacer remembers when objects were written.
type Pacer[K comparable] struct {
	clock clock.PassiveClock
	mu    sync.Mutex
	paced map[K]*paced
}

type paced struct {
	last    time.Time
	limiter *rate.Limiter
}

// New makes a Pacer.
func New[K comparable](c clock.PassiveClock) *Pacer[K] {
	return &Pacer[K]{clock: c, paced: map[K]*paced{}}
}

// Wait returns how long a write of the object has to wait; 0 lets it go ahead and
// counts as that write.
func (p *Pacer[K]) Wait(key K, urgent bool) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.Now()
	o := p.paced[key]
	if o == nil {
		o = &paced{limiter: rate.NewLimiter(rate.Every(Interval), Burst)}
		p.paced[key] = o
	} else if wait := o.last.Add(Interval).Sub(now); !urgent && wait > 0 {
		return wait
	}
	r := o.limiter.ReserveN(now, 1)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return wait
	}
	o.last = now
	return 0
}

// Forget drops an object that is gone.
func (p *Pacer[K]) Forget(key K) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.paced, key)
}
