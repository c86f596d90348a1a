package main

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/contracts"
)

// crashesPerSecond is how many containers end in a second while reports are measured. Each
// makes its device report several times.
const crashesPerSecond = 400

// reports ends containers, whose devices report it and start them again, and times the way
// of each report: to a bare consumer of the bus, and to one who watches placements through
// the API server.
func (l *load) reports(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	list := &live.PlacementList{}
	if err := l.fleet.Client.List(ctx, list, client.InNamespace(namespace), client.Limit(1)); err != nil {
		return err
	}
	w, err := l.fleet.Client.Watch(ctx, &live.PlacementList{}, client.InNamespace(namespace), &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}})
	if err != nil {
		return err
	}
	defer w.Stop()
	// Of each report, when it was sent and when it came to either place.
	ways := map[string]*way{}
	of := func(placement, phase, reason string, restarts int64) *way {
		key := fmt.Sprint(placement, phase, reason, restarts)
		if ways[key] == nil {
			ways[key] = &way{}
		}
		return ways[key]
	}
	type heard struct {
		contracts.DeploymentState
		device string
		at     time.Time
	}
	var reported atomic.Int64
	onBus := make(chan heard, 1<<16)
	consumer, err := l.states.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy})
	if err != nil {
		return err
	}
	reading, err := consumer.Consume(func(m jetstream.Msg) {
		now := time.Now()
		key, _ := contracts.BucketDeviceState.KeyOf(m.Subject())
		id, _, err := contracts.ParseDeviceStateKey(key)
		s, bad := contracts.DecodeDeploymentState(m.Data())
		if err == nil && bad == nil {
			reported.Add(1)
			onBus <- heard{s, string(id), now}
		}
	})
	if err != nil {
		return err
	}
	defer reading.Stop()
	ended := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case h := <-onBus:
				of(h.device+"."+string(h.Deployment), string(h.Phase), h.Reason, h.Restarts).report(h.Time, h.at)
			case e, ok := <-w.ResultChan():
				if !ok || e.Type == watch.Error {
					ended <- fmt.Errorf("the watch of placements has ended: %+v", e.Object)
					return
				}
				if p, ok := e.Object.(*live.Placement); ok {
					of(p.Name, p.Status.Phase, p.Status.Reason, p.Status.Restarts).see(time.Now())
				}
			case <-stop:
				ended <- nil
				return
			}
		}
	}()
	begun := time.Now()
	tick := time.NewTicker(time.Second / crashesPerSecond)
	defer tick.Stop()
	there := l.turns.there()
	placements := len(there) * l.deployments
	for n := 0; time.Since(begun) < l.duration && n < placements; n++ {
		there[n%len(there)].Crash(contracts.DeploymentName(fmt.Sprintf("load-%d", n/len(there)+1)))
		select {
		case <-tick.C:
		case err := <-ended:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	took := time.Since(begun)
	during := float64(reported.Load())
	if err := l.complete(ctx, 0); err != nil {
		return err
	}
	reading.Stop()
	close(stop)
	if err := <-ended; err != nil {
		return err
	}
	var stored, visible []time.Duration
	for _, w := range ways {
		if !w.sent.IsZero() && !w.seen.IsZero() {
			stored, visible = append(stored, w.heard.Sub(w.sent)), append(visible, w.seen.Sub(w.sent))
		}
	}
	if len(visible) == 0 {
		return fmt.Errorf("none of %d reports was seen", reported.Load())
	}
	l.add(figure{Name: "reports while containers end: from the devices", Value: during / took.Seconds(), Unit: "/s"})
	for _, q := range []float64{0.5, 0.99} {
		f := figure{Name: fmt.Sprintf("a report until it is seen in a watch, p%.0f", 100*q), Value: milliseconds(quantile(visible, q)), Unit: "ms", Raw: milliseconds(quantile(stored, q)), RawName: "on the bus"}
		if q == 0.99 {
			f = f.atMost(250, "≤ 250 ms at 1,000 reports/s")
		}
		l.add(f)
	}
	return nil
}

// way of a report: when the device sent it, and when it was on the bus and in the watch.
type way struct{ sent, heard, seen time.Time }

func (w *way) report(sent, heard time.Time) {
	if w.sent.IsZero() {
		w.sent, w.heard = sent, heard
	}
}

func (w *way) see(at time.Time) {
	if w.seen.IsZero() {
		w.seen = at
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// quantile of measurements; it sorts them.
func quantile(of []time.Duration, q float64) time.Duration {
	slices.Sort(of)
	return of[int(q*float64(len(of)-1))]
}
