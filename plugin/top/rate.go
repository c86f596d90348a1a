package top

import "time"

// window is how far back a rate looks.
const window = 10 * time.Second

// rate of changes.
type rate struct {
	begin   time.Time
	samples []sample
}

type sample struct {
	at    time.Time
	count int
}

// add counts changes that have happened since the last time.
func (r *rate) add(now time.Time, count int) {
	old := 0
	for old < len(r.samples) && now.Sub(r.samples[old].at) > window {
		old++
	}
	r.samples = r.samples[old:]
	if count > 0 {
		r.samples = append(r.samples, sample{now, count})
	}
}

// perSecond is the rate over the last seconds.
func (r *rate) perSecond(now time.Time) float64 {
	sum := 0
	for _, s := range r.samples {
		sum += s.count
	}
	// In its first second it would be anything.
	over := max(time.Second, min(window, now.Sub(r.begin)))
	return float64(sum) / over.Seconds()
}
