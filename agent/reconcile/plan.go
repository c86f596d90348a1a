package reconcile

import (
	"fmt"
	"strings"
	"time"
)

// Kind of a step.
type Kind string

// Kinds of steps. A step that finds its work done already succeeds.
const (
	// Pull brings Image to the device.
	Pull Kind = "pull"
	// CreatePod makes the wanted pod with its volumes; nothing runs yet.
	CreatePod Kind = "create pod"
	// StartInfra brings up the pod's network.
	StartInfra Kind = "start network"
	// Create makes the container of Unit in the wanted pod.
	Create Kind = "create"
	// Start starts the container of Unit, a first time or again.
	Start Kind = "start"
	// Stop ends Container, in its grace period; its restart policy says what then.
	Stop Kind = "stop"
	// Unpause lets Container run on.
	Unpause Kind = "unpause"
	// Remove ends Container, in its grace period, and removes it.
	Remove Kind = "remove"
	// RemovePod ends and removes Pod with all that is in it.
	RemovePod Kind = "remove pod"
)

// Step is one thing to do.
type Step struct {
	Kind Kind
	// Image of Pull.
	Image string
	// Unit is the score's name of the container of Create and Start.
	Unit string
	// Container is the runtime's ID for Unpause, Remove and a Start of one that
	// exists.
	Container string
	// Pod is the runtime's name for RemovePod, and for a StartInfra of a pod that is
	// not the wanted one.
	Pod string
	// Again marks a Start of a container that has run before.
	Again bool
	// Local marks a Pull of an image that is on the device and will do if the pull
	// fails, so that it must not take long.
	Local bool
}

// Key is what the step has in common with another try of it.
func (s Step) Key() string {
	return strings.Join([]string{string(s.Kind), s.Image, s.Unit, s.Container, s.Pod}, " ")
}

func (s Step) String() string {
	for _, what := range []string{s.Image, s.Unit, s.Pod, s.Container} {
		if what != "" {
			return string(s.Kind) + " " + what
		}
	}
	return string(s.Kind)
}

// Memory is what the agent remembers between looks, and the runtime does not.
type Memory struct {
	Now time.Time
	// Pulled are images that were pulled for the wanted containers already; a pull
	// policy of Always asks for one pull per container, not for one per look.
	Pulled map[string]bool
	// Failed are steps that failed for what is desired now, by Key, and until when
	// they are not to be tried again.
	Failed map[string]time.Time
	// Proven tells that what is desired has run on this device as it should.
	Proven bool
	// Backoff by the runtime's container ID.
	Backoff map[string]Backoff
	// ByHand are the IDs of containers that someone stopped.
	ByHand map[string]bool
	// Ended is when it was first seen, by the runtime's container ID, that a
	// container had ended.
	Ended map[string]time.Time
	// Dead are the IDs of running containers whose liveness or startup probe failed.
	Dead map[string]bool
}

// Plan is what to do next.
type Plan struct {
	Steps []Step
	// Failure is what stands in the way and needs a change from outside.
	Failure *Failure
	// Waiting is the init container whose end is awaited.
	Waiting string
	// Held is the key of a step that has failed and whose next try is awaited.
	Held string
	// Wake is when to look again; zero when only an event changes anything.
	Wake time.Time
}

// Drift reports whether the plan puts right what somebody did to a pod that ran as
// it should. A container that has ended by itself is started again all the time,
// and one that its probes gave up is stopped by the agent.
func (p Plan) Drift(byHand map[string]bool) bool {
	for _, s := range p.Steps {
		switch s.Kind {
		case Stop:
		case Start:
			if !s.Again || byHand[s.Container] {
				return true
			}
		default:
			return true
		}
	}
	return false
}

// Decide says which steps lead from what the runtime has to what is desired; nil
// desires nothing. It returns those that need no waiting in between: after they
// are done it is asked again, until there are none. While a pull takes its time, or
// a step is held back because it failed, it returns what keeps the rest running.
func Decide(d *Desired, o Observed, m Memory) Plan {
	if d == nil {
		return Plan{Steps: removeAll(o, "", "")}.withhold(m)
	}
	pod := o.Current(d)
	missing := missingUnits(d, pod)
	if pulls, failure := pulls(missing, o, m); failure != nil || len(pulls) > 0 {
		p := Plan{}
		if pod != nil || !soon(pulls) {
			p = keep(d, o, m)
		}
		p.Steps, p.Failure = append(p.Steps, pulls...), failure
		return p.withhold(m)
	}
	p := replace(d, o, m, pod, missing)
	held := p.withhold(m)
	if held.Held == "" {
		return p
	}
	// The steps build on each other, so all of them wait for the one.
	p = keep(d, o, m).withhold(m)
	p.Held = held.Held
	p.wakeAt(held.Wake)
	return p
}

// soon reports whether the pulls end soon, one way or the other, and what is wanted
// can be made then: what a reboot ended is not started just to be replaced.
func soon(pulls []Step) bool {
	for _, s := range pulls {
		if !s.Local {
			return false
		}
	}
	return len(pulls) > 0
}

// replace makes what is missing, removes what is not wanted, and starts.
func replace(d *Desired, o Observed, m Memory, pod *Pod, missing []Unit) Plan {
	var p Plan
	keep := ""
	if pod != nil {
		keep = pod.ID
		p.Steps = append(p.Steps, broken(d, pod)...)
	} else {
		for _, old := range o.Pods {
			// One of the same name is not whole, and in the way.
			if old.Name == d.PodName {
				keep = old.ID
				p.Steps = append(p.Steps, Step{Kind: RemovePod, Pod: old.Name})
			}
		}
		p.Steps = append(p.Steps, Step{Kind: CreatePod})
	}
	for _, u := range missing {
		p.Steps = append(p.Steps, Step{Kind: Create, Unit: u.Name})
	}
	// What is old ends only when what is new exists: an error in making it leaves
	// the old running.
	if pod != nil {
		p.Steps = append(p.Steps, superfluous(d, pod)...)
	}
	p.Steps = append(p.Steps, removeAll(o, keep, d.PodName)...)
	if !d.HostNetwork && (pod == nil || pod.Infra.State == StateCreated) {
		p.Steps = append(p.Steps, Step{Kind: StartInfra})
	}
	return start(d, pod, m, p, nil)
}

// missingUnits have no container. An init container that has done its work and
// was removed since is not missed.
func missingUnits(d *Desired, pod *Pod) []Unit {
	begun := pod != nil && pod.begun(d)
	var missing []Unit
	for _, u := range d.Units {
		if pod != nil && pod.Find(u) != nil || u.Init && begun {
			continue
		}
		missing = append(missing, u)
	}
	return missing
}

func pulls(missing []Unit, o Observed, m Memory) ([]Step, *Failure) {
	var steps []Step
	planned := map[string]bool{}
	for _, u := range missing {
		image, policy := u.Spec.Image, u.Spec.PullPolicy
		switch {
		case m.Pulled[image] && o.Images[image], planned[image]:
		case policy == "Always", policy != "Never" && !o.Images[image]:
			pull := Step{Kind: Pull, Image: image, Local: m.Proven && o.Images[image]}
			if _, failed := m.Failed[pull.Key()]; failed && pull.Local {
				// Without the network a device goes on with what it has run before.
				continue
			}
			planned[image] = true
			steps = append(steps, pull)
		case !o.Images[image]:
			return nil, &Failure{Reason: ReasonImagePull, Message: fmt.Sprintf("container %s: image %s is not on the device and its imagePullPolicy is Never", u.Name, image)}
		}
	}
	return steps, nil
}

// broken containers block the names of what is to be made.
func broken(d *Desired, pod *Pod) []Step {
	var steps []Step
	for _, c := range pod.Containers {
		if c.State == StateBroken && wanted(d, c) {
			steps = append(steps, Step{Kind: Remove, Container: c.ID})
		}
	}
	return steps
}

func superfluous(d *Desired, pod *Pod) []Step {
	var steps []Step
	for _, c := range pod.Containers {
		if !wanted(d, c) {
			steps = append(steps, Step{Kind: Remove, Container: c.ID})
		}
	}
	return steps
}

func wanted(d *Desired, c Container) bool {
	u := d.Find(c.Unit)
	return u != nil && u.ContainerName == c.Name && u.Hash == c.Hash
}

// removeAll removes the pods but the one to keep, and what is in no pod.
func removeAll(o Observed, keepID, keepName string) []Step {
	var steps []Step
	for _, p := range o.Pods {
		if p.ID != keepID && (keepName == "" || p.Name != keepName) {
			steps = append(steps, Step{Kind: RemovePod, Pod: p.Name})
		}
	}
	for _, c := range o.Strays {
		steps = append(steps, Step{Kind: Remove, Container: c.ID})
	}
	return steps
}

// start adds what has to be started: the init containers one after the other,
// then the containers together. Those to skip are not to be had.
func start(d *Desired, pod *Pod, m Memory, p Plan, skip func(Unit) bool) Plan {
	begun := pod != nil && pod.begun(d)
	for _, u := range d.Units {
		if u.Init && begun {
			continue
		}
		if skip != nil && skip(u) {
			if u.Init {
				p.Waiting = u.Name
				return p
			}
			continue
		}
		c := (*Container)(nil)
		if pod != nil {
			c = pod.Find(u)
		}
		done := p.startUnit(d, u, c, m)
		if u.Init && !done {
			p.Waiting = u.Name
			return p
		}
	}
	return p
}

// startUnit adds the start of one container and reports whether it has ended for
// good and well.
func (p *Plan) startUnit(d *Desired, u Unit, c *Container, m Memory) bool {
	switch {
	case c == nil:
		p.Steps = append(p.Steps, Step{Kind: Start, Unit: u.Name})
	case c.State == StateCreated:
		p.Steps = append(p.Steps, Step{Kind: Start, Unit: u.Name, Container: c.ID})
	case c.State == StateRunning && m.Dead[c.ID]:
		p.Steps = append(p.Steps, Step{Kind: Stop, Unit: u.Name, Container: c.ID})
	case c.State == StatePaused:
		p.Steps = append(p.Steps, Step{Kind: Unpause, Container: c.ID})
	case c.State == StateExited:
		return p.restart(d, u, *c, m)
	}
	return false
}

// settle is how long an ended container is left alone. Somebody may be stopping
// it: podman tells that only when it is done with it, and fails when the container
// runs again before.
const settle = 300 * time.Millisecond

func (p *Plan) restart(d *Desired, u Unit, c Container, m Memory) bool {
	if m.ByHand[c.ID] {
		p.Steps = append(p.Steps, Step{Kind: Start, Unit: u.Name, Container: c.ID, Again: true})
		return false
	}
	if c.ExitCode == 0 && (u.Init || d.RestartPolicy != "Always") {
		return true
	}
	if d.RestartPolicy == "Never" {
		p.Failure = &Failure{Reason: ReasonExited, Message: fmt.Sprintf("container %s ended with exit code %d and its restartPolicy is Never", u.Name, c.ExitCode)}
		return false
	}
	at := m.Backoff[c.ID].NotBefore(c)
	if seen, ok := m.Ended[c.ID]; ok && at.Before(seen.Add(settle)) {
		at = seen.Add(settle)
	}
	if !at.After(m.Now) {
		p.Steps = append(p.Steps, Step{Kind: Start, Unit: u.Name, Container: c.ID, Again: true})
		return false
	}
	p.wakeAt(at)
	return false
}
