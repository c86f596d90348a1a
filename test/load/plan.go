package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/rollout"
)

// plan has the planner decide on a Deployment of as many devices in the middle of its
// rollout; at best it would only walk over them.
func (l *load) plan(context.Context) error {
	before, now := rollout.Ref{Revision: "app-1", Digest: "0123456789abcdef"}, rollout.Ref{Revision: "app-2", Digest: "fedcba9876543210"}
	in := rollout.Input{
		Update: now.Revision, Current: before.Revision, Number: 2, MaxUnavailable: intstr.FromString("25%"), SuccessThreshold: intstr.FromString("99%"),
		OnFailure: v1alpha1.OnFailureHalt, ProgressDeadline: 10 * time.Minute, Now: time.Now(),
		Waves: []rollout.Wave{{Name: v1alpha1.RestWave, Approved: true}},
	}
	for n := range l.devices {
		d := rollout.Device{
			ID: contracts.DeviceID(fmt.Sprintf("load-%06d", n)), Want: now.Digest, Back: before.Digest, Told: before, Reported: before, ToldNumber: 1,
			ToldWave: v1alpha1.RestWave, ToldAt: in.Now, ReportedAt: in.Now, PhaseSince: in.Now, OnlineSince: in.Now, Phase: contracts.PhaseRunning, Online: true, Matches: 1,
		}
		if n%2 == 0 {
			d.Told, d.Reported, d.ToldNumber = now, now, in.Number
		}
		in.Devices = append(in.Devices, d)
	}
	best, walk := time.Hour, time.Hour
	for range 5 {
		begun := time.Now()
		out := rollout.Plan(in)
		best = min(best, time.Since(begun))
		if int(out.Counts.Matched) != l.devices || len(out.Tell) == 0 && l.devices > 1 {
			return fmt.Errorf("the planner matches %d of %d devices and tells %d", out.Counts.Matched, l.devices, len(out.Tell))
		}
		begun = time.Now()
		told := 0
		for i := range in.Devices {
			if in.Devices[i].Told == in.Devices[i].Reported {
				told++
			}
		}
		walk = min(walk, time.Since(begun))
		if told != l.devices {
			return fmt.Errorf("%d of %d devices have what they were told", told, l.devices)
		}
	}
	l.add(figure{Name: "the planner: one plan", Value: milliseconds(best), Unit: "ms", Raw: milliseconds(walk), RawName: "to walk over them"}.atMost(20, "≤ 20 ms").ofLarge())
	agent, err := os.Stat(filepath.Join(l.bin, "fleet-agent"))
	if err != nil {
		return err
	}
	l.add(figure{Name: "the agent's binary", Value: float64(agent.Size()) / mib, Unit: "MiB"}.atMost(25, "≤ 25 MiB").ofAny())
	return nil
}
