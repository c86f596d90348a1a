package main

import (
	"context"
	"os"
	"time"
)

// steady measures heartbeats alone.
func (l *load) steady(ctx context.Context) error {
	nats, err := l.fleet.ControlPlane.NATSPID()
	if err != nil {
		return err
	}
	used, err := l.measure(ctx, l.fleet.Operator.PID(), nats, os.Getpid())
	if err != nil {
		return err
	}
	operator := used[0]
	l.add(figure{Name: "heartbeats: the operator's CPU", Value: 100 * operator.cores, Unit: "% of a core"}.atMost(15, "≤ 15 %").ofLarge())
	l.add(figure{Name: "heartbeats: the operator's memory", Value: float64(operator.resident) / mib, Unit: "MiB"}.atMost(1024, "≤ 1 GiB").ofLarge())
	l.add(figure{Name: "heartbeats: the NATS server's memory", Value: float64(used[1].resident) / mib, Unit: "MiB"})
	l.add(figure{Name: "heartbeats: the devices' CPU", Value: 100 * used[2].cores, Unit: "% of a core"})
	l.busy = used[1].cores
	return nil
}

// spent is what a process used in the steady state.
type spent struct {
	cores    float64
	resident int64
}

// measure is what each process uses while nothing is done with the fleet.
func (l *load) measure(ctx context.Context, pids ...int) ([]spent, error) {
	before := make([]usage, len(pids))
	for i, pid := range pids {
		var err error
		if before[i], err = usageOf(pid); err != nil {
			return nil, err
		}
	}
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(l.duration): // what is measured is this time
	}
	used := make([]spent, len(pids))
	for i, pid := range pids {
		after, err := usageOf(pid)
		if err != nil {
			return nil, err
		}
		used[i] = spent{after.cores(before[i]), after.resident}
	}
	return used, nil
}

func (l *load) status(ctx context.Context) error {
	begun := time.Now()
	if _, err := l.fleet.Kubectl(ctx, "status", "--namespace", namespace); err != nil {
		return err
	}
	l.add(figure{Name: "kubectl fleet status", Value: time.Since(begun).Seconds(), Unit: "s"}.atMost(1, "≤ 1 s").ofLarge())
	return nil
}

// alone measures what the NATS server uses when no operator listens.
func (l *load) alone(ctx context.Context) error {
	l.fleet.Operator.Kill()
	nats, err := l.fleet.ControlPlane.NATSPID()
	if err != nil {
		return err
	}
	used, err := l.measure(ctx, nats)
	if err != nil {
		return err
	}
	alone := used[0].cores
	l.add(figure{Name: "heartbeats: the NATS server's CPU", Value: 100 * l.busy, Unit: "% of a core", Raw: 100 * alone, RawName: "without operator"}.
		atMost(150*alone, "≤ 1.5 × without operator"))
	return nil
}

func (l *load) coldStart(ctx context.Context) error {
	l.fleet.Operator.Kill()
	begun := time.Now()
	if err := l.fleet.StartOperator(ctx); err != nil {
		return err
	}
	l.add(figure{Name: "the operator starts: a complete view", Value: time.Since(begun).Seconds(), Unit: "s"}.atMost(15, "≤ 15 s").ofLarge())
	return nil
}
