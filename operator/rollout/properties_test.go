package rollout

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
)

// world is a fleet that answers, or does not. The planner sees copies of it.
type world struct {
	in       Input
	reported int
}

func drawWorld(t *rapid.T) *world {
	revisions := []Ref{{}, r1, {"app-r0", "d0"}, r2}
	phases := []contracts.Phase{"", contracts.PhasePending, contracts.PhasePulling, contracts.PhaseApplying, contracts.PhaseRunning,
		contracts.PhaseDegraded, contracts.PhaseFailed, contracts.PhaseRolledBack, contracts.PhaseRemoved}
	devices := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Device {
		d := Device{
			Want:       r2.Digest,
			Told:       rapid.SampledFrom(revisions).Draw(t, "told"),
			Reported:   rapid.SampledFrom(revisions).Draw(t, "reported"),
			Phase:      rapid.SampledFrom(phases).Draw(t, "phase"),
			Online:     rapid.IntRange(0, 3).Draw(t, "online") > 0,
			Held:       rapid.IntRange(0, 5).Draw(t, "held") == 0,
			Unreadable: rapid.IntRange(0, 9).Draw(t, "unreadable") == 0,
		}
		if d.Told != (Ref{}) {
			d.ToldAt = t0.Add(-time.Duration(rapid.IntRange(0, 100).Draw(t, "toldAgo")) * time.Second)
		}
		if d.Phase == "" {
			d.Reported = Ref{}
		}
		return d
	}), 0, 30).Draw(t, "devices")
	for i := range devices {
		devices[i].ID = contracts.DeviceID(fmt.Sprintf("d%02d", i))
	}
	limit := intstr.FromInt32(rapid.Int32Range(1, 10).Draw(t, "max"))
	if rapid.Bool().Draw(t, "percent") {
		limit = intstr.FromString(fmt.Sprintf("%d%%", rapid.IntRange(1, 100).Draw(t, "percentage")))
	}
	return &world{in: Input{Update: r2.Revision, Since: t0, Devices: devices, MaxUnavailable: limit,
		ProgressDeadline: 10 * time.Minute, Now: t0}}
}

// unavailable counts, in the words of the API and not of the planner, the online
// devices that are between revisions or failing.
func (w *world) unavailable() int {
	n := 0
	for _, d := range w.in.Devices {
		if d.Online && !d.Held && d.Told != (Ref{}) && (d.Unreadable || d.Reported != d.Told || d.Phase != contracts.PhaseRunning) {
			n++
		}
	}
	return n
}

func (w *world) taking() int {
	n := 0
	for _, d := range w.in.Devices {
		if d.Online && !d.Held {
			n++
		}
	}
	return n
}

// step plans and tells.
func (w *world) step() Output {
	out := Plan(w.in)
	for _, i := range out.Tell {
		d := &w.in.Devices[i]
		d.Told, d.ToldAt = Ref{w.in.Update, d.Want}, w.in.Now
	}
	return out
}

// answer lets a device report what it was told.
func (w *world) answer(i int, phase contracts.Phase) {
	d := &w.in.Devices[i]
	d.Reported, d.Phase, d.Unreadable, d.ReportedAt = d.Told, phase, false, w.in.Now
	w.reported++
}

func TestTellingNeverMakesMoreUnavailableThanTheBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		// Any number of rounds, in which devices answer, fail, leave and return,
		// the fix of the fix is pushed, and the operator is replaced (which is no
		// operation here: the planner keeps nothing between calls).
		for range rapid.IntRange(1, 20).Draw(t, "rounds") {
			before := w.unavailable()
			out := w.step()
			limit, _ := intstr.GetScaledValueFromIntOrPercent(&w.in.MaxUnavailable, w.taking(), true)
			// Running what it is told already, a device becomes available by being
			// told: so only more than before and more than the budget is wrong.
			if after := w.unavailable(); after > max(before, limit, 1) {
				t.Fatalf("%d unavailable after telling %v, %d before, budget %d\n%+v", after, out.Tell, before, limit, w.in.Devices)
			}
			for i := range w.in.Devices {
				switch rapid.IntRange(0, 6).Draw(t, "event") {
				case 0:
					w.answer(i, contracts.PhaseRunning)
				case 1:
					w.answer(i, contracts.PhaseFailed)
				case 2:
					w.answer(i, contracts.PhasePulling)
				case 3:
					w.in.Devices[i].Online = !w.in.Devices[i].Online
				}
			}
			if rapid.IntRange(0, 5).Draw(t, "newRevision") == 0 {
				w.in.Update = fmt.Sprintf("app-r%d", rapid.IntRange(2, 9).Draw(t, "revision"))
			}
			w.in.Now = w.in.Now.Add(time.Duration(rapid.IntRange(0, 900).Draw(t, "seconds")) * time.Second)
		}
	})
}

func TestTheRolloutEndsWhenDevicesAnswer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		rounds := len(w.in.Devices) + 2
		for range rounds {
			out := w.step()
			if out.Phase == v1alpha1.WaveComplete {
				return
			}
			for i, d := range w.in.Devices {
				if d.Online && d.Told != (Ref{}) {
					w.answer(i, contracts.PhaseRunning)
				}
			}
			w.in.Now = w.in.Now.Add(time.Second)
		}
		t.Fatalf("not complete after %d rounds: %+v", rounds, Plan(w.in))
	})
}

func TestAHaltedRolloutTellsNoOneNew(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		w.in.Paused = rapid.Bool().Draw(t, "paused")
		out := Plan(w.in)
		if w.in.Paused && len(out.Tell) > 0 {
			t.Fatalf("paused, and tells %v", out.Tell)
		}
		if out.Phase == v1alpha1.WaveStalled && out.Reason == v1alpha1.ReasonDevicesFailed && len(out.Tell) > 0 {
			t.Fatalf("stalled by failures, and tells %v", out.Tell)
		}
		for _, i := range out.Tell {
			if d := w.in.Devices[i]; d.Held || !d.Online || d.Told == (Ref{w.in.Update, d.Want}) {
				t.Fatalf("tells %+v", d)
			}
		}
	})
}

func TestEveryDeviceIsCountedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		out := Plan(drawWorld(t).in)
		c := out.Counts
		if c.Matched != c.Succeeded+c.Failed+c.Pending+c.Offline {
			t.Fatalf("counts do not add up: %+v", c)
		}
		if out.Phase == v1alpha1.WaveComplete && c.Matched != c.Succeeded+c.Offline+c.Held {
			t.Fatalf("complete with devices that are not there: %+v", c)
		}
	})
}

func TestOfflineDevicesChangeNothingForTheOthers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawWorld(t).in
		with := Plan(in)
		var online []Device
		for _, d := range in.Devices {
			if d.Online {
				online = append(online, d)
			}
		}
		told := func(in Input, out Output) (ids []contracts.DeviceID) {
			for _, i := range out.Tell {
				ids = append(ids, in.Devices[i].ID)
			}
			return ids
		}
		alone := in
		alone.Devices = online
		without := Plan(alone)
		if diff := cmp.Diff(told(alone, without), told(in, with)); diff != "" {
			t.Fatalf("offline devices change who is told (-without +with):\n%s", diff)
		}
		if (with.Phase == v1alpha1.WaveComplete) != (without.Phase == v1alpha1.WaveComplete) {
			t.Fatalf("offline devices hold the rollout: %s with, %s without", with.Phase, without.Phase)
		}
	})
}

func TestSameInputSameOutputAndTellingTwiceTellsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		before := w.in
		before.Devices = slices.Clone(w.in.Devices)
		first := Plan(w.in)
		if diff := cmp.Diff(before, w.in); diff != "" {
			t.Fatalf("the input was changed:\n%s", diff)
		}
		if diff := cmp.Diff(first, Plan(w.in)); diff != "" {
			t.Fatalf("the same input gives another output:\n%s", diff)
		}
		// A second look before anything was reported tells a device again only when
		// the first freed it: devices that run the revision already.
		out := w.step()
		for _, i := range w.step().Tell {
			if slices.Contains(out.Tell, i) {
				t.Fatalf("device %d is told twice", i)
			}
		}
	})
}

func TestOrderIsStableAndSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := contracts.DeviceID(rapid.StringMatching(`[a-z0-9]{1,10}`).Draw(t, "a"))
		b := contracts.DeviceID(rapid.StringMatching(`[a-z0-9]{1,10}`).Draw(t, "b"))
		if (Order("ns", "app", a) == Order("ns", "app", b)) != (a == b) {
			t.Fatalf("%s and %s have the same place", a, b)
		}
	})
	if got, want := Order("edge", "hello", "pi-7"), uint64(12514585970208595414); got != want {
		t.Errorf("Order = %d, want %d: another order would be taken up in the middle of a rollout", got, want)
	}
	first := map[int]int{}
	for i := range 1000 {
		deployment := fmt.Sprintf("app-%d", i)
		best := 0
		for d := range 10 {
			id := func(n int) contracts.DeviceID { return contracts.DeviceID(fmt.Sprintf("pi-%d", n)) }
			if Order("edge", deployment, id(d)) < Order("edge", deployment, id(best)) {
				best = d
			}
		}
		first[best]++
	}
	for d := range 10 {
		if first[d] < 50 {
			t.Errorf("device %d is the first of only %d of 1000 Deployments: %v", d, first[d], first)
		}
	}
}
