package rollout

import (
	"flag"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
)

// world is a fleet that answers, or does not, and an operator that does what the
// planner says and forgets everything else between two steps.
type world struct {
	in Input
	// failedRevisions are those that were rolled back.
	failedRevisions map[string]bool
	revisions       int
}

func drawWorld(t *rapid.T) *world {
	w := &world{failedRevisions: map[string]bool{}, revisions: 2}
	count := func(name string) intstr.IntOrString {
		if rapid.Bool().Draw(t, name+"IsPercent") {
			return intstr.FromString(fmt.Sprintf("%d%%", rapid.IntRange(1, 100).Draw(t, name)))
		}
		return intstr.FromInt32(rapid.Int32Range(1, 6).Draw(t, name))
	}
	var waves []Wave
	for i := range rapid.IntRange(0, 3).Draw(t, "waves") {
		wave := Wave{Name: fmt.Sprint("w", i), Approved: rapid.IntRange(0, 4).Draw(t, "approved") > 0}
		if rapid.Bool().Draw(t, "limited") {
			limit := count("limit")
			wave.Limit = &limit
		}
		if rapid.Bool().Draw(t, "soaks") {
			wave.Soak = time.Duration(rapid.IntRange(1, 20).Draw(t, "soak")) * time.Minute
		}
		waves = append(waves, wave)
	}
	w.in = Input{
		Update: "app-r2", Number: 2, Current: "app-r1", Waves: append(waves, Wave{Name: v1alpha1.RestWave, Approved: true}),
		MaxUnavailable: count("maxUnavailable"), SuccessThreshold: intstr.FromString("100%"),
		OnFailure:        rapid.SampledFrom([]v1alpha1.OnFailure{v1alpha1.OnFailureHalt, v1alpha1.OnFailureRollback, v1alpha1.OnFailureContinue}).Draw(t, "onFailure"),
		ProgressDeadline: 10 * time.Minute, Now: t0,
	}
	if rapid.Bool().Draw(t, "threshold") {
		w.in.SuccessThreshold = count("successThreshold")
	}
	if rapid.IntRange(0, 5).Draw(t, "first") == 0 {
		w.in.Current = ""
	}
	for range rapid.IntRange(0, 12).Draw(t, "devices") {
		w.join(t)
	}
	return w
}

// join adds a device: one that is new, or one that runs the current revision and
// may be broken.
func (w *world) join(t *rapid.T) {
	d := Device{
		ID: contracts.DeviceID(fmt.Sprintf("d%03d", len(w.in.Devices))), Online: true, OnlineSince: w.in.Now,
		Matches: rapid.Uint32Range(0, 15).Draw(t, "matches"),
	}
	w.resolve(&d)
	if w.in.Current != "" && rapid.IntRange(0, 3).Draw(t, "new") > 0 {
		d.Told, d.Reported, d.Phase = w.ref(w.in.Current), w.ref(w.in.Current), contracts.PhaseRunning
		d.ToldAt, d.ReportedAt, d.PhaseSince = w.in.Now, w.in.Now, w.in.Now
		if rapid.IntRange(0, 6).Draw(t, "broken") == 0 {
			d.Phase = contracts.PhaseFailed
		}
	}
	at := rapid.IntRange(0, len(w.in.Devices)).Draw(t, "place")
	w.in.Devices = slices.Insert(w.in.Devices, at, d)
}

func (w *world) ref(revision string) Ref {
	if revision == "" {
		return Ref{}
	}
	return Ref{Revision: revision, Digest: "of " + revision}
}

func (w *world) resolve(d *Device) {
	d.Want, d.Back = w.ref(w.in.Update).Digest, w.ref(w.in.Current).Digest
}

// push wants another revision, or one of before.
func (w *world) push(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "back") == 0 && w.in.Current != "" {
		w.in.Update = w.in.Current
	} else {
		w.revisions++
		w.in.Update = fmt.Sprint("app-r", w.revisions)
	}
	w.in.Number++
	w.in.Failed = false
	for i := range w.in.Devices {
		w.resolve(&w.in.Devices[i])
	}
}

// unavailable counts, in the words of the API and not of the planner, the online
// devices that are between revisions or failing.
func (w *world) unavailable() (n, taking int) {
	for _, d := range w.in.Devices {
		if !d.Online || d.Held {
			continue
		}
		taking++
		if d.Told != (Ref{}) && (d.Unreadable || d.Reported != d.Told || d.Phase != contracts.PhaseRunning) {
			n++
		}
	}
	return n, taking
}

var steps atomic.Int64

// step plans, holds the plan to what it promises, and does what it says.
func (w *world) step(t *rapid.T) Output {
	steps.Add(1)
	before, seen := w.in, slices.Clone(w.in.Devices)
	out := Plan(w.in)
	if !slices.Equal(seen, w.in.Devices) {
		t.Fatal("the input was changed")
	}
	c := out.Counts
	if c.Matched != c.Succeeded+c.Failed+c.Pending+c.Offline || int(c.Matched) != len(w.in.Devices) {
		t.Fatalf("the counts don't add up: %+v", c)
	}
	var sum int32
	for _, p := range out.Waves {
		if p.Matched != p.Succeeded+p.Failed+p.Pending+p.Offline {
			t.Fatalf("the counts of wave %s don't add up: %+v", p.Name, p)
		}
		sum += p.Matched
	}
	if sum != c.Matched {
		t.Fatalf("the waves have %d of %d devices", sum, c.Matched)
	}
	if out.RollBack {
		if len(out.Tell) > 0 {
			t.Fatalf("tells %v before it is remembered that the revision failed", out.Tell)
		}
		w.in.Failed, w.failedRevisions[w.in.Update] = true, true
		return w.step(t)
	}
	w.holds(t, out)
	unavailable, taking := w.unavailable()
	for _, tell := range out.Tell {
		d := &w.in.Devices[tell.Index]
		target := w.ref(w.in.Update)
		if tell.Back {
			target = w.ref(w.in.Current)
		}
		if !d.Online || d.Held || d.Told == target || target == (Ref{}) {
			t.Fatalf("tells %+v something it must not be told: %+v", d, tell)
		}
		d.Told, d.ToldAt, d.ToldWave, d.FailedBefore, d.ToldNumber = target, w.in.Now, w.in.Waves[tell.Wave].Name, tell.FailedBefore, 0
		if !tell.Back {
			d.ToldNumber = w.in.Number
		}
	}
	if after, _ := w.unavailable(); after > max(unavailable, scaled(w.in.MaxUnavailable, taking), 1) {
		t.Fatalf("%d unavailable after telling %v, %d before, maxUnavailable %s of %d\n%+v", after, out.Tell, unavailable, w.in.MaxUnavailable.String(), taking, before.Devices)
	}
	if out.Ran {
		w.in.Current = w.in.Update
		for i := range w.in.Devices {
			w.resolve(&w.in.Devices[i])
		}
	}
	return out
}

// holds checks whom the plan tells against what the gates are for, in words of its
// own.
func (w *world) holds(t *rapid.T, out Output) {
	in := w.in
	if in.Paused && len(out.Tell) > 0 {
		t.Fatalf("paused, and tells %v", out.Tell)
	}
	begun := -1
	for _, d := range in.Devices {
		if d.Told.Revision == in.Update && d.ToldNumber == in.Number {
			begun = max(begun, slices.IndexFunc(in.Waves, func(v Wave) bool { return v.Name == d.ToldWave }))
		}
	}
	for _, tell := range out.Tell {
		d := in.Devices[tell.Index]
		if tell.Back {
			if !in.Failed && d.Told != (Ref{}) {
				t.Fatalf("has a device go back that nothing was wrong with: %+v", d)
			}
			continue
		}
		if in.Failed || w.failedRevisions[in.Update] && in.Update != in.Current {
			t.Fatalf("tells %s the revision that was rolled back", d.ID)
		}
		if out.Phase == v1alpha1.WaveHalted {
			t.Fatalf("halted, and tells %s", d.ID)
		}
		if in.Update == in.Current {
			continue
		}
		for v := begun + 1; v <= tell.Wave; v++ {
			if !in.Waves[v].Approved {
				t.Fatalf("tells %s in wave %s, which nobody has approved", d.ID, in.Waves[v].Name)
			}
			if v > 0 {
				w.wasOver(t, v-1)
			}
		}
	}
}

// wasOver checks that the devices that were told in a wave have met the threshold
// for as long as the wave soaks.
func (w *world) wasOver(t *rapid.T, v int) {
	reachable, well := 0, 0
	for _, d := range w.in.Devices {
		if d.Told != w.ref(w.in.Update) || d.ToldWave != w.in.Waves[v].Name || !d.Online || d.Held {
			continue
		}
		running := d.Reported == d.Told && d.Phase == contracts.PhaseRunning && !d.Unreadable
		moving := !running && d.Reported != d.Told && !d.Unreadable && w.in.Now.Sub(later(d.ToldAt, d.OnlineSince)) < w.in.ProgressDeadline
		if !running && !moving && (d.FailedBefore || w.in.OnFailure == v1alpha1.OnFailureContinue) {
			continue
		}
		reachable++
		if running && !w.in.Now.Before(later(d.PhaseSince, d.ToldAt).Add(w.in.Waves[v].Soak)) {
			well++
		}
	}
	if w.in.OnFailure != v1alpha1.OnFailureContinue && well < min(scaled(w.in.SuccessThreshold, reachable), reachable) {
		t.Fatalf("wave %s is taken for over with %d of %d devices well\n%+v", w.in.Waves[v].Name, well, reachable, w.in.Devices)
	}
}

// answer lets a device report what it was told.
func (w *world) answer(i int, phase contracts.Phase) {
	d := &w.in.Devices[i]
	if d.Told == (Ref{}) {
		return
	}
	if d.Reported != d.Told || d.Phase != phase {
		d.PhaseSince = w.in.Now
	}
	d.Reported, d.Phase, d.Unreadable, d.ReportedAt = d.Told, phase, false, w.in.Now
}

// happen lets something happen to a device.
func (w *world) happen(t *rapid.T, i int) {
	d := &w.in.Devices[i]
	switch rapid.IntRange(0, 11).Draw(t, "event") {
	case 0, 1, 2, 3:
		w.answer(i, contracts.PhaseRunning)
	case 4:
		w.answer(i, contracts.PhaseFailed)
	case 5:
		w.answer(i, rapid.SampledFrom([]contracts.Phase{contracts.PhasePulling, contracts.PhaseDegraded, contracts.PhaseRolledBack, contracts.PhaseRemoved}).Draw(t, "phase"))
	case 6:
		if d.Online = !d.Online; d.Online {
			d.OnlineSince = w.in.Now
		}
	case 7:
		d.Held = rapid.IntRange(0, 3).Draw(t, "held") == 0
	case 8:
		d.Matches = rapid.Uint32Range(0, 15).Draw(t, "matches")
	case 9:
		d.Unreadable = rapid.IntRange(0, 3).Draw(t, "unreadable") == 0
	case 10:
		if rapid.IntRange(0, 9).Draw(t, "leave") == 0 {
			w.in.Devices = slices.Delete(w.in.Devices, i, i+1)
		}
	}
}

// TestPlansKeepTheirPromises plays fleets in which devices answer, fail, leave,
// return, join and change their labels, revisions are pushed in the middle of
// others, and people pause and approve. Every plan is held to what package rollout
// promises; the operator is another one at each step, for it remembers nothing.
func TestPlansKeepTheirPromises(t *testing.T) {
	const want = 1_000_000
	checks := flag.Lookup("rapid.checks")
	before := checks.Value.String()
	if !testing.Short() {
		if err := checks.Value.Set("12500"); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = checks.Value.Set(before) }()
	}
	from := steps.Load()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		for range rapid.IntRange(60, 140).Draw(t, "rounds") {
			w.step(t)
			if n := len(w.in.Devices); n > 0 {
				w.happen(t, rapid.IntRange(0, n-1).Draw(t, "device"))
			}
			switch rapid.IntRange(0, 30).Draw(t, "operator") {
			case 0:
				w.push(t)
			case 1:
				w.in.Paused = !w.in.Paused
			case 2:
				w.in.Waves[rapid.IntRange(0, len(w.in.Waves)-1).Draw(t, "wave")].Approved = true
			case 3:
				w.join(t)
			case 4, 5, 6:
				w.in.Now = w.in.Now.Add(time.Duration(rapid.IntRange(1, 900).Draw(t, "seconds")) * time.Second)
			}
		}
	})
	if n := steps.Load() - from; !testing.Short() && !t.Failed() && n < want {
		t.Errorf("only %d steps of the planner, want %d", n, want)
	} else {
		t.Logf("%d steps of the planner", n)
	}
}

// settle plays on until nothing changes any more.
func (w *world) settle(t *rapid.T, phase contracts.Phase) Output {
	w.in.Paused = false
	for i := range w.in.Waves {
		w.in.Waves[i].Approved = true
	}
	// A wave whose devices have all gone without an answer waits for one.
	for i := range w.in.Devices {
		if d := &w.in.Devices[i]; !d.Online && d.Told == w.ref(w.in.Update) && d.Reported != d.Told {
			d.Online, d.OnlineSince = true, w.in.Now
		}
	}
	rounds := 4*len(w.in.Devices) + 4*len(w.in.Waves) + 8
	for range rounds {
		out := w.step(t)
		if (out.Phase == v1alpha1.WaveComplete || out.Phase == v1alpha1.WaveRolledBack) && len(out.Tell) == 0 {
			return out
		}
		for i, d := range w.in.Devices {
			if d.Online && d.Told != (Ref{}) {
				if d.Told == w.ref(w.in.Update) {
					w.answer(i, phase)
				} else {
					w.answer(i, contracts.PhaseRunning)
				}
			}
		}
		if out.Phase == v1alpha1.WaveSoaking {
			w.in.Now = later(out.Until, w.in.Now)
		}
	}
	out := Plan(w.in)
	t.Fatalf("neither complete nor rolled back after %d rounds: %+v\n%+v", rounds, out, w.in)
	return out
}

func TestTheRolloutEndsWhenDevicesAnswer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		for range rapid.IntRange(0, 20).Draw(t, "before") {
			w.step(t)
			if n := len(w.in.Devices); n > 0 {
				w.happen(t, rapid.IntRange(0, n-1).Draw(t, "device"))
			}
		}
		failed := w.in.Failed
		if out := w.settle(t, contracts.PhaseRunning); !failed && !w.in.Failed && out.Phase != v1alpha1.WaveComplete {
			t.Fatalf("the devices have answered, and it is %s", out.Phase)
		}
	})
}

func TestARollbackEndsWithTheCurrentRevisionEverywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		w.in.Current, w.in.OnFailure, w.in.SuccessThreshold = "app-r1", v1alpha1.OnFailureRollback, intstr.FromString("100%")
		taking := 0
		for i := range w.in.Devices {
			d := &w.in.Devices[i]
			w.resolve(d)
			d.Told, d.Reported, d.Phase = w.ref("app-r1"), w.ref("app-r1"), contracts.PhaseRunning
			if !d.Held && d.Online {
				taking++
			}
		}
		out := w.settle(t, contracts.PhaseRolledBack)
		if taking == 0 {
			return
		}
		if out.Phase != v1alpha1.WaveRolledBack {
			t.Fatalf("it is %s", out.Phase)
		}
		for _, d := range w.in.Devices {
			if d.Online && !d.Held && (d.Reported != w.ref("app-r1") || d.Phase != contracts.PhaseRunning) {
				t.Fatalf("it does not run the current revision: %+v", d)
			}
		}
	})
}

// TestNothingChangesByTimeAloneBeforeWake is what being driven by events rests on.
func TestNothingChangesByTimeAloneBeforeWake(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		for range rapid.IntRange(0, 30).Draw(t, "before") {
			w.step(t)
			if n := len(w.in.Devices); n > 0 {
				w.happen(t, rapid.IntRange(0, n-1).Draw(t, "device"))
			}
			w.in.Now = w.in.Now.Add(time.Duration(rapid.IntRange(0, 300).Draw(t, "seconds")) * time.Second)
		}
		out := w.step(t)
		// What was told is an event, and brings the next plan by itself.
		if len(out.Tell) > 0 {
			return
		}
		span := 100 * time.Hour
		if !out.Wake.IsZero() {
			span = out.Wake.Sub(w.in.Now) - 1
		}
		if span <= 0 {
			t.Fatalf("wakes at %v, which is not after %v", out.Wake, w.in.Now)
		}
		now := w.in.Now
		w.in.Now = now.Add(time.Duration(rapid.Int64Range(0, int64(span)).Draw(t, "wait")))
		again := Plan(w.in)
		if diff := cmp.Diff(out, again); diff != "" {
			t.Fatalf("it changes after %v, and wakes at %v of %v:\n%s", w.in.Now.Sub(now), out.Wake.Sub(now), span, diff)
		}
	})
}

func TestOfflineDevicesChangeNothingForTheOthers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		for range rapid.IntRange(0, 20).Draw(t, "before") {
			w.step(t)
			if n := len(w.in.Devices); n > 0 {
				w.happen(t, rapid.IntRange(0, n-1).Draw(t, "device"))
			}
		}
		in := w.in
		// Those that have gone with the update revision still tell how far it was.
		in.Devices = slices.DeleteFunc(slices.Clone(in.Devices), func(d Device) bool { return !d.Online && d.Told == w.ref(in.Update) })
		alone := in
		alone.Devices = slices.DeleteFunc(slices.Clone(in.Devices), func(d Device) bool { return !d.Online })
		told := func(in Input, out Output) (ids []string) {
			for _, tell := range out.Tell {
				ids = append(ids, fmt.Sprint(in.Devices[tell.Index].ID, in.Waves[tell.Wave].Name, tell.Back))
			}
			return ids
		}
		with, without := Plan(in), Plan(alone)
		if diff := cmp.Diff(told(alone, without), told(in, with)); diff != "" {
			t.Fatalf("offline devices change who is told (-without +with):\n%s", diff)
		}
		if with.Phase != without.Phase || with.Wake != without.Wake || with.Wave != without.Wave {
			t.Fatalf("offline devices change how it stands: %s with, %s without", with.Phase, without.Phase)
		}
	})
}

func TestTellingTwiceTellsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		out := w.step(t)
		if diff := cmp.Diff(Plan(w.in), Plan(w.in)); diff != "" {
			t.Fatalf("the same input gives another output:\n%s", diff)
		}
		var told []contracts.DeviceID
		for _, tell := range out.Tell {
			told = append(told, w.in.Devices[tell.Index].ID)
		}
		for _, tell := range w.step(t).Tell {
			if id := w.in.Devices[tell.Index].ID; slices.Contains(told, id) {
				t.Fatalf("%s is told twice", id)
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
