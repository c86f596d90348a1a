// Package coalesce holds what has changed until somebody looks: any number of
// changes of one thing become one.
package coalesce

import "sync"

// Set collects keys until they are taken. The zero value is not ready; use New.
type Set[K comparable] struct {
	mu     sync.Mutex
	keys   map[K]struct{}
	signal chan struct{}
}

// New makes an empty set.
func New[K comparable]() *Set[K] {
	return &Set[K]{keys: map[K]struct{}{}, signal: make(chan struct{}, 1)}
}

// Add puts keys into the set. It never blocks.
func (s *Set[K]) Add(keys ...K) {
	if len(keys) == 0 {
		return
	}
	s.mu.Lock()
	for _, k := range keys {
		s.keys[k] = struct{}{}
	}
	s.mu.Unlock()
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

// Ready receives when there is something to take. One reader is served.
func (s *Set[K]) Ready() <-chan struct{} { return s.signal }

// Take empties the set and returns what was in it, in no order.
func (s *Set[K]) Take() []K {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.keys) == 0 {
		return nil
	}
	out := make([]K, 0, len(s.keys))
	for k := range s.keys {
		out = append(out, k)
	}
	// A fresh map: one that was large once would stay large.
	s.keys = map[K]struct{}{}
	return out
}
