package pace

import (
	"testing"
	"time"

	testclock "k8s.io/utils/clock/testing"
)

func TestWritesOfOneObjectAreKeptApart(t *testing.T) {
	clock := testclock.NewFakeClock(time.Unix(1000, 0))
	p := New[string](clock)
	if got := p.Wait("a", false, 0); got != 0 {
		t.Errorf("a first change waits %s", got)
	}
	if got := p.Wait("a", false, 0); got != Interval {
		t.Errorf("a second one waits %s, want %s", got, Interval)
	}
	if got := p.Wait("b", false, 0); got != 0 {
		t.Errorf("another object waits %s", got)
	}
	clock.Step(Interval)
	if got := p.Wait("a", false, 0); got != 0 {
		t.Errorf("after the interval it waits %s", got)
	}
}

func TestUrgentWritesFollowAtOnceButNotForEver(t *testing.T) {
	clock := testclock.NewFakeClock(time.Unix(1000, 0))
	p := New[string](clock)
	for i := range Burst {
		if got := p.Wait("a", true, 0); got != 0 {
			t.Fatalf("write %d waits %s", i+1, got)
		}
	}
	if got := p.Wait("a", true, 0); got <= 0 || got > Interval {
		t.Errorf("after a burst it waits %s", got)
	}
	writes := 0
	for range 100 {
		clock.Step(100 * time.Millisecond)
		if p.Wait("a", true, 0) == 0 {
			writes++
		}
	}
	if writes != 10 {
		t.Errorf("%d writes in 10 s", writes)
	}
	p.Forget("a")
	if got := p.Wait("a", true, 0); got != 0 {
		t.Errorf("a new object of the name waits %s", got)
	}
}

func TestWhatIsNotUrgentSettlesFirst(t *testing.T) {
	clock := testclock.NewFakeClock(time.Unix(1000, 0))
	p := New[string](clock)
	const settle = 20 * time.Second
	p.Wait("a", true, settle)
	clock.Step(time.Minute)
	wait := p.Wait("a", false, settle)
	if wait < settle/2 || wait > settle*3/2 {
		t.Errorf("it waits %s, want about %s", wait, settle)
	}
	clock.Step(wait / 2)
	if got := p.Wait("a", false, settle); got != wait-wait/2 {
		t.Errorf("the next change waits %s, want what is left: %s", got, wait-wait/2)
	}
	p.Settled("a")
	clock.Step(time.Minute)
	if got := p.Wait("a", false, settle); got < settle/2 {
		t.Errorf("after it was as written again, it waits %s", got)
	}
	if got := p.Wait("a", true, settle); got != 0 {
		t.Errorf("what is urgent waits %s", got)
	}
}
