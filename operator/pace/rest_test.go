package pace

import (
	"testing"
	"time"

	testclock "k8s.io/utils/clock/testing"
)

func TestALookThatTakesLongIsFollowedByARest(t *testing.T) {
	clock := testclock.NewFakeClock(time.Unix(1000, 0))
	r := NewRests[string](clock)
	if left := r.Left("a"); left > 0 {
		t.Errorf("before the first look there is a rest of %s", left)
	}
	r.Looked("a", 100*time.Millisecond)
	if left := r.Left("a"); left != 400*time.Millisecond {
		t.Errorf("after 100 ms of work there is a rest of %s, want 400 ms", left)
	}
	if left := r.Left("b"); left > 0 {
		t.Errorf("another object rests %s", left)
	}
	clock.Step(400 * time.Millisecond)
	if left := r.Left("a"); left > 0 {
		t.Errorf("after the rest there is one of %s", left)
	}
	r.Looked("a", 100*time.Millisecond)
	r.Looked("a", time.Millisecond)
	if left := r.Left("a"); left > 0 {
		t.Errorf("after a short look there is a rest of %s", left)
	}
}
