package reconcile

import (
	"fmt"
	"time"

	"github.com/nationtech/fleet/contracts"
)

// Health is what the probes say of one run of a container.
type Health struct {
	// Ready as Kubernetes means it; a container without a readiness probe is ready
	// once it has stayed up for a moment.
	Ready bool
	// Dead is set when the startup or the liveness probe failed for good.
	Dead bool
	// Message says why it is not ready or dead.
	Message string
}

// Past is what was so before this look.
type Past struct {
	// Since the desired state is being carried out, or the agent has run: what a
	// device was off for does not count.
	Since time.Time
	// WasRunning tells that this desired state has run before.
	WasRunning bool
	// Restarts by the runtime's container ID.
	Restarts map[string]int64
}

// Assessment is how the deployment stands, in the words of a report.
type Assessment struct {
	Phase      contracts.Phase
	Reason     string
	Message    string
	Containers []contracts.ContainerState
	// Wake is when the assessment changes by itself: at the deadline.
	Wake time.Time
}

// Assess says how the deployment stands when there is nothing to do but to wait.
func Assess(d *Desired, o Observed, p Plan, health map[string]Health, past Past, now time.Time) Assessment {
	a := Rate(trouble(d, o.Current(d), p, health), p.Failure != nil, d.Deadline, past, now)
	a.Containers = States(d, o, health, past.Restarts)
	return a
}

// Rate puts the worst that a look found, nil for nothing, into the words of a report.
// hopeless tells that only a change from outside helps; deadline 0 is none.
func Rate(worst *Issue, hopeless bool, deadline time.Duration, past Past, now time.Time) Assessment {
	if worst == nil {
		return Assessment{Phase: contracts.PhaseRunning}
	}
	a := Assessment{Phase: worst.Phase, Reason: worst.Reason, Message: worst.Message}
	if a.Phase == contracts.PhaseFailed && !hopeless && past.WasRunning {
		a.Phase = contracts.PhaseDegraded
	}
	if a.Phase != contracts.PhaseApplying {
		return a
	}
	if past.WasRunning {
		a.Phase = contracts.PhaseDegraded
		return a
	}
	if deadline == 0 {
		return a
	}
	if end := past.Since.Add(deadline); end.After(now) {
		a.Wake = end
		return a
	}
	a.Phase = contracts.PhaseFailed
	a.Message = fmt.Sprintf("not healthy within %s: %s", deadline, a.Message)
	return a
}

// Issue is the worst that a look found.
type Issue struct {
	Phase   contracts.Phase
	Reason  string
	Message string
}

// trouble is nil when every container does what it shall.
func trouble(d *Desired, pod *Pod, p Plan, health map[string]Health) *Issue {
	if p.Failure != nil {
		return &Issue{contracts.PhaseFailed, p.Failure.Reason, p.Failure.Message}
	}
	var waiting *Issue
	for _, u := range d.Units {
		if u.Init && p.Waiting != u.Name {
			continue
		}
		if pod == nil {
			return &Issue{contracts.PhaseApplying, ReasonDeadline, "the pod does not exist yet"}
		}
		c := pod.Find(u)
		switch {
		case c == nil || c.State == StateCreated:
			waiting = first(waiting, &Issue{contracts.PhaseApplying, ReasonDeadline, fmt.Sprintf("container %s has not started yet", u.Name)})
		case c.State == StateExited && (c.ExitCode != 0 || d.RestartPolicy == "Always" && !u.Init):
			return &Issue{contracts.PhaseFailed, ReasonCrashLoop, fmt.Sprintf("container %s keeps ending, last with exit code %d; it is started again with growing pauses", u.Name, c.ExitCode)}
		case u.Init:
			waiting = first(waiting, &Issue{contracts.PhaseApplying, "Initializing", fmt.Sprintf("init container %s has not ended yet", u.Name)})
		case c.State == StateRunning && !health[c.ID].Ready:
			message := health[c.ID].Message
			if message == "" {
				message = "no probe has succeeded yet"
			}
			waiting = first(waiting, &Issue{contracts.PhaseApplying, ReasonProbe, fmt.Sprintf("container %s is not ready: %s", u.Name, message)})
		}
	}
	return waiting
}

func first(a, b *Issue) *Issue {
	if a != nil {
		return a
	}
	return b
}

// States are how the wanted containers stand; restarts are by the runtime's
// container ID.
func States(d *Desired, o Observed, health map[string]Health, restarts map[string]int64) []contracts.ContainerState {
	pod := o.Current(d)
	if pod == nil {
		return nil
	}
	var out []contracts.ContainerState
	for _, u := range d.Units {
		c := pod.Find(u)
		if c == nil {
			continue
		}
		s := contracts.ContainerState{Name: u.Name, ID: c.ID, Image: u.Spec.Image, State: string(c.State), ExitCode: c.ExitCode, Restarts: restarts[c.ID]}
		switch {
		case c.State == StateRunning && !u.Init:
			s.Ready = health[c.ID].Ready
			if !s.Ready {
				s.Message = health[c.ID].Message
			}
		case c.State == StateExited:
			s.Ready = c.ExitCode == 0 && (u.Init || d.RestartPolicy != "Always")
		}
		out = append(out, s)
	}
	return out
}
