package rollout

import (
	"reflect"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var (
	r1 = Ref{Revision: "app-r1", Digest: "d1"}
	r2 = Ref{Revision: "app-r2", Digest: "d2"}
)

// at is an online device that was told r and says what phase says of it.
func at(id string, r Ref, phase contracts.Phase) Device {
	return Device{ID: contracts.DeviceID(id), Want: r2.Digest, Online: true,
		Told: r, ToldAt: t0, Reported: r, ReportedAt: t0, Phase: phase}
}

func with(d Device, change func(*Device)) Device {
	change(&d)
	return d
}

// only is a rollout without waves.
var only = []Wave{{Name: v1alpha1.RestWave, Approved: true}}

// indices of what is told the update revision.
func indices(tells []Tell) (out []int) {
	for _, t := range tells {
		if !t.Back {
			out = append(out, t.Index)
		}
	}
	return out
}

func TestPlan(t *testing.T) {
	healthy := func(id string) Device { return at(id, r1, contracts.PhaseRunning) }
	done := func(id string) Device { return at(id, r2, contracts.PhaseRunning) }
	moving := func(id string) Device {
		return with(healthy(id), func(d *Device) { d.Told = r2 })
	}
	offline := func(d *Device) { d.Online = false }
	tests := []struct {
		name    string
		devices []Device
		max     intstr.IntOrString
		paused  bool
		after   time.Duration
		tell    []int
		phase   v1alpha1.WavePhase
		reason  string
	}{
		{"as many are told as the budget allows", []Device{healthy("a"), healthy("b"), healthy("c")}, intstr.FromInt32(2), false, 0,
			[]int{0, 1}, v1alpha1.WaveProgressing, ""},
		{"a percentage is rounded up", []Device{healthy("a"), healthy("b"), healthy("c")}, intstr.FromString("34%"), false, 0,
			[]int{0, 1}, v1alpha1.WaveProgressing, ""},
		{"a device on its way uses the budget", []Device{moving("a"), healthy("b")}, intstr.FromInt32(1), false, 0,
			nil, v1alpha1.WaveProgressing, ""},
		{"a new device is told what all run", []Device{done("a"), {ID: "b", Want: r2.Digest, Online: true}}, intstr.FromInt32(1), false, 0,
			[]int{1}, v1alpha1.WaveProgressing, ""},
		{"offline device does not hold the rollout", []Device{done("a"), with(healthy("b"), offline)}, intstr.FromInt32(1), false, 0,
			nil, v1alpha1.WaveComplete, ""},
		{"a device told and then gone uses its budget until its deadline", []Device{with(moving("a"), offline), healthy("b")}, intstr.FromInt32(1), false, 0,
			nil, v1alpha1.WaveStalled, v1alpha1.ReasonProgressDeadlineExceeded},
		{"and frees it then", []Device{with(moving("a"), offline), healthy("b")}, intstr.FromInt32(1), false, 10 * time.Minute,
			[]int{1}, v1alpha1.WaveProgressing, ""},
		{"paused tells nobody", []Device{healthy("a")}, intstr.FromInt32(1), true, 0,
			nil, v1alpha1.WavePaused, ""},
		{"a broken device uses the budget but gets the fix", []Device{at("a", r1, contracts.PhaseFailed), healthy("b")}, intstr.FromInt32(1), false, 0,
			[]int{0}, v1alpha1.WaveProgressing, ""},
		{"failures that use up the budget stall", []Device{at("a", r2, contracts.PhaseFailed), healthy("b")}, intstr.FromInt32(1), false, 0,
			nil, v1alpha1.WaveStalled, v1alpha1.ReasonDevicesFailed},
		{"one failure does not stop what the budget allows", []Device{at("a", r2, contracts.PhaseFailed), healthy("b")}, intstr.FromInt32(2), false, 0,
			[]int{1}, v1alpha1.WaveProgressing, ""},
		{"silence beyond the deadline stalls", []Device{moving("a")}, intstr.FromInt32(1), false, time.Hour,
			nil, v1alpha1.WaveStalled, v1alpha1.ReasonProgressDeadlineExceeded},
		{"a cordoned device keeps what it has and holds nothing", []Device{done("a"), with(healthy("b"), func(d *Device) { d.Held = true })}, intstr.FromInt32(1), false, 0,
			nil, v1alpha1.WaveComplete, ""},
		{"a device whose report can't be read is not told for free", []Device{moving("a"), with(done("b"), func(d *Device) { d.Told = Ref{}; d.Unreadable = true })}, intstr.FromInt32(1), false, 0,
			nil, v1alpha1.WaveProgressing, ""},
		{"a device that runs it already is told for free", []Device{with(done("a"), func(d *Device) { d.Told = r1; d.Reported = r2 }), healthy("b")}, intstr.FromInt32(1), false, 0,
			[]int{0}, v1alpha1.WaveProgressing, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := Plan(Input{Update: r2.Revision, Current: r1.Revision, Waves: only, Devices: tt.devices, MaxUnavailable: tt.max, OnFailure: v1alpha1.OnFailureContinue,
				SuccessThreshold: intstr.FromString("100%"), ProgressDeadline: 10 * time.Minute, Paused: tt.paused, Now: t0.Add(tt.after)})
			if got := indices(out.Tell); !reflect.DeepEqual(got, tt.tell) {
				t.Errorf("tells %v, want %v", got, tt.tell)
			}
			if out.Phase != tt.phase || out.Reason != tt.reason {
				t.Errorf("phase %s %q, want %s %q", out.Phase, out.Reason, tt.phase, tt.reason)
			}
			c := out.Counts
			if sum := c.Succeeded + c.Failed + c.Pending + c.Offline; sum != c.Matched {
				t.Errorf("the counts add up to %d of %d: %+v", sum, c.Matched, c)
			}
		})
	}
}
