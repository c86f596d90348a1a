package rollout

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/nationtech/fleet/contracts"
)

// BenchmarkPlan plans 100,000 devices in the middle of a rollout. The raw limit
// beside it only walks over them.
func BenchmarkPlan(b *testing.B) {
	const n = 100_000
	in := Input{Update: r2.Revision, Since: t0, MaxUnavailable: intstr.FromString("25%"), ProgressDeadline: 10 * time.Minute, Now: t0}
	for i := range n {
		told := r1
		if i%2 == 0 {
			told = r2
		}
		in.Devices = append(in.Devices, at(fmt.Sprintf("device-%06d", i), told, contracts.PhaseRunning))
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
