package machines

import (
	"strings"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
)

// Kind of a step.
type Kind string

// Kinds of steps. A step that finds its work done already succeeds.
const (
	// MakeNetwork makes Network and brings it up.
	MakeNetwork Kind = "make network"
	// MakeVolume makes Volume, which outlives the machines.
	MakeVolume Kind = "make volume"
	// MakeDisk makes Volume, a disk of Machine, of its image.
	MakeDisk Kind = "make disk"
	// WriteSeed makes Volume, what cloud-init reads in Machine.
	WriteSeed Kind = "write seed"
	// Grow makes Volume as large as it is wanted.
	Grow Kind = "grow"
	// Stop shuts Machine down, in its grace period.
	Stop Kind = "stop"
	// Define tells libvirt what Machine is.
	Define Kind = "define"
	// Start starts Machine, a first time or again.
	Start Kind = "start"
	// Resume lets Machine run on.
	Resume Kind = "resume"
	// SetMemory and SetCPUs change Machine while it runs.
	SetMemory Kind = "set memory"
	SetCPUs   Kind = "set cpus"
	// Remove shuts Domain down, in its grace period, and has libvirt forget it.
	Remove Kind = "remove"
	// RemoveVolume and RemoveNetwork remove what no machine needs any longer.
	RemoveVolume  Kind = "remove volume"
	RemoveNetwork Kind = "remove network"
)

// Step is one thing to do.
type Step struct {
	Kind Kind
	// Machine is its name in the score, Domain in libvirt.
	Machine string
	Domain  string
	// Network and Volume are their names in libvirt.
	Network string
	Volume  string
	// Grace is the time that Remove gives the guest.
	Grace time.Duration
	// Why is what a Stop is for, in words for people; empty when what follows says so.
	Why string
	// Again marks a Start of a machine that has ended and of which nobody says that it
	// was by hand; Crashed that it has crashed.
	Again, Crashed bool
	// Sure marks a MakeNetwork of one that is there, and perhaps as it shall be.
	Sure bool
}

// Key is what the step has in common with another try of it.
func (s Step) Key() string {
	return strings.Join([]string{string(s.Kind), s.Machine, s.Domain, s.Network, s.Volume}, " ")
}

func (s Step) String() string {
	for _, what := range []string{s.Volume, s.Network, s.Machine, s.Domain} {
		if what != "" {
			return string(s.Kind) + " " + what
		}
	}
	return string(s.Kind)
}

// Size is what a machine was given last.
type Size struct {
	CPUs   int
	Memory int64
}

// Memory is what the agent remembers between looks, and libvirt does not.
type Memory struct {
	Now time.Time
	// Failed are steps that failed for what is desired now, by Key, and until when they
	// are not to be tried again.
	Failed map[string]time.Time
	// Refused are those of them to which libvirt has said no, as opposed to nothing.
	Refused map[string]bool
	// Healthy tells that what is desired runs as it should, so that what it replaces
	// will not be needed again.
	Healthy bool
	// Backoff, Started and Ended are by the machine's UUID: Started is since when it has
	// been seen running, Ended since when it has been seen ended.
	Backoff        map[string]reconcile.Backoff
	Started, Ended map[string]time.Time
	// Ensured are the networks that this agent has made or found right, and the hash of
	// what they were made from.
	Ensured map[string]string
	// Sized is what each machine of the score was given last. A guest takes its time to
	// give memory back, or does not: it is asked once.
	Sized map[string]Size
}

// Plan is what to do next.
type Plan struct {
	Steps []Step
	// Failure is what stands in the way and needs a change from outside.
	Failure *reconcile.Failure
	// Held is the key of a step that has failed and whose next try is awaited.
	Held string
	// Wake is when to look again; zero when only an event changes anything.
	Wake time.Time
}

// Drift reports whether the plan puts right what somebody did to machines that ran as
// they should.
func (p Plan) Drift() bool {
	for _, s := range p.Steps {
		switch s.Kind {
		case RemoveVolume, RemoveNetwork, SetMemory, SetCPUs:
		case MakeNetwork:
			if !s.Sure {
				return true
			}
		case Start:
			if !s.Crashed {
				return true
			}
		default:
			return true
		}
	}
	return false
}

// Withdraw is the steps that remove the machines that were made from a score which the
// device refuses now, where refused says so of their name in it. What was made from
// another is left alone.
func Withdraw(d *Desired, o Observed, refused func(machine string) bool) []Step {
	var steps []Step
	for i := range d.Machines {
		m := &d.Machines[i]
		dom := o.Find(m.Domain)
		if dom != nil && dom.Ours && refused(m.Spec.Name) && len(m.differs(dom.made())) == 0 {
			steps = append(steps, Step{Kind: Remove, Domain: m.Domain, Grace: m.Stop})
		}
	}
	return steps
}
