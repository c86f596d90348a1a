package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/test/env"
)

// storms are what happens to a whole fleet at once. The last one leaves another operator.
func (l *load) storms() []step {
	switch {
	case !l.options.storms:
		return nil
	case l.connected < l.devices:
		l.progress.Say("Storms are left out: they are of a whole fleet, and of this one %d devices are connected at a time.", l.connected)
		return nil
	}
	return []step{
		{"storm: a Deployment is edited 20 times in 10 s", l.edits},
		{"storm: a Deployment fails on every device", l.failures},
		{"storm: NATS starts anew", l.natsRestarts},
		{"storm: the operator is followed by another", l.failOver},
	}
}

// first is the first Deployment as it is now.
func (l *load) first(ctx context.Context) (*v1alpha1.Deployment, error) {
	d := &v1alpha1.Deployment{}
	return d, l.fleet.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "load-1"}, d)
}

// edit changes the first Deployment, and returns when the API server has taken it.
func (l *load) edit(ctx context.Context, change func(*v1alpha1.Deployment)) error {
	d, err := l.first(ctx)
	if err != nil {
		return err
	}
	written := d.DeepCopy()
	change(d)
	return l.fleet.Client.Patch(ctx, d, client.MergeFrom(written))
}

// version has the first Deployment run that version of its image, on at most that many
// devices at a time.
func (l *load) version(version, unavailable string) func(*v1alpha1.Deployment) {
	return func(d *v1alpha1.Deployment) {
		d.Spec.Score = l.deployment(1, version).Spec.Score
		d.Spec.Rollout.MaxUnavailable = new(intstr.FromString(unavailable))
	}
}

func (l *load) lastOrder(ctx context.Context) (uint64, error) {
	info, err := l.desired.Info(ctx)
	if err != nil {
		return 0, err
	}
	return info.State.LastSeq, nil
}

// edits has somebody who can't make up their mind. A tenth of the devices may be between
// revisions at a time, as is usual.
func (l *load) edits(ctx context.Context) error {
	const edits, every = 20, 500 * time.Millisecond
	before, err := l.lastOrder(ctx)
	if err != nil {
		return err
	}
	begun := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := range edits {
		if err := l.edit(ctx, l.version(fmt.Sprint("edit-", n), "10%")); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	during, err := l.lastOrder(ctx)
	if err != nil {
		return err
	}
	if err := l.complete(ctx, 0); err != nil {
		return err
	}
	after, err := l.lastOrder(ctx)
	if err != nil {
		return err
	}
	l.add(figure{Name: "20 edits in 10 s: orders for each device, meanwhile", Value: float64(during-before) / float64(l.devices)})
	l.add(figure{Name: "20 edits in 10 s: orders for each device, in all", Value: float64(after-before) / float64(l.devices), Raw: edits, RawName: "edits"}.
		atMost(edits/2, "most get the last only"))
	l.add(figure{Name: "20 edits in 10 s: until all devices run the last", Value: time.Since(begun).Seconds(), Unit: "s"})
	return nil
}

// failures has every device fail at the same time, and then mends it.
func (l *load) failures(ctx context.Context) error {
	writes, err := l.apiWrites(ctx)
	if err != nil {
		return err
	}
	operator, err := usageOf(l.fleet.Operator.PID())
	if err != nil {
		return err
	}
	reports, err := l.states.Info(ctx)
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := l.edit(ctx, func(d *v1alpha1.Deployment) {
		l.version("bad", "100%")(d)
		// So that they say it soon.
		d.Spec.Rollout.ProgressDeadline = &metav1.Duration{Duration: 10 * time.Second}
	}); err != nil {
		return err
	}
	if err := l.until(ctx, 20*time.Minute, "devices have failed", func(ctx context.Context) (int, int, error) {
		d, err := l.first(ctx)
		if err != nil {
			return 0, 0, err
		}
		if d.Status.Aggregate == nil || d.Status.ObservedGeneration != d.Generation {
			return 0, l.devices, nil
		}
		return int(d.Status.Aggregate.Failed), l.devices, nil
	}); err != nil {
		return err
	}
	took := time.Since(begun)
	after, err := usageOf(l.fleet.Operator.PID())
	if err != nil {
		return err
	}
	reported, err := l.states.Info(ctx)
	if err != nil {
		return err
	}
	written, err := l.apiWrites(ctx)
	if err != nil {
		return err
	}
	l.add(figure{Name: "every device fails: until its status says so", Value: took.Seconds(), Unit: "s"})
	l.add(figure{Name: "every device fails: reports", Value: float64(reported.State.LastSeq-reports.State.LastSeq) / took.Seconds(), Unit: "/s"})
	l.add(figure{Name: "every device fails: the operator's CPU", Value: 100 * after.cores(operator), Unit: "% of a core"})
	l.add(figure{Name: "every device fails: writes to the API server for each device", Value: (written - writes) / float64(l.devices)})
	begun = time.Now()
	if err := l.edit(ctx, l.version("mended", "100%")); err != nil {
		return err
	}
	if err := l.complete(ctx, 0); err != nil {
		return err
	}
	l.add(figure{Name: "every device fails: until all are mended", Value: time.Since(begun).Seconds(), Unit: "s"})
	return nil
}

// natsRestarts has every device connect again at once.
func (l *load) natsRestarts(ctx context.Context) error {
	if err := l.fleet.ControlPlane.Control(ctx, "kill", "nats"); err != nil {
		return err
	}
	begun := time.Now()
	if err := l.fleet.ControlPlane.Control(ctx, "start", "nats"); err != nil {
		return err
	}
	fewest := l.devices
	if err := l.until(ctx, 20*time.Minute, "devices connected again", func(ctx context.Context) (int, int, error) {
		online, err := l.online(ctx)
		if err != nil {
			return 0, 0, err
		}
		fewest = min(fewest, online)
		connected, err := l.admitted(ctx)
		return connected, l.devices, err
	}); err != nil {
		return err
	}
	took := time.Since(begun)
	l.add(figure{Name: "NATS starts anew: until all are connected again", Value: took.Seconds(), Unit: "s"})
	l.add(figure{Name: "NATS starts anew: connections", Value: float64(l.devices) / took.Seconds(), Unit: "/s"})
	l.add(figure{Name: "NATS starts anew: devices taken for offline meanwhile", Value: float64(max(0, l.devices-fewest))})
	// What a fleet is there for goes on.
	if err := l.edit(ctx, l.version("after-nats", "100%")); err != nil {
		return err
	}
	if err := l.complete(ctx, 0); err != nil {
		return err
	}
	l.add(figure{Name: "NATS starts anew: until a change made then runs on all devices", Value: time.Since(begun).Seconds(), Unit: "s"})
	return nil
}

// admitted is how many devices the NATS server has let in: they alone are in their account.
// https://docs.nats.io/running-a-nats-service/nats_admin/monitoring#account-statistics
func (l *load) admitted(ctx context.Context) (int, error) {
	data, err := get(ctx, l.fleet.ControlPlane.NATSMonitor+"/accstatz?unused=1")
	if err != nil {
		return 0, err
	}
	var stats server.AccountStatz
	if err := json.Unmarshal(data, &stats); err != nil {
		return 0, fmt.Errorf("decode what the NATS server says of its accounts: %w", err)
	}
	for _, a := range stats.Accounts {
		if a.Account == bus.AccountDevices {
			return a.Conns, nil
		}
	}
	return 0, fmt.Errorf("the NATS server has no account %s", bus.AccountDevices)
}

// failOver kills the operator that a second one waits for.
func (l *load) failOver(ctx context.Context) error {
	if err := l.fleet.StartStandby(ctx); err != nil {
		return err
	}
	before, err := l.lastOrder(ctx)
	if err != nil {
		return err
	}
	l.fleet.Operator.Kill()
	begun := time.Now()
	if err := l.edit(ctx, l.version("after-operator", "100%")); err != nil {
		return err
	}
	if err := env.Until(ctx, 5*time.Minute, "the second operator tells the first device", func(ctx context.Context) error {
		last, err := l.lastOrder(ctx)
		if err == nil && last == before {
			err = fmt.Errorf("nobody is told anything after %s", time.Since(begun).Round(time.Second))
		}
		return err
	}); err != nil {
		return err
	}
	// The Lease of the one that was killed lasts for 4 s.
	l.add(figure{Name: "the operator is killed: until another tells the first device", Value: time.Since(begun).Seconds(), Unit: "s"})
	if err := l.complete(ctx, 0); err != nil {
		return err
	}
	l.add(figure{Name: "the operator is killed: until a change made then runs on all devices", Value: time.Since(begun).Seconds(), Unit: "s"})
	return nil
}
