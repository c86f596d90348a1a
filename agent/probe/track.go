package probe

import (
	"time"

	"github.com/nationtech/fleet/contracts"
)

// track counts the looks of one probe as Kubernetes does: it takes
// successThreshold successes in a row to succeed and failureThreshold failures in
// a row to fail; in between it stays what it was. Looks between two periods only
// count when they succeed.
type track struct {
	spec      contracts.Probe
	succeeded bool
	failed    bool
	inARow    int32
	last      bool
	// counted is when a failure counts again.
	counted time.Time
	// fast is the time to the next look before the first success.
	fast time.Duration
}

// firstFast is the time from the first failed look to the second. Kubernetes
// would wait a whole period; a rollout that waits for this container should not.
const firstFast = 100 * time.Millisecond

// seen takes a look's outcome in and returns the time to the next. Impatient
// looks more often than the period until the first success.
func (t *track) seen(now time.Time, ok, impatient bool) time.Duration {
	period := time.Duration(t.spec.Period) * time.Second
	onTime := !now.Before(t.counted)
	if onTime {
		t.counted = now.Add(period)
	}
	if ok || onTime {
		t.count(ok)
	}
	if !impatient || t.succeeded || t.failed {
		return max(t.counted.Sub(now), 0)
	}
	if t.fast == 0 {
		t.fast = firstFast
	} else {
		t.fast *= 2
	}
	t.fast = min(t.fast, period)
	return min(t.fast, max(t.counted.Sub(now), 0))
}

func (t *track) count(ok bool) {
	if ok != t.last {
		t.inARow = 0
	}
	t.last = ok
	t.inARow++
	switch {
	case ok && t.inARow >= t.spec.SuccessThreshold:
		t.succeeded, t.failed = true, false
	case !ok && t.inARow >= t.spec.FailureThreshold:
		t.succeeded, t.failed = false, true
	}
}
