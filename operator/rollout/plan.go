// Package rollout decides which devices are told a revision, and what that means
// for the Deployment. It is pure: the same input gives the same output, and all
// that it needs to go on in the middle of a rollout is what the devices were told
// and what they report.
package rollout

import (
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
)

// MaxFailures is how many failing devices an Output names.
const MaxFailures = 10

// Ref identifies what a device was told or what it speaks of. The zero Ref is
// nothing.
type Ref struct {
	Revision string
	Digest   string
}

// Device is one selected device as it was seen.
type Device struct {
	ID contracts.DeviceID
	// Want is the digest of the update revision as it is resolved for this device.
	Want string
	// Told is what the device was told last, at ToldAt.
	Told   Ref
	ToldAt time.Time
	// Reported is what the device's last report speaks of, Phase what it says, at
	// ReportedAt. Phase is empty for a device that has reported nothing.
	Reported   Ref
	Phase      contracts.Phase
	ReportedAt time.Time
	// Online tells that the device's heartbeats arrive.
	Online bool
	// Held keeps everything new from the device: it is cordoned, or its identity
	// is in doubt. It takes no part in the rollout: it neither holds it nor uses
	// its budget.
	Held bool
	// Unreadable tells that the device's last report can't be read.
	Unreadable bool
	// Drifted tells that the device has put right what was changed by hand.
	Drifted bool
}

// Input is a Deployment and its devices as they were seen at one moment.
type Input struct {
	// Update is the name of the revision that every device should run.
	Update string
	// Since is when Update was first wanted.
	Since time.Time
	// Devices that the Deployment selects and that may be told things, in the order
	// in which they are told. See Order.
	Devices []Device
	// MaxUnavailable bounds how many online devices may be between revisions or
	// failing; a percentage is of the online devices that are not held, rounded up.
	MaxUnavailable intstr.IntOrString
	// ProgressDeadline is how long nothing may move before the rollout is stalled.
	ProgressDeadline time.Duration
	// Paused tells nobody anything.
	Paused bool
	// Now is the present.
	Now time.Time
}

// Counts are an Aggregate and what it leaves out.
type Counts struct {
	v1alpha1.Aggregate
	// Held is how many online devices are held and don't run the update revision.
	Held int32
}

// Output is what is to be done, and how the rollout stands before it is done.
type Output struct {
	// Tell has the indices of the devices that are to be told the update revision.
	Tell []int
	// Counts of the devices.
	Counts Counts
	// Budget is how many devices may be unavailable, Unavailable how many are.
	Budget, Unavailable int
	// Phase of the rollout, and the reason when it is Stalled.
	Phase  v1alpha1.WavePhase
	Reason string
	// Failures has the indices of the worst failing devices, worst first.
	Failures []int
	// LastProgress is when the rollout moved last.
	LastProgress time.Time
	// Wake is when the output changes by time alone; zero when it doesn't.
	Wake time.Time
}

// standing is what one device is for the rollout.
type standing uint8

const (
	// offline: not reachable, counted and nothing else.
	offline standing = iota
	// succeeded: runs the update revision and is healthy.
	succeeded
	// steady: healthy at something else, or was never told anything. Telling it
	// makes it unavailable.
	steady
	// moving: told something that it has not answered for yet. It can still get
	// there by itself.
	moving
	// failing: says that what it was told does not work.
	failing
)

// Plan decides.
//
// An online device is unavailable from the moment it is told something until it
// reports it as running, and while it reports it as failed or degraded. Telling a
// device that is unavailable anyway costs nothing, so that a fix gets through to
// the devices that need it even when they are the whole budget; so does telling
// a device what it already runs. Every other device is told only while fewer
// devices than the budget are unavailable.
//
// An offline device is told when it is back, not before: what it was told while
// away it would carry out at once on its return, together with everything else
// that returns, and no budget would hold.
func Plan(in Input) Output {
	p := planner{in: in, out: Output{LastProgress: in.Since}}
	p.look()
	p.out.Budget = budget(in.MaxUnavailable, p.base)
	if !in.Paused {
		p.tell()
	}
	p.judge()
	return p.out
}

type planner struct {
	in  Input
	out Output
	// base is how many online devices take part, open how many of them don't run
	// the update revision, moving how many can still get there by themselves.
	base, open, moving int
	// candidates counts the devices that could be told something.
	candidates int
}

// stands says what a device is for the rollout, and whether it would gain from
// being told the update revision.
func (p *planner) stands(d *Device) (s standing, untold bool) {
	want := Ref{Revision: p.in.Update, Digest: d.Want}
	untold = d.Told != want
	switch {
	case !d.Online:
		return offline, untold
	case d.Told == Ref{}:
		return steady, true
	case d.Unreadable:
		return failing, untold
	case d.Reported != d.Told:
		return moving, untold
	case d.Phase == contracts.PhaseRunning && !untold:
		return succeeded, false
	case d.Phase == contracts.PhaseRunning:
		return steady, true
	case severity(d) < harmless:
		return failing, untold
	}
	return moving, untold
}

// look counts.
func (p *planner) look() {
	c := &p.out.Counts
	c.Matched = int32(len(p.in.Devices))
	for i := range p.in.Devices {
		d := &p.in.Devices[i]
		s, untold := p.stands(d)
		if !untold {
			c.Updated++
			p.progressed(d.ToldAt)
		}
		if d.Drifted {
			c.Drifted++
		}
		switch s {
		case offline:
			c.Offline++
			continue
		case succeeded:
			c.Succeeded++
			p.progressed(d.ReportedAt)
		case failing:
			c.Failed++
			p.failure(i)
		case steady, moving:
			c.Pending++
		}
		if d.Held {
			if s != succeeded {
				c.Held++
			}
			continue
		}
		p.base++
		if s != succeeded {
			p.open++
		}
		if s == moving || s == failing {
			p.out.Unavailable++
		}
		if s == moving {
			p.moving++
		}
		if untold {
			p.candidates++
		}
	}
}

// tell chooses: first those that cost nothing, then, in order, as many as the
// budget has room for.
func (p *planner) tell() {
	if p.candidates == 0 {
		return
	}
	room := p.out.Budget - p.out.Unavailable
	for i := range p.in.Devices {
		d := &p.in.Devices[i]
		if !d.Online || d.Held {
			continue
		}
		s, untold := p.stands(d)
		if !untold {
			continue
		}
		free := s == moving || s == failing || p.runsAlready(d)
		if !free {
			if room <= 0 {
				continue
			}
			room--
		}
		p.out.Tell = append(p.out.Tell, i)
	}
}

// runsAlready reports whether the device runs the update revision without having
// been told so, as after the loss of the bucket.
func (p *planner) runsAlready(d *Device) bool {
	return !d.Unreadable && d.Phase == contracts.PhaseRunning && d.Reported == Ref{Revision: p.in.Update, Digest: d.Want}
}

// judge says how the rollout stands.
func (p *planner) judge() {
	o := &p.out
	if len(o.Tell) > 0 {
		o.LastProgress = p.in.Now
	}
	deadline := o.LastProgress.Add(p.in.ProgressDeadline)
	switch {
	case p.open == 0:
		o.Phase = v1alpha1.WaveComplete
	case p.in.Paused:
		o.Phase = v1alpha1.WavePaused
	case len(o.Tell) == 0 && p.moving == 0:
		// Failing devices use up the budget, or are all that is left.
		o.Phase, o.Reason = v1alpha1.WaveStalled, v1alpha1.ReasonDevicesFailed
	case !p.in.Now.Before(deadline):
		o.Phase, o.Reason = v1alpha1.WaveStalled, v1alpha1.ReasonProgressDeadlineExceeded
	default:
		o.Phase = v1alpha1.WaveProgressing
		o.Wake = deadline
	}
}

func (p *planner) progressed(at time.Time) {
	if at.After(p.out.LastProgress) {
		p.out.LastProgress = at
	}
}

// failure keeps the worst failing devices, in order; the list is short, so
// insertion is cheap.
func (p *planner) failure(i int) {
	at := len(p.out.Failures)
	for at > 0 && p.worse(i, p.out.Failures[at-1]) {
		at--
	}
	if at == MaxFailures {
		return
	}
	if len(p.out.Failures) < MaxFailures {
		p.out.Failures = append(p.out.Failures, 0)
	}
	copy(p.out.Failures[at+1:], p.out.Failures[at:])
	p.out.Failures[at] = i
}

func (p *planner) worse(a, b int) bool {
	x, y := &p.in.Devices[a], &p.in.Devices[b]
	if sx, sy := severity(x), severity(y); sx != sy {
		return sx < sy
	}
	return x.ID < y.ID
}

const harmless = 3

// severity orders phases from the worst, 0, to those that are no failure.
func severity(d *Device) int {
	switch {
	case d.Unreadable, d.Phase == contracts.PhaseFailed:
		return 0
	case d.Phase == contracts.PhaseRolledBack:
		return 1
	case d.Phase == contracts.PhaseDegraded:
		return 2
	}
	return harmless
}

// budget is how many of base devices may be unavailable, at least one: with none
// no rollout would ever begin. A value that can't be read, which the schema
// refuses, is one too.
func budget(v intstr.IntOrString, base int) int {
	n, err := intstr.GetScaledValueFromIntOrPercent(&v, base, true)
	if err != nil {
		return 1
	}
	return max(n, 1)
}
