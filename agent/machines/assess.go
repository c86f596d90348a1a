package machines

import (
	"fmt"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// Assess says how the deployment stands when there is nothing to do but to wait. Health
// is by the machine's UUID.
func Assess(d *Desired, o Observed, p Plan, health map[string]reconcile.Health, past reconcile.Past, now time.Time) reconcile.Assessment {
	a := reconcile.Rate(trouble(d, o, p, health), p.Failure != nil, d.Deadline, past, now)
	a.Containers = States(d, o, health, past.Restarts)
	return a
}

// trouble is nil when every machine does what it shall.
func trouble(d *Desired, o Observed, p Plan, health map[string]reconcile.Health) *reconcile.Issue {
	if p.Failure != nil {
		return &reconcile.Issue{Phase: contracts.PhaseFailed, Reason: p.Failure.Reason, Message: p.Failure.Message}
	}
	var waiting *reconcile.Issue
	wait := func(reason, format string, args ...any) {
		if waiting == nil {
			waiting = &reconcile.Issue{Phase: contracts.PhaseApplying, Reason: reason, Message: fmt.Sprintf(format, args...)}
		}
	}
	for i := range d.Machines {
		name := d.Machines[i].Spec.Name
		dom := o.Find(d.Machines[i].Domain)
		switch {
		case dom == nil:
			wait(reconcile.ReasonDeadline, "machine %s does not exist yet", name)
		case dom.State == StatePaused && dom.Ended == EndCrashed:
			return &reconcile.Issue{Phase: contracts.PhaseFailed, Reason: ReasonDisk, Message: fmt.Sprintf("machine %s is paused: %s; its disk can't be written, perhaps the pool is full", name, dom.Detail)}
		case !dom.Up() && dom.Ended != EndUnknown:
			return &reconcile.Issue{Phase: contracts.PhaseFailed, Reason: reconcile.ReasonCrashLoop, Message: fmt.Sprintf("machine %s keeps ending, last as %s; it is started again with growing pauses", name, dom.Ended)}
		case dom.State != StateRunning:
			wait(reconcile.ReasonDeadline, "machine %s is %s", name, dom.State)
		case !health[dom.UUID].Ready:
			message := health[dom.UUID].Message
			if message == "" {
				message = "no probe has succeeded yet"
			}
			wait(reconcile.ReasonProbe, "machine %s is not ready: %s", name, message)
		}
	}
	return waiting
}

// States are how the wanted machines stand; restarts are by UUID.
func States(d *Desired, o Observed, health map[string]reconcile.Health, restarts map[string]int64) []contracts.ContainerState {
	var out []contracts.ContainerState
	for i := range d.Machines {
		m := &d.Machines[i]
		dom := o.Find(m.Domain)
		if dom == nil || !dom.Ours {
			continue
		}
		s := contracts.ContainerState{Name: m.Spec.Name, ID: dom.UUID, Image: firstImage(m.Spec), State: string(dom.State), Restarts: restarts[dom.UUID]}
		if dom.State == StateRunning {
			s.Ready = health[dom.UUID].Ready
			if !s.Ready {
				s.Message = health[dom.UUID].Message
			}
		}
		out = append(out, s)
	}
	return out
}
