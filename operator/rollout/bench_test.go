package rollout

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
)

// BenchmarkPlan plans 100,000 devices in the last wave of a rollout. The raw limit
// beside it only walks over them.
func BenchmarkPlan(b *testing.B) {
	const n = 100_000
	one, tenth := intstr.FromInt32(1), intstr.FromString("10%")
	in := Input{Update: r2.Revision, Current: r1.Revision, MaxUnavailable: intstr.FromString("25%"), SuccessThreshold: intstr.FromString("99%"),
		OnFailure: v1alpha1.OnFailureRollback, ProgressDeadline: 10 * time.Minute, Now: t0,
		Waves: []Wave{{Name: "canary", Limit: &one, Soak: time.Hour, Approved: true}, {Name: "tenth", Limit: &tenth, Soak: time.Hour, Approved: true},
			{Name: v1alpha1.RestWave, Approved: true}}}
	for i := range n {
		told := r1
		if i%2 == 0 {
			told = r2
		}
		d := at(fmt.Sprintf("device-%06d", i), told, contracts.PhaseRunning)
		d.Back, d.Matches = r1.Digest, ^uint32(0)
		if told == r2 {
			d.ToldWave = in.Waves[min(i, 2)].Name
		}
		in.Devices = append(in.Devices, d)
	}
	b.Run("plan", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if out := Plan(in); len(out.Tell) != n/4 {
				b.Fatalf("tells %d", len(out.Tell))
			}
		}
	})
	b.Run("raw", func(b *testing.B) {
		b.ReportAllocs()
		online := 0
		for b.Loop() {
			for i := range in.Devices {
				if in.Devices[i].Online && in.Devices[i].Told == in.Devices[i].Reported {
					online++
				}
			}
		}
	})
}
