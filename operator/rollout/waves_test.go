package rollout

import (
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
)

// staged is a rollout from r1 to r2: one canary that soaks for ten minutes, half of
// the fleet, the rest.
func staged(change func(*Input), devices ...Device) Input {
	one, half := intstr.FromInt32(1), intstr.FromString("50%")
	in := Input{
		Update: r2.Revision, Current: r1.Revision, MaxUnavailable: intstr.FromString("100%"), SuccessThreshold: intstr.FromString("100%"),
		ProgressDeadline: 10 * time.Minute, OnFailure: v1alpha1.OnFailureHalt, Now: t0,
		Waves: []Wave{
			{Name: "canary", Limit: &one, Soak: 10 * time.Minute, Approved: true}, {Name: "half", Limit: &half, Approved: true},
			{Name: v1alpha1.RestWave, Approved: true},
		},
		Devices: devices,
	}
	if change != nil {
		change(&in)
	}
	return in
}

func TestWaves(t *testing.T) {
	// old runs r1; in is told r2 in a wave and says phase of it since t0.
	old := func(id string) Device {
		return with(at(id, r1, contracts.PhaseRunning), func(d *Device) { d.Back, d.Matches = r1.Digest, 7 })
	}
	in := func(wave, id string, phase contracts.Phase) Device {
		return with(at(id, r2, phase), func(d *Device) { d.Back, d.Matches, d.ToldWave, d.PhaseSince = r1.Digest, 7, wave, t0 })
	}
	running, failed := contracts.PhaseRunning, contracts.PhaseFailed
	offline := func(d *Device) { d.Online = false }
	held := func(d *Device) { d.Held = true }
	neverTold := func(id string) Device {
		return Device{ID: contracts.DeviceID(id), Want: r2.Digest, Back: r1.Digest, Online: true, Matches: 7}
	}
	after := func(d time.Duration) func(*Input) { return func(in *Input) { in.Now = t0.Add(d) } }
	rollback := func(in *Input) { in.OnFailure = v1alpha1.OnFailureRollback }
	continues := func(in *Input) { in.OnFailure = v1alpha1.OnFailureContinue }
	tests := []struct {
		name   string
		in     Input
		tell   []int
		back   []int
		phase  v1alpha1.WavePhase
		reason string
		// wave that the rollout is in, and when to look again.
		wave int
		wake time.Duration
	}{
		{name: "the canary is told first", in: staged(nil, old("a"), old("b"), old("c"), old("d")),
			tell: []int{0}, phase: v1alpha1.WaveProgressing},
		{name: "an offline device is no canary", in: staged(nil, with(old("a"), offline), old("b"), old("c")),
			tell: []int{1}, phase: v1alpha1.WaveProgressing},
		{name: "a cordoned device is no canary", in: staged(nil, with(old("a"), held), old("b"), old("c")),
			tell: []int{1}, phase: v1alpha1.WaveProgressing},
		{name: "a device that fails already is no canary", in: staged(nil, with(old("a"), func(d *Device) { d.Phase = failed }), old("b"), old("c")),
			tell: []int{1}, phase: v1alpha1.WaveProgressing},
		{name: "the canary soaks", in: staged(after(9*time.Minute), in("canary", "a", running), old("b"), old("c"), old("d")),
			phase: v1alpha1.WaveSoaking, wake: 10 * time.Minute},
		{name: "the next wave begins to the moment", in: staged(after(10*time.Minute), in("canary", "a", running), old("b"), old("c"), old("d")),
			tell: []int{1, 2}, phase: v1alpha1.WaveProgressing, wave: 1},
		{name: "a canary that recovered soaks anew", in: staged(after(10*time.Minute),
			with(in("canary", "a", running), func(d *Device) { d.PhaseSince = t0.Add(5 * time.Minute) }), old("b")),
			phase: v1alpha1.WaveSoaking, wake: 15 * time.Minute},
		{name: "a device can't have been well before it was told", in: staged(after(time.Minute),
			with(in("canary", "a", running), func(d *Device) { d.PhaseSince = t0.Add(-time.Hour) }), old("b")),
			phase: v1alpha1.WaveSoaking, wake: 10 * time.Minute},
		{name: "a new device with a place before the canary moves nobody", in: staged(after(time.Minute),
			old("0"), in("canary", "a", running), old("b")), phase: v1alpha1.WaveSoaking, wake: 10 * time.Minute},
		{name: "a canary that has gone without an answer keeps its place", in: staged(after(time.Minute),
			with(in("canary", "a", running), func(d *Device) { d.Online, d.Reported = false, r1 }), old("b"), old("c")),
			phase: v1alpha1.WaveStalled, reason: v1alpha1.ReasonProgressDeadlineExceeded, wake: 10 * time.Minute},
		{name: "and is replaced when its time is up", in: staged(after(10*time.Minute),
			with(in("canary", "a", running), func(d *Device) { d.Online, d.Reported = false, r1 }), old("b"), old("c")),
			tell: []int{1}, phase: v1alpha1.WaveProgressing},
		{name: "a wave whose devices have all gone without an answer begins no other", in: staged(func(i *Input) {
			i.Now, i.Waves[0].Limit = t0.Add(time.Hour), nil
			i.Devices[1].Matches, i.Devices[2].Matches = 6, 6
		}, with(in("canary", "a", running), func(d *Device) { d.Online, d.Reported = false, r1 }), old("b"), old("c")),
			phase: v1alpha1.WaveStalled, reason: v1alpha1.ReasonProgressDeadlineExceeded},
		{name: "what was told in an earlier rollout of the revision has begun no wave", in: staged(func(i *Input) { i.Number = 7 },
			old("a"), with(in("rest", "b", running), offline), old("c")), tell: []int{0}, phase: v1alpha1.WaveProgressing},
		{name: "a failing device whose label changes halts all the same", in: staged(nil,
			with(in("canary", "a", failed), func(d *Device) { d.Want = "another" }), old("b"), old("c")),
			phase: v1alpha1.WaveHalted, reason: v1alpha1.ReasonDevicesFailed},
		{name: "a fix goes first to a device that the revision before has broken", in: staged(func(i *Input) { i.MaxUnavailable = intstr.FromInt32(1) },
			old("a"), old("b"), with(in("rest", "c", failed), func(d *Device) { d.Told, d.Reported = Ref{"app-bad", "x"}, Ref{"app-bad", "x"} })),
			tell: []int{2}, phase: v1alpha1.WaveProgressing},
		{name: "a canary that has gone is replaced", in: staged(after(time.Hour),
			with(in("canary", "a", running), offline), old("b"), old("c")), tell: []int{1}, phase: v1alpha1.WaveProgressing},
		{name: "a wave that has begun goes on when the one before loses a device", in: staged(after(time.Hour),
			with(in("canary", "a", running), offline), in("half", "b", running), old("c"), old("d"), old("e")),
			tell: []int{2, 3}, phase: v1alpha1.WaveProgressing, wave: 1},
		{name: "a device that returns holds no wave that was over", in: staged(after(time.Hour),
			with(in("canary", "a", running), func(d *Device) { d.Reported, d.OnlineSince = r1, t0.Add(time.Hour) }),
			in("half", "b", running), in("rest", "c", running), old("d")),
			tell: []int{3}, phase: v1alpha1.WaveProgressing, wave: 2, wake: 70 * time.Minute},
		{name: "a canary that fails halts at once", in: staged(nil, in("canary", "a", failed), old("b"), old("c")),
			phase: v1alpha1.WaveHalted, reason: v1alpha1.ReasonDevicesFailed},
		{name: "a canary that says nothing halts at its deadline", in: staged(after(10*time.Minute),
			with(in("canary", "a", running), func(d *Device) { d.Reported = r1 }), old("b")),
			phase: v1alpha1.WaveHalted, reason: v1alpha1.ReasonProgressDeadlineExceeded},
		{name: "a canary that is busy is given the time anew", in: staged(after(15*time.Minute),
			with(in("canary", "a", contracts.PhasePulling), func(d *Device) { d.ReportedAt = t0.Add(6 * time.Minute) }), old("b")),
			phase: v1alpha1.WaveProgressing, wake: 16 * time.Minute},
		{name: "a device that was away is given the time anew", in: staged(after(15*time.Minute),
			with(in("canary", "a", running), func(d *Device) { d.Reported, d.OnlineSince = r1, t0.Add(14*time.Minute) }), old("b")),
			phase: v1alpha1.WaveProgressing, wake: 24 * time.Minute},
		{name: "a failure of a device that failed before halts nobody", in: staged(after(time.Hour), in("canary", "a", running),
			with(in("half", "b", failed), func(d *Device) { d.FailedBefore = true }), in("half", "c", running), old("d")),
			tell: []int{3}, phase: v1alpha1.WaveProgressing, wave: 1},
		{name: "Rollback waits until the device has given up", in: staged(rollback, in("canary", "a", failed), old("b")),
			phase: v1alpha1.WaveHalted, reason: v1alpha1.ReasonDevicesFailed, wake: 10 * time.Minute},
		{name: "Rollback begins when the device says so", in: staged(rollback, in("canary", "a", contracts.PhaseRolledBack), old("b")),
			phase: v1alpha1.WaveRollingBack, reason: v1alpha1.ReasonRollingBack},
		{name: "Rollback begins when the device has had its time", in: staged(func(i *Input) { rollback(i); i.Now = t0.Add(10 * time.Minute) }, in("canary", "a", failed), old("b")),
			phase: v1alpha1.WaveRollingBack, reason: v1alpha1.ReasonRollingBack},
		{name: "without a current revision there is nothing to go back to", in: staged(func(i *Input) { rollback(i); i.Current = "" },
			with(in("canary", "a", contracts.PhaseRolledBack), func(d *Device) { d.Back = "" }), with(neverTold("b"), func(d *Device) { d.Back = "" })),
			phase: v1alpha1.WaveHalted, reason: v1alpha1.ReasonDevicesFailed},
		{name: "what was told is told the current revision again, and no one else anything", in: staged(func(i *Input) { i.Failed = true },
			in("canary", "a", contracts.PhaseRolledBack), in("half", "b", running), old("c")),
			back: []int{0, 1}, phase: v1alpha1.WaveRollingBack, reason: v1alpha1.ReasonRollingBack, wave: 1},
		{name: "a revision that was rolled back is not tried again", in: staged(func(i *Input) { i.Failed = true }, old("a"), old("b")),
			phase: v1alpha1.WaveRolledBack, reason: v1alpha1.ReasonRolledBack},
		{name: "Continue goes on in spite of failures", in: staged(continues, in("canary", "a", failed), old("b"), old("c"), old("d")),
			tell: []int{1, 2}, phase: v1alpha1.WaveProgressing, wave: 1},
		{name: "Continue is not complete with failures", in: staged(continues, in("canary", "a", failed), in("half", "b", running), in("rest", "c", running)),
			phase: v1alpha1.WaveStalled, reason: v1alpha1.ReasonDevicesFailed, wave: 2},
		{name: "failures below the threshold halt nobody", in: staged(func(i *Input) { i.SuccessThreshold = intstr.FromString("50%") },
			in("canary", "a", running), in("half", "b", failed), in("half", "c", running), old("d")),
			tell: []int{3}, phase: v1alpha1.WaveProgressing, wave: 2},
		{name: "failures below the threshold complete", in: staged(func(i *Input) { i.SuccessThreshold = intstr.FromString("60%") },
			in("canary", "a", running), in("half", "b", failed), in("rest", "c", running)), phase: v1alpha1.WaveComplete, wave: 2},
		{name: "a wave soaks from when its threshold was met", in: staged(func(i *Input) {
			two := intstr.FromInt32(2)
			i.Waves[0].Limit, i.SuccessThreshold, i.Now = &two, intstr.FromString("50%"), t0.Add(10*time.Minute)
		}, with(in("canary", "a", running), func(d *Device) { d.PhaseSince = t0.Add(5 * time.Minute) }), in("canary", "b", running), old("c"), old("d"), old("e")),
			tell: []int{2, 3, 4}, phase: v1alpha1.WaveProgressing, wave: 1},
		{name: "a number of a smaller wave is all of it", in: staged(func(i *Input) { i.SuccessThreshold = intstr.FromInt32(5) },
			in("canary", "a", running), in("half", "b", failed), in("half", "c", running), old("d")),
			phase: v1alpha1.WaveHalted, reason: v1alpha1.ReasonDevicesFailed, wave: 1},
		{name: "a wave waits for its approval", in: staged(func(i *Input) { i.Waves[1].Approved = false; i.Now = t0.Add(time.Hour) }, in("canary", "a", running), old("b")),
			phase: v1alpha1.WaveAwaitingApproval, wave: 1},
		{name: "the first wave may wait for its approval", in: staged(func(i *Input) { i.Waves[0].Approved = false }, old("a"), old("b")),
			phase: v1alpha1.WaveAwaitingApproval},
		{name: "a wave that nobody is in is over", in: staged(func(i *Input) { i.Devices[0].Matches, i.Devices[1].Matches = 4, 4 }, old("a"), old("b")),
			tell: []int{0, 1}, phase: v1alpha1.WaveProgressing, wave: 2},
		{name: "an offline fleet is complete", in: staged(nil, with(old("a"), offline), with(old("b"), offline)), phase: v1alpha1.WaveComplete, wave: 2},
		{name: "a new device gets the current revision until its turn", in: staged(after(time.Minute), in("canary", "a", running), neverTold("b")),
			back: []int{1}, phase: v1alpha1.WaveSoaking, wake: 10 * time.Minute},
		{name: "a new device gets the current revision while the rollout is halted", in: staged(nil, in("canary", "a", failed), neverTold("b")),
			back: []int{1}, phase: v1alpha1.WaveHalted, reason: v1alpha1.ReasonDevicesFailed},
		{name: "paused tells a new device nothing either", in: staged(func(i *Input) { i.Paused = true }, in("canary", "a", running), neverTold("b")),
			phase: v1alpha1.WavePaused, wake: 10 * time.Minute},
		{name: "paused rolls nothing back", in: staged(func(i *Input) { rollback(i); i.Paused = true }, in("canary", "a", contracts.PhaseRolledBack), old("b")),
			phase: v1alpha1.WavePaused},
		{name: "a revision that all have run does not halt when a device breaks", in: staged(func(i *Input) { i.Current = i.Update },
			in("canary", "a", failed), in("half", "b", running), with(old("c"), func(d *Device) { d.Told, d.Reported = Ref{}, Ref{} })),
			tell: []int{2}, phase: v1alpha1.WaveProgressing, wave: 2},
		{name: "going back to what all ran needs no waves", in: staged(func(i *Input) { i.Update, i.Current = r1.Revision, r1.Revision },
			with(in("canary", "a", running), func(d *Device) { d.Want = r1.Digest }), with(old("b"), func(d *Device) { d.Want = r1.Digest })),
			tell: []int{0}, phase: v1alpha1.WaveProgressing, wave: 2},
		{name: "a fix goes to the canary that the revision before has broken", in: staged(nil,
			with(in("canary", "a", failed), func(d *Device) { d.Told, d.Reported = Ref{"app-bad", "x"}, Ref{"app-bad", "x"} }), old("b"), old("c")),
			tell: []int{0}, phase: v1alpha1.WaveProgressing},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := Plan(tt.in)
			var back []int
			for _, tell := range out.Tell {
				if tell.Back {
					back = append(back, tell.Index)
				}
			}
			if got := indices(out.Tell); !slices.Equal(got, tt.tell) || !slices.Equal(back, tt.back) {
				t.Errorf("tells %v and back %v, want %v and %v", got, back, tt.tell, tt.back)
			}
			if out.Phase != tt.phase || out.Reason != tt.reason || out.Wave != tt.wave {
				t.Errorf("wave %d %s %q, want wave %d %s %q", out.Wave, out.Phase, out.Reason, tt.wave, tt.phase, tt.reason)
			}
			if len(tt.tell) > 0 || len(tt.back) > 0 && tt.wake == 0 {
				return
			}
			if want := t0.Add(tt.wake); tt.wake == 0 && !out.Wake.IsZero() || tt.wake > 0 && !out.Wake.Equal(want) {
				t.Errorf("wakes at %v, want %v after the start", out.Wake.Sub(t0), tt.wake)
			}
		})
	}
}

func TestARevisionThatFewHaveRunIsNotTheCurrentOne(t *testing.T) {
	done := with(at("a", r2, contracts.PhaseRunning), func(d *Device) { d.ToldWave = v1alpha1.RestWave })
	away := with(at("b", r1, contracts.PhaseRunning), func(d *Device) { d.Online = false })
	for _, tt := range []struct {
		name    string
		devices []Device
		ran     bool
	}{
		{"all", []Device{done}, true},
		{"one of three", []Device{done, away, away}, false},
		{"two of three", []Device{done, done, away}, true},
		{"nobody", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := Plan(staged(func(in *Input) { in.Waves = only }, tt.devices...))
			if out.Phase != v1alpha1.WaveComplete || out.Ran != tt.ran {
				t.Errorf("%s, ran %v, want %v", out.Phase, out.Ran, tt.ran)
			}
		})
	}
}

func TestFailedBeforeIsRemembered(t *testing.T) {
	bad := Ref{"app-bad", "x"}
	broken := with(at("a", r1, contracts.PhaseFailed), func(d *Device) { d.Matches = 7 })
	for _, tt := range []struct {
		name   string
		device Device
		want   bool
	}{
		{"at the current revision", broken, true},
		{"at one between, and before it", with(broken, func(d *Device) { d.Told, d.Reported, d.FailedBefore = bad, bad, true }), true},
		{"at one between, and not before it", with(broken, func(d *Device) { d.Told, d.Reported = bad, bad }), false},
		{"not at all", with(broken, func(d *Device) { d.Phase = contracts.PhaseRunning }), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := staged(func(in *Input) { in.Waves = only }, tt.device)
			out := Plan(in)
			if len(out.Tell) != 1 || out.Tell[0].FailedBefore != tt.want {
				t.Errorf("tells %+v, want it to have failed before: %v", out.Tell, tt.want)
			}
		})
	}
}
