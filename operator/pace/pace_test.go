package pace

import (
	"testing"
	"time"

	testclock "k8s.io/utils/clock/testing"
)

func TestWritesOfOneObjectAreKeptApart(t *testing.T) {
	clock := testclock.NewFakeClock(time.Unix(1000, 0))
	p := New[string](clock)
	if got := p.Wait("a", false); got != 0 {
		t.Errorf("a first change waits %s", got)
	}
	if got := p.Wait("a", false); got != Interval {
		t.Errorf("a second one waits %s, want %s", got, Interval)
	}
	if got := p.Wait("b", false); got != 0 {
		t.Errorf("another object waits %s", got)
	}
	clock.Step(Interval)
	if got := p.Wait("a", false); got != 0 {
		t.Errorf("after the interval it waits %s", got)
	}
}

func TestUrgentWritesFollowAtOnceButNotForEver(t *testing.T) {
	clock := testclock.NewFakeClock(time.Unix(1000, 0))
	p := New[string](clock)
	for i := range Burst {
		if got := p.Wait("a", true); got != 0 {
			t.Fatalf("write %d waits %s", i+1, got)
		}
	}
	if got := p.Wait("a", true); got <= 0 || got > Interval {
		t.Errorf("after a burst it waits %s", got)
	}
	writes := 0
	for range 100 {
		clock.Step(100 * time.Millisecond)
		if p.Wait("a", true) == 0 {
			writes++
		}
	}
	if writes != 10 {
		t.Errorf("%d writes in 10 s", writes)
	}
	p.Forget("a")
	if got := p.Wait("a", true); got != 0 {
		t.Errorf("a new object of the name waits %s", got)
	}
}
