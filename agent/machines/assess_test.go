package machines

import (
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

func TestAssess(t *testing.T) {
	ready := map[string]reconcile.Health{"uuid-till": {Ready: true}}
	slow := map[string]reconcile.Health{"uuid-till": {Message: "connection refused"}}
	for name, tt := range map[string]struct {
		change func(Observed) Observed
		health map[string]reconcile.Health
		plan   Plan
		past   reconcile.Past
		after  time.Duration
		phase  contracts.Phase
		reason string
		says   string
		wake   time.Duration
	}{
		"all ready is Running":                         {health: ready, phase: contracts.PhaseRunning},
		"not ready yet is Applying until the deadline": {health: slow, phase: contracts.PhaseApplying, reason: reconcile.ReasonProbe, says: "machine till is not ready: connection refused", wake: time.Minute},
		"not ready at the deadline is Failed":          {health: slow, after: time.Minute, phase: contracts.PhaseFailed, reason: reconcile.ReasonProbe, says: "within 1m0s"},
		"no longer ready is Degraded":                  {health: slow, past: reconcile.Past{WasRunning: true}, phase: contracts.PhaseDegraded, reason: reconcile.ReasonProbe},
		"one that crashes again and again is Failed":   {change: off(EndCrashed), phase: contracts.PhaseFailed, reason: reconcile.ReasonCrashLoop, says: "last as crashed"},
		"one that has run and crashes is Degraded":     {change: off(EndCrashed), past: reconcile.Past{WasRunning: true}, phase: contracts.PhaseDegraded, reason: reconcile.ReasonCrashLoop},
		"one that is paused for its disk says so": {change: dom(func(d *Domain) { d.State, d.Ended, d.Detail = StatePaused, EndCrashed, "a disk failed" }),
			phase: contracts.PhaseFailed, reason: ReasonDisk, says: "the pool is full"},
		"one that is not there yet is Applying": {change: func(o Observed) Observed { o.Domains = nil; return o }, phase: contracts.PhaseApplying, reason: reconcile.ReasonDeadline, says: "does not exist yet", wake: time.Minute},
		"what needs a change from outside is Failed though it ran": {plan: Plan{Failure: &reconcile.Failure{Reason: ReasonNameTaken, Message: "taken"}}, health: ready,
			past: reconcile.Past{WasRunning: true}, phase: contracts.PhaseFailed, reason: ReasonNameTaken, says: "taken"},
	} {
		t.Run(name, func(t *testing.T) {
			d := compile(t)
			d.Deadline = time.Minute
			o := running(d)
			if tt.change != nil {
				o = tt.change(o)
			}
			tt.past.Since = now
			a := Assess(d, o, tt.plan, tt.health, tt.past, now.Add(tt.after))
			if a.Phase != tt.phase || a.Reason != tt.reason || !strings.Contains(a.Message, tt.says) {
				t.Errorf("%s %s %q, want %s %s with %q", a.Phase, a.Reason, a.Message, tt.phase, tt.reason, tt.says)
			}
			if tt.wake != 0 && !a.Wake.Equal(now.Add(tt.wake)) || tt.wake == 0 && !a.Wake.IsZero() {
				t.Errorf("wakes at %s, want %s after %s", a.Wake, tt.wake, now)
			}
		})
	}
}

func TestStatesAreInTheWordsOfContainers(t *testing.T) {
	d := compile(t)
	got := States(d, running(d), map[string]reconcile.Health{"uuid-till": {Ready: true}}, map[string]int64{"uuid-till": 3})
	want := contracts.ContainerState{Name: "till", ID: "uuid-till", Image: "debian-12.qcow2", State: "running", Ready: true, Restarts: 3}
	if len(got) != 1 || got[0] != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	foreign := dom(func(d *Domain) { d.Ours = false })(running(d))
	if got := States(d, foreign, nil, nil); len(got) != 0 {
		t.Errorf("a machine of somebody else's is reported: %+v", got)
	}
}
