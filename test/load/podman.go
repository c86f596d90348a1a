package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// pushes is how often a new version is pushed to the devices with podman.
const pushes = 5

// devicesWithPodman are the last step, because they count as online.
func (l *load) devicesWithPodman() []step {
	if !l.podman {
		return nil
	}
	return []step{{"git push to three devices with podman", l.podmans}}
}

// podmans brings up devices with podman beside the simulated ones, which go on, and has
// Flux deliver to them from Git.
func (l *load) podmans(ctx context.Context) error {
	version := func(n int) string { return fmt.Sprint("v", n) }
	image := ""
	for v := pushes + 1; v > 0; v-- {
		var err error
		if image, err = l.fleet.PushHello(ctx, version(v)); err != nil {
			return err
		}
	}
	if err := l.fleet.Scaffold(ctx, image); err != nil {
		return err
	}
	if _, err := l.fleet.Repository.Push(ctx, "Begin the fleet"); err != nil {
		return err
	}
	if err := l.fleet.Sync(ctx); err != nil {
		return err
	}
	if err := l.fleet.JoinDevices(ctx); err != nil {
		return err
	}
	if err := l.fleet.AllServe(ctx, version(1)); err != nil {
		return err
	}
	var took []time.Duration
	for v := 1; v <= pushes; v++ {
		delivery, err := l.fleet.Deliver(ctx, version(v), version(v+1))
		if err != nil {
			return err
		}
		took = append(took, delivery.Total)
	}
	l.add(figure{Name: "git push until three devices with podman serve it, p50", Value: quantile(took, 0.5).Seconds(), Unit: "s", Spread: (slices.Max(took) - slices.Min(took)).Seconds()}.atMost(3, "≤ 3 s").ofAny())
	pids := make([]int, len(l.fleet.Devices))
	for n, d := range l.fleet.Devices {
		pids[n] = d.Agent.PID()
	}
	used, err := l.measure(ctx, pids...)
	if err != nil {
		return err
	}
	var cores float64
	var resident int64
	for _, u := range used {
		cores += u.cores / float64(len(used))
		resident = max(resident, u.resident)
	}
	l.add(figure{Name: "an agent with one container: memory", Value: float64(resident) / mib, Unit: "MiB"}.atMost(25, "≤ 25 MiB").ofAny())
	// Of these, and not of an agent at rest, which there is a budget for.
	l.add(figure{Name: "… CPU, a heartbeat each 2 s and a probe each second", Value: 100 * cores, Unit: "% of a core"})
	return nil
}
