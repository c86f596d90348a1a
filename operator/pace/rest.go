package pace

import (
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// share is which part of a core looking at one object may take at most: one in share.
// What takes less than short is not worth the delay.
const (
	share = 5
	short = 2 * time.Millisecond
)

// Rests keep what is looked at with every change from being all that is done: the longer
// a look takes, because the object has many devices, the longer it is until the next.
type Rests[K comparable] struct {
	clock clock.PassiveClock
	mu    sync.Mutex
	until map[K]time.Time
}

// NewRests makes Rests.
func NewRests[K comparable](c clock.PassiveClock) *Rests[K] {
	return &Rests[K]{clock: c, until: map[K]time.Time{}}
}

// Looked tells how long a look at the object took that is over now.
func (r *Rests[K]) Looked(key K, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if took < short {
		delete(r.until, key)
		return
	}
	r.until[key] = r.clock.Now().Add((share - 1) * took)
}

// Left is how long the object's rest still is.
func (r *Rests[K]) Left(key K) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.until[key].Sub(r.clock.Now())
}

// Forget drops an object that is gone.
func (r *Rests[K]) Forget(key K) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.until, key)
}
