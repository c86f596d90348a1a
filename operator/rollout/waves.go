package rollout

import (
	"math"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
)

// tally is what the gate of a wave is decided on.
type tally struct {
	// reachable devices that count: online, not held, and not broken before. Of
	// them, succeeded run the update revision, failing fail at it, and givenUp won't
	// get there any more.
	reachable, succeeded, failing, givenUp int
	// told is how many devices were told in the wave, reachable or not, and silent how
	// many of them have never answered.
	told, silent int
	// well is since when each of the succeeded has been, in nanoseconds; only of a
	// wave that soaks.
	well []int64
}

// counts reports whether a device counts for the gate of its wave.
func (p *planner) counts(i int) bool {
	d, s := &p.in.Devices[i], p.stands[i]
	return s != offline && !d.Held && !p.brokenBefore(d, s)
}

// takesPlace reports whether a device counts for the limit of its wave. One that is
// offline does not, a canary that nobody can reach would be none, unless it has
// vanished.
func (p *planner) takesPlace(i int) bool {
	return p.counts(i) || p.vanished(&p.in.Devices[i], p.stands[i])
}

// assign puts every device into a wave: those that were told the update revision
// into the one that they were told in, the others into the first that matches them
// and has room. So nobody moves while a revision is rolled out, whoever else comes
// or goes.
func (p *planner) assign() {
	var room, matching [MaxWaves]int
	percent := uint32(0)
	for w := range p.in.Waves {
		room[w] = math.MaxInt
		if l := p.in.Waves[w].Limit; l != nil && l.Type == intstr.String {
			percent |= 1 << w
		}
	}
	if percent != 0 {
		for i := range p.in.Devices {
			if m := p.in.Devices[i].Matches & percent; m != 0 && p.takesPlace(i) {
				for w := range p.in.Waves {
					matching[w] += int(m >> w & 1)
				}
			}
		}
	}
	limited := false
	for w := range p.in.Waves {
		if l := p.in.Waves[w].Limit; l != nil {
			room[w], limited = scaled(*l, matching[w]), true
		}
	}
	if limited {
		for i, w := range p.waves {
			if w != unassigned && p.takesPlace(i) {
				room[w]--
			}
		}
	}
	// Devices that fail at a revision between come first: a fix is told them for
	// nothing, also when they are the whole budget.
	if limited && !p.settled {
		for i, s := range p.stands {
			if s == failing && p.waves[i] == unassigned && p.counts(i) {
				p.place(i, &room)
			}
		}
	}
	for i, w := range p.waves {
		if w == unassigned {
			p.place(i, &room)
		}
	}
}

// place puts a device into the first wave that matches it and has room.
func (p *planner) place(i int, room *[MaxWaves]int) {
	last := len(p.in.Waves) - 1
	takes := p.takesPlace(i)
	for w := range p.in.Waves {
		if w < last && (p.in.Devices[i].Matches>>w&1 == 0 || room[w] <= 0 || !takes && p.in.Waves[w].Limit != nil) {
			continue
		}
		p.waves[i] = uint8(w)
		if takes {
			room[w]--
		}
		return
	}
}

// tally counts each wave.
func (p *planner) tally() {
	for i := range p.in.Devices {
		d, s, w := &p.in.Devices[i], p.stands[i], p.waves[i]
		t, c := &p.tallies[w], &p.out.Waves[w]
		c.Matched++
		if d.Told == p.update(d) {
			c.Updated++
		}
		told := p.within(d)
		if told {
			t.told++
			if p.silent(d, s) {
				t.silent++
			}
		}
		switch s {
		case offline:
			c.Offline++
		case succeeded:
			c.Succeeded++
		case failing:
			c.Failed++
		default:
			c.Pending++
		}
		if !p.counts(i) {
			continue
		}
		t.reachable++
		switch {
		case s == succeeded:
			t.succeeded++
			if p.in.Waves[w].Soak > 0 {
				t.well = append(t.well, later(d.PhaseSince, d.ToldAt).UnixNano())
			}
		case s == failing && told:
			t.failing++
			if p.givenUp(d) {
				t.givenUp++
			}
		}
	}
}

// givenUp reports whether a failing device won't recover by itself: it says so, or
// has had the time to.
func (p *planner) givenUp(d *Device) bool {
	if d.Reported != d.Told || d.Phase == contracts.PhaseRolledBack {
		return true
	}
	at := later(d.PhaseSince, d.ToldAt).Add(p.in.ProgressDeadline)
	if p.in.Now.Before(at) {
		if p.in.OnFailure == v1alpha1.OnFailureRollback {
			p.wake(at)
		}
		return false
	}
	return true
}

// need is how many of n devices have to be well.
func (p *planner) need(n int) int { return min(scaled(p.in.SuccessThreshold, n), n) }

// over reports whether a wave holds the next one back no longer. Where that is
// only a matter of time, until is when.
func (p *planner) over(w int) (over bool, until time.Time) {
	t := &p.tallies[w]
	need := p.need(t.reachable)
	if p.in.OnFailure == v1alpha1.OnFailureContinue {
		need = max(need-t.failing, 0)
	}
	// Of a wave whose devices have all gone without an answer nothing is known.
	if t.succeeded < need || t.reachable == 0 && t.told > 0 && t.silent == t.told {
		return false, time.Time{}
	}
	soak := p.in.Waves[w].Soak
	if soak == 0 || need == 0 {
		return true, time.Time{}
	}
	// The wave has been well since the device was that completed the threshold.
	if need == len(t.well) {
		until = time.Unix(0, slices.Max(t.well)).Add(soak)
	} else {
		slices.Sort(t.well)
		until = time.Unix(0, t.well[need-1]).Add(soak)
	}
	return !p.in.Now.Before(until), until
}

// begin finds out which waves have begun, and begins those that may.
func (p *planner) begin() {
	last := len(p.in.Waves) - 1
	if p.settled {
		p.begun = last
		return
	}
	for p.begun < last {
		if p.begun >= 0 {
			over, until := p.over(p.begun)
			if !over {
				p.out.Until = until
				p.wake(until)
				return
			}
		}
		if !p.in.Waves[p.begun+1].Approved {
			p.awaiting = true
			return
		}
		p.begun++
	}
}

// judge finds out whether failures end the rollout.
func (p *planner) judge() {
	if p.settled || p.in.Failed || p.in.OnFailure == v1alpha1.OnFailureContinue {
		return
	}
	hopeless := false
	for w := range p.tallies {
		t := &p.tallies[w]
		spare := t.reachable - p.need(t.reachable)
		p.halted = p.halted || t.failing > spare
		hopeless = hopeless || t.givenUp > spare
	}
	p.out.RollBack = hopeless && p.in.OnFailure == v1alpha1.OnFailureRollback && p.in.Current != "" && !p.in.Paused
}

// conclude says how the rollout stands, and each of its waves.
func (p *planner) conclude() {
	o := &p.out
	last := len(p.in.Waves) - 1
	o.Wave = max(p.begun, 0)
	switch {
	case p.in.Failed && p.in.Paused && p.back > 0:
		o.Phase = v1alpha1.WavePaused
	case p.in.Failed && (p.back > 0 || len(o.Tell) > 0), o.RollBack:
		o.Phase, o.Reason = v1alpha1.WaveRollingBack, v1alpha1.ReasonRollingBack
	case p.in.Failed:
		o.Phase, o.Reason = v1alpha1.WaveRolledBack, v1alpha1.ReasonRolledBack
	case p.begun == last && p.done+p.broken == p.base && p.done >= p.need(p.base):
		o.Phase, o.Ran = v1alpha1.WaveComplete, 2*p.done > len(p.in.Devices)-int(o.Counts.Held)
	case p.in.Paused:
		o.Phase = v1alpha1.WavePaused
	case p.halted:
		o.Phase, o.Reason = v1alpha1.WaveHalted, p.blame()
	case p.awaiting:
		o.Phase, o.Wave = v1alpha1.WaveAwaitingApproval, p.begun+1
	case !o.Until.IsZero():
		o.Phase = v1alpha1.WaveSoaking
	case len(o.Tell) == 0 && p.moving == 0:
		// Failing devices use up the budget, or are all that is left.
		o.Phase, o.Reason = v1alpha1.WaveStalled, p.blame()
	default:
		o.Phase = v1alpha1.WaveProgressing
	}
	if o.Phase != v1alpha1.WaveSoaking {
		o.Until = time.Time{}
	}
	for w := range o.Waves {
		o.Waves[w].Name, o.Waves[w].Phase = p.in.Waves[w].Name, p.phase(w)
	}
}

// blame is the reason for a rollout that does not go on.
func (p *planner) blame() string {
	if len(p.out.Failures) == 0 {
		// Those who are waited for have gone without an answer.
		return v1alpha1.ReasonProgressDeadlineExceeded
	}
	for _, i := range p.out.Failures {
		if d := &p.in.Devices[i]; d.Reported == d.Told && severity(d) < harmless {
			return v1alpha1.ReasonDevicesFailed
		}
	}
	if p.stuck {
		return v1alpha1.ReasonProgressDeadlineExceeded
	}
	return v1alpha1.ReasonDevicesFailed
}

// phase says how a wave stands.
func (p *planner) phase(w int) v1alpha1.WavePhase {
	t := &p.tallies[w]
	switch phase := p.out.Phase; {
	case phase == v1alpha1.WaveComplete:
		return phase
	case p.in.Failed || p.out.RollBack:
		if p.out.Waves[w].Updated > 0 || w == p.out.Wave {
			return phase
		}
		return v1alpha1.WavePending
	case w == p.out.Wave:
		return phase
	case w > p.begun:
		return v1alpha1.WavePending
	case p.halted && t.failing > t.reachable-p.need(t.reachable):
		return v1alpha1.WaveHalted
	case t.succeeded < p.need(t.reachable):
		return v1alpha1.WaveProgressing
	}
	return v1alpha1.WaveComplete
}
