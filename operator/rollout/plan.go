package rollout

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
)

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
	// failing: says that what it was told does not work, or has said nothing for too
	// long.
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
//
// A device is told the update revision when its wave has begun. That a wave has
// begun is remembered by the devices that were told in it, and by nothing else. A
// device that was never told anything gets the current revision until then.
//
// A revision that all devices have run is past its rollout: its waves have all
// begun, and failures stop nothing.
func Plan(in Input) Output {
	p := planner{
		in: in, settled: in.Current == in.Update, stands: make([]standing, len(in.Devices)), waves: make([]uint8, len(in.Devices)),
		tallies: make([]tally, len(in.Waves)), begun: -1,
	}
	p.out.Waves = make([]v1alpha1.WaveProgress, len(in.Waves))
	p.look()
	p.assign()
	p.tally()
	p.out.Budget = budget(in.MaxUnavailable, p.base)
	p.begin()
	p.judge()
	if !in.Paused && !p.out.RollBack {
		p.tell()
	}
	p.conclude()
	return p.out
}

type planner struct {
	in  Input
	out Output
	// settled tells that the update revision is the current one.
	settled bool
	// stands and waves are of each device; a wave is unassigned before assign.
	stands  []standing
	waves   []uint8
	tallies []tally
	// base is how many online devices take part, done how many of them run the
	// update revision, moving how many can still get somewhere by themselves, broken
	// how many fail.
	base, done, moving, broken int
	// stuck tells that a device fails by having said nothing for too long.
	stuck bool
	// begun is the index of the last wave that has begun, -1 for none; awaiting tells
	// that the next one waits for somebody to approve it.
	begun    int
	awaiting bool
	// halted tells that failures keep everybody else from being told.
	halted bool
	// back counts the devices that are not where a rollback wants them.
	back int
}

const unassigned = ^uint8(0)

func (p *planner) update(d *Device) Ref { return Ref{Revision: p.in.Update, Digest: d.Want} }

// within reports whether what the device was told last is of this rollout. Its digest
// may be another: a label that the score refers to has changed.
func (p *planner) within(d *Device) bool {
	return d.Told.Revision == p.in.Update && d.ToldNumber == p.in.Number
}

// silent reports whether a device was told the update revision, went offline, and
// has never answered: perhaps the revision is why.
func (p *planner) silent(d *Device, s standing) bool {
	return s == offline && !d.Held && !p.settled && p.within(d) && d.Reported != d.Told
}

// vanished reports whether a device is silent and may still answer. Until then it
// keeps its place in its wave and uses the budget, so that a revision that takes
// devices off the network does not take one after the other at once.
func (p *planner) vanished(d *Device, s standing) bool {
	if !p.silent(d, s) {
		return false
	}
	at := d.ToldAt.Add(p.in.ProgressDeadline)
	p.wake(at)
	return p.in.Now.Before(at)
}

func (p *planner) current(d *Device) Ref { return Ref{Revision: p.in.Current, Digest: d.Back} }

// stand says what a device is for the rollout.
func (p *planner) stand(d *Device) standing {
	switch {
	case !d.Online:
		return offline
	case d.Told == Ref{}:
		return steady
	case d.Unreadable:
		return failing
	case d.Reported == d.Told && d.Phase == contracts.PhaseRunning:
		if d.Told == p.update(d) {
			return succeeded
		}
		return steady
	case d.Reported == d.Told && severity(d) < harmless:
		return failing
	}
	// Neither how long a device was away nor what it is busy with counts against it.
	from := later(d.ToldAt, d.OnlineSince)
	if d.Reported == d.Told {
		from = later(from, d.ReportedAt)
	}
	if deadline := from.Add(p.in.ProgressDeadline); p.in.Now.Before(deadline) {
		p.wake(deadline)
		return moving
	}
	p.stuck = true
	return failing
}

// brokenBefore reports whether a device fails through no fault of the update
// revision.
func (p *planner) brokenBefore(d *Device, s standing) bool {
	if s != failing || p.settled {
		return false
	}
	if p.within(d) {
		return d.FailedBefore
	}
	return d.FailedBefore || d.Told.Revision == p.in.Current
}

// look counts, and finds out how far the waves have come.
func (p *planner) look() {
	c := &p.out.Counts
	c.Matched = int32(len(p.in.Devices))
	for i := range p.in.Devices {
		d := &p.in.Devices[i]
		s := p.stand(d)
		p.stands[i], p.waves[i] = s, unassigned
		if d.Told == p.update(d) {
			c.Updated++
		}
		if p.within(d) {
			if w := slices.IndexFunc(p.in.Waves, func(w Wave) bool { return w.Name == d.ToldWave }); w >= 0 {
				p.waves[i] = uint8(w)
				p.begun = max(p.begun, w)
			}
		}
		if d.Drifted {
			c.Drifted++
		}
		switch s {
		case offline:
			c.Offline++
			if p.vanished(d, s) {
				p.out.Unavailable++
			}
			continue
		case succeeded:
			c.Succeeded++
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
		switch s {
		case succeeded:
			p.done++
		case moving:
			p.moving++
			p.out.Unavailable++
		case failing:
			p.broken++
			p.out.Unavailable++
		}
		if d.Back != "" && (d.Told != p.current(d) || s == moving) {
			p.back++
		}
	}
}

// tell chooses: those that it costs nothing, and, in order, as many as the budget
// has room for.
func (p *planner) tell() {
	undo := p.in.Failed
	if undo && p.back == 0 {
		return
	}
	room := p.out.Budget - p.out.Unavailable
	for i := range p.in.Devices {
		d := &p.in.Devices[i]
		s, w := p.stands[i], int(p.waves[i])
		if s == offline || d.Held {
			continue
		}
		t := Tell{Index: i, Wave: w}
		target := p.update(d)
		switch {
		case undo:
			t.Back = true
		case p.halted || w > p.begun:
			// A new device runs what the others do until its turn comes.
			if p.settled || d.Told != (Ref{}) {
				continue
			}
			t.Back = true
		}
		if t.Back {
			if target = p.current(d); d.Back == "" {
				continue
			}
		}
		if d.Told == target {
			continue
		}
		runsAlready := !d.Unreadable && d.Phase == contracts.PhaseRunning && d.Reported == target
		if s != moving && s != failing && !runsAlready {
			if room <= 0 {
				continue
			}
			room--
		}
		t.FailedBefore = !t.Back && p.brokenBefore(d, s)
		p.out.Tell = append(p.out.Tell, t)
	}
}

// wake notes a time at which the output changes.
func (p *planner) wake(at time.Time) {
	if at.After(p.in.Now) && (p.out.Wake.IsZero() || at.Before(p.out.Wake)) {
		p.out.Wake = at
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
	return max(scaled(v, base), 1)
}

// scaled is a number, or a percentage of n rounded up; 0 for what can't be read.
func scaled(v intstr.IntOrString, n int) int {
	m, err := intstr.GetScaledValueFromIntOrPercent(&v, n, true)
	if err != nil {
		return 0
	}
	return m
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
