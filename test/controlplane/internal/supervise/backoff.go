package supervise

import "time"

const (
	firstDelay = 100 * time.Millisecond
	maxDelay   = 5 * time.Second
	// stable is how long an incarnation has to live to count as one that works.
	stable = 500 * time.Millisecond
)

// NextDelay returns how long to wait before the next start, given the last
// delay and how the incarnation fared. One that worked is started again at
// once: tests kill components and measure what follows. One that never got
// ready must not become a busy loop.
func NextDelay(last time.Duration, ready bool, lived time.Duration) time.Duration {
	switch {
	case ready && lived >= stable:
		return 0
	case last == 0:
		return firstDelay
	default:
		return min(2*last, maxDelay)
	}
}
