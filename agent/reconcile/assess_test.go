package reconcile

import (
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleet/contracts"
)

func TestAssess(t *testing.T) {
	ready := map[string]Health{"id-app": {Ready: true}, "id-side": {Ready: true}}
	slow := map[string]Health{"id-app": {Message: "HTTP status 503"}, "id-side": {Ready: true}}
	crash := func(o Observed) Observed { return exited(o, "app", 3) }
	tests := map[string]struct {
		score  []func(*contracts.PodmanScore)
		change func(Observed) Observed
		health map[string]Health
		past   Past
		memory Memory
		after  time.Duration
		limit  int64
		phase  contracts.Phase
		reason string
		says   string
		wake   time.Duration
	}{
		"all ready is Running":                               {health: ready, phase: contracts.PhaseRunning},
		"not ready yet is Applying":                          {health: slow, phase: contracts.PhaseApplying, reason: ReasonProbe, says: "HTTP status 503"},
		"not ready until the deadline wakes there":           {health: slow, limit: 60, after: 10 * time.Second, phase: contracts.PhaseApplying, reason: ReasonProbe, wake: 60 * time.Second},
		"not ready at the deadline is Failed":                {health: slow, limit: 60, after: 60 * time.Second, phase: contracts.PhaseFailed, reason: ReasonProbe, says: "within 1m0s"},
		"no longer ready is Degraded":                        {health: slow, past: Past{WasRunning: true}, phase: contracts.PhaseDegraded, reason: ReasonProbe},
		"ready again is Running":                             {health: ready, past: Past{WasRunning: true}, phase: contracts.PhaseRunning},
		"a crash loop that never ran is Failed":              {change: crash, health: ready, phase: contracts.PhaseFailed, reason: ReasonCrashLoop, says: "exit code 3"},
		"a crash loop of what ran is Degraded":               {change: crash, health: ready, past: Past{WasRunning: true}, phase: contracts.PhaseDegraded, reason: ReasonCrashLoop},
		"Never that failed is Failed even if it ran":         {score: list(policy("Never")), change: crash, health: ready, past: Past{WasRunning: true}, phase: contracts.PhaseFailed, reason: ReasonExited},
		"OnFailure that succeeded is Running":                {score: list(policy("OnFailure")), change: func(o Observed) Observed { return exited(o, "app", 0) }, health: ready, phase: contracts.PhaseRunning},
		"a running init container is Applying":               {score: list(withInit), change: initRunning, health: ready, phase: contracts.PhaseApplying, reason: "Initializing", says: "init"},
		"an init container that fails again and again fails": {score: list(withInit), change: func(o Observed) Observed { return exited(created(o), "init", 1) }, health: ready, phase: contracts.PhaseFailed, reason: ReasonCrashLoop, says: "init"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := compile(t, tt.score...)
			d.Deadline = time.Duration(tt.limit) * time.Second
			o := running(d)
			if tt.change != nil {
				o = tt.change(o)
			}
			tt.past.Since = now
			at := now.Add(tt.after)
			p := Decide(d, o, Memory{Now: at, Backoff: map[string]Backoff{"id-app": {Restarts: 2}, "id-init": {Restarts: 2}}})
			a := Assess(d, o, p, tt.health, tt.past, at)
			if a.Phase != tt.phase || a.Reason != tt.reason || !strings.Contains(a.Message, tt.says) {
				t.Errorf("%s %s %q, want %s %s with %q", a.Phase, a.Reason, a.Message, tt.phase, tt.reason, tt.says)
			}
			if tt.wake != 0 && !a.Wake.Equal(now.Add(tt.wake)) || tt.wake == 0 && !a.Wake.IsZero() {
				t.Errorf("wakes at %s, want %s after %s", a.Wake, tt.wake, now)
			}
		})
	}
}

func TestBackoffBeginsAnewAfterTenMinutes(t *testing.T) {
	long := Container{Started: now.Add(-10 * time.Minute), Finished: now}
	b := Backoff{Restarts: 7}
	if got := b.NotBefore(long); !got.Equal(now) {
		t.Errorf("may start at %s, want at once", got)
	}
	if got := b.Restarted(long); got.Restarts != 1 {
		t.Errorf("restarts %d, want 1", got.Restarts)
	}
}

func TestRetryAfterGrowsToFiveMinutes(t *testing.T) {
	for failures, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 9: 256 * time.Second, 10: 5 * time.Minute, 1000: 5 * time.Minute} {
		if got := RetryAfter(failures); got > want || got < want*4/5 {
			t.Errorf("after %d failures: %s, want %s less up to a fifth", failures, got, want)
		}
	}
}

func TestAnEndedContainerIsLeftAloneForAMoment(t *testing.T) {
	now := time.Unix(1000, 0)
	d := &Desired{RestartPolicy: "Always", HostNetwork: true, PodName: "p", PodHash: "h",
		Units: []Unit{{Name: "app", ContainerName: "app", Hash: "x"}}}
	o := Observed{Pods: []Pod{{ID: "1", Name: "p", Hash: "h", Containers: []Container{
		{ID: "c", Name: "app", Unit: "app", Hash: "x", State: StateExited, Started: now.Add(-time.Hour), Finished: now}}}}}
	seen := map[string]time.Time{"c": now}
	if p := Decide(d, o, Memory{Now: now, Ended: seen}); len(p.Steps) > 0 || !p.Wake.Equal(now.Add(settle)) {
		t.Errorf("just ended: %+v", p)
	}
	if p := Decide(d, o, Memory{Now: now.Add(settle), Ended: seen}); len(p.Steps) != 1 || p.Steps[0].Kind != Start {
		t.Errorf("a moment later: %+v", p)
	}
	// Who stopped it is done with it when podman tells.
	if p := Decide(d, o, Memory{Now: now, Ended: seen, ByHand: map[string]bool{"c": true}}); len(p.Steps) != 1 {
		t.Errorf("stopped by hand: %+v", p)
	}
}
