// Package pace keeps the writes of one object's status apart, so that a fleet
// that reports a thousand times a second costs etcd one write a second.
package pace

import (
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/utils/clock"
)

// Interval is the time between two writes of an object in the long run. What is
// urgent, because a person or Flux waits for it, may follow the write before it at
// once, Burst times in a row. Neither delays an object's first write.
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
	last time.Time
	// due is when a change that is not urgent may be written; zero when there is none.
	due     time.Time
	limiter *rate.Limiter
}

// New makes a Pacer.
func New[K comparable](c clock.PassiveClock) *Pacer[K] {
	return &Pacer[K]{clock: c, paced: map[K]*paced{}}
}

// Wait returns how long a write of the object has to wait; 0 lets it go ahead and
// counts as that write. What is not urgent waits for about settle, when that is more than
// Interval, also for the first time, and with luck need not be written then: see Settled.
func (p *Pacer[K]) Wait(key K, urgent bool, settle time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.Now()
	o := p.paced[key]
	if o == nil {
		o = &paced{limiter: rate.NewLimiter(rate.Every(Interval), Burst)}
		p.paced[key] = o
	}
	if !urgent {
		if o.due.IsZero() && settle > Interval {
			// Not all at the same time: many objects change together.
			o.due = now.Add(settle/2 + rand.N(settle))
		}
		if wait := max(o.last.Add(Interval).Sub(now), o.due.Sub(now)); wait > 0 {
			return wait
		}
	}
	r := o.limiter.ReserveN(now, 1)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return wait
	}
	o.last, o.due = now, time.Time{}
	return 0
}

// Settled tells that the object is again as it was written.
func (p *Pacer[K]) Settled(key K) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o := p.paced[key]; o != nil {
		o.due = time.Time{}
	}
}

// Forget drops an object that is gone.
func (p *Pacer[K]) Forget(key K) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.paced, key)
}
