package reconcile

import (
	"math/rand/v2"
	"time"
)

// Restart back-off of Kubernetes: the first restart is immediate, then 10 s,
// 20 s … 5 min; a container that has run for 10 minutes begins anew.
// https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy
const (
	restartStep  = 10 * time.Second
	restartLimit = 5 * time.Minute
	restartReset = 10 * time.Minute
)

// Backoff counts the restarts of one container that followed each other closely.
type Backoff struct {
	Restarts int
}

// NotBefore is when an ended container may start again.
func (b Backoff) NotBefore(c Container) time.Time {
	if b.Restarts == 0 || ranLong(c) {
		return c.Finished
	}
	return c.Finished.Add(double(restartStep, b.Restarts-1, restartLimit))
}

// Restarted is the back-off after the ended container was started again.
func (b Backoff) Restarted(c Container) Backoff {
	if ranLong(c) {
		return Backoff{Restarts: 1}
	}
	return Backoff{Restarts: b.Restarts + 1}
}

func ranLong(c Container) bool { return c.Finished.Sub(c.Started) >= restartReset }

// Retry of what failed: 1 s, 2 s … 5 min.
const (
	retryStep  = time.Second
	retryLimit = 5 * time.Minute
)

// RetryAfter is how long to wait after that many failures in a row (from 1),
// with up to a fifth of jitter so that a fleet that failed together does not try
// again together.
func RetryAfter(failures int) time.Duration {
	d := double(retryStep, failures-1, retryLimit)
	return d - rand.N(d/5)
}

func double(step time.Duration, times int, limit time.Duration) time.Duration {
	for range times {
		if step *= 2; step >= limit {
			return limit
		}
	}
	return step
}
