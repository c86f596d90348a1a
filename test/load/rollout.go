package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/env"
)

// told counts an order that a device has taken in.
func (l *load) told(_ contracts.DeviceID, o contracts.Order) {
	if o.Desired == nil {
		return
	}
	l.expect(o.Desired.Revision).add()
	if hold := l.hold.Load(); hold != nil {
		<-*hold
	}
}

// expect is the count of a revision.
func (l *load) expect(revision string) *count {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.received[revision] == nil {
		l.received[revision] = newCount(len(l.turns.there()))
	}
	return l.received[revision]
}

func (l *load) deployment(n int, version string) *v1alpha1.Deployment {
	d := &v1alpha1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("load-%d", n)}}
	d.Spec.TargetSelector.MatchLabels = map[string]string{"fleet": "load"}
	d.Spec.Rollout.MaxUnavailable = new(intstr.FromString("100%"))
	// Longer than any device waits for its turn.
	d.Spec.Rollout.ProgressDeadline = &metav1.Duration{Duration: 24 * time.Hour}
	d.Spec.Score.Podman = &v1alpha1.PodmanScore{Containers: []v1alpha1.Container{{
		Name: "app", Image: fmt.Sprintf("registry.example.com/app-%d:%s", n, version),
		// As much as a workload has: an order is about 1 KiB then.
		Env: []v1alpha1.EnvVar{{Name: "SETTINGS", Value: strings.Repeat("x", 300)}},
	}}}
	return d
}

func (l *load) deploy(ctx context.Context) error {
	begun := time.Now()
	for n := range l.deployments {
		if err := l.fleet.Client.Create(ctx, l.deployment(n+1, "v1")); err != nil {
			return err
		}
	}
	if err := l.everybody(ctx, func(ctx context.Context, had int) error { return l.complete(ctx, l.deployments*(l.devices-had)) }); err != nil {
		return err
	}
	l.add(figure{Name: "all Deployments of all devices, from the first object to the last status", Value: time.Since(begun).Seconds(), Unit: "s"})
	return nil
}

// complete waits until Deployments say that all placements have succeeded, but for so many of
// devices that have not had their turn.
func (l *load) complete(ctx context.Context, missing int) error {
	return l.until(ctx, 20*time.Minute, "placements succeeded", func(ctx context.Context) (int, int, error) {
		list := &v1alpha1.DeploymentList{}
		if err := l.fleet.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return 0, 0, err
		}
		succeeded := 0
		for _, d := range list.Items {
			if a := d.Status.Aggregate; a != nil && d.Status.ObservedGeneration == d.Generation && a.Updated == a.Matched {
				succeeded += int(a.Succeeded)
			}
		}
		return succeeded, l.deployments*l.devices - missing, nil
	})
}

// settleAfter waits until the operator has nothing more to write, and says how much it
// has written since that was last so.
func (l *load) settleAfter(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		before, last := l.settled, time.Now()
		err := env.Until(ctx, 30*time.Minute, "the API server is left alone", func(ctx context.Context) error {
			now, err := l.apiWrites(ctx)
			if err != nil {
				return err
			}
			if now != l.settled {
				l.settled, last = now, time.Now()
			}
			if since := time.Since(last); since < quietTime {
				return fmt.Errorf("the last write was %s ago", since)
			}
			return nil
		})
		l.add(figure{Name: name, Value: (l.settled - before) / float64(l.devices)})
		return err
	}
}

// quietTime is for how long nothing is written when nothing is left to be.
const quietTime = 3 * time.Second

// change rolls out another image of the first Deployment and times the way: until all
// devices are told, have received it, and are said to run it. What devices do then they do
// in the field with processors of their own: here they begin when all have received it.
func (l *load) change(ctx context.Context) error {
	hold := make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	defer release()
	l.hold.Store(&hold)
	defer l.hold.Store(nil)
	before, err := l.lastOrder(ctx)
	if err != nil {
		return err
	}
	operator, err := usageOf(l.fleet.Operator.PID())
	if err != nil {
		return err
	}
	begun := time.Now()
	l.changes++
	if err := l.edit(ctx, l.version(fmt.Sprint("change-", l.changes), "100%")); err != nil {
		return err
	}
	first := begun
	var told time.Duration
	if err := l.until(ctx, 10*time.Minute, "devices told", func(ctx context.Context) (int, int, error) {
		last, err := l.lastOrder(ctx)
		if err != nil {
			return 0, 0, err
		}
		n := int(last - before)
		if told = time.Since(begun); n == 0 {
			first = time.Now() // the last moment at which nobody was told
		}
		return n, l.devices, nil
	}); err != nil {
		return err
	}
	d, err := l.first(ctx)
	if err != nil {
		return err
	}
	revision := d.Status.UpdateRevision
	if err := l.expect(revision).await(ctx, 10*time.Minute, "devices have received "+revision); err != nil {
		return err
	}
	received := time.Since(begun)
	release()
	if err := l.complete(ctx, l.devices-len(l.turns.there())); err != nil {
		return err
	}
	after, err := usageOf(l.fleet.Operator.PID())
	if err != nil {
		return err
	}
	who := "all devices"
	if len(l.turns.lots) > 1 {
		who = "all that are connected"
	}
	l.add(figure{Name: "one change: from the API server's answer until the first device is told", Value: first.Sub(begun).Seconds(), Unit: "s"})
	rate := float64(l.devices) / (told - first.Sub(begun)).Seconds()
	l.add(figure{Name: "one change: devices told from then on", Value: rate, Unit: "/s", Raw: l.raw.publish, RawName: "published"}.atLeast(l.raw.publish/2, "≥ 50 % of raw"))
	l.add(figure{Name: "one change: " + who + " have received it", Value: received.Seconds(), Unit: "s", Raw: l.raw.received.Seconds()}.atMost(2*l.raw.received.Seconds(), "≤ 2 × raw"))
	l.add(figure{Name: "one change: its status says that " + who + " run it", Value: time.Since(begun).Seconds(), Unit: "s"})
	l.add(figure{Name: "one change: the operator's CPU for each device", Value: float64((after.cpu - operator.cpu).Microseconds()) / float64(l.devices), Unit: "µs"})
	return nil
}

// catchUp has those that were away during the last change run it.
func (l *load) catchUp(ctx context.Context) error {
	return l.everybody(ctx, func(ctx context.Context, had int) error { return l.complete(ctx, l.devices-had) })
}

// check looks at every aggregate.
func (l *load) check(ctx context.Context) error {
	list := &v1alpha1.DeploymentList{}
	if err := l.fleet.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return err
	}
	n := int32(l.devices)
	want := v1alpha1.Aggregate{Matched: n, Updated: n, Succeeded: n}
	for _, d := range list.Items {
		if d.Status.Aggregate == nil || *d.Status.Aggregate != want {
			return fmt.Errorf("deployment %s says %+v, want %+v", d.Name, d.Status.Aggregate, want)
		}
		if !meta.IsStatusConditionTrue(d.Status.Conditions, "Ready") {
			return fmt.Errorf("deployment %s is not Ready: %+v", d.Name, d.Status.Conditions)
		}
	}
	if len(list.Items) != l.deployments {
		return fmt.Errorf("there are %d Deployments, want %d", len(list.Items), l.deployments)
	}
	return nil
}
