package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/env"
	"github.com/nationtech/fleet/test/simulated"
)

func (l *load) bringUp(ctx context.Context) (err error) {
	bin, err := filepath.Abs(l.bin)
	if err != nil {
		return err
	}
	addr, err := env.FreeAddr()
	if err != nil {
		return err
	}
	var ids []string
	if l.podman {
		ids = []string{"shop-1", "shop-2", "shop-3"}
	}
	if l.fleet, err = env.New(env.Options{Dir: l.dir, Bin: bin, MetricsAddr: addr, Lease: l.lease()}, ids...); err != nil {
		return err
	}
	if err := l.fleet.StartControlPlane(ctx); err != nil {
		return err
	}
	if err := l.fleet.InstallOperator(ctx, l.manifests); err != nil {
		return err
	}
	if err := l.fleet.Client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		return err
	}
	l.conn, err = bus.Connect(bus.Options{URL: l.fleet.ControlPlane.NATS, SeedFile: l.fleet.OperatorSeed(), CAFile: l.fleet.CAFile(), Name: "fleet-load", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	js, err := bus.JetStream(l.conn)
	if err != nil {
		return err
	}
	if l.desired, err = js.Stream(ctx, contracts.BucketDesiredState.Stream()); err != nil {
		return err
	}
	l.states, err = js.Stream(ctx, contracts.BucketDeviceState.Stream())
	return err
}

// createDevices makes the Devices as Git would, with the operator away, and then changes
// the status of some of them: what the API server does at best. Those that get Ready are
// counted for as long as the run lasts.
func (l *load) createDevices(ctx, run context.Context) (err error) {
	l.fleet.Operator.Stop(10 * time.Second)
	l.devs = make([]*simulated.Agent, l.devices)
	l.turns.lots = slices.Collect(slices.Chunk(l.devs, l.connected))
	begun := time.Now()
	if err = l.each(ctx, len(l.devs), "made", func(ctx context.Context, n int) (err error) {
		if l.devs[n], err = simulated.NewAgent(contracts.DeviceID(fmt.Sprintf("load-%06d", n))); err != nil {
			return err
		}
		d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: string(l.devs[n].ID), Labels: map[string]string{"fleet": "load"}}}
		d.Spec.PublicKey, d.Spec.Approved = l.devs[n].Public, new(true)
		return l.fleet.Client.Create(ctx, d)
	}); err != nil {
		return err
	}
	l.add(figure{Name: "Device objects made", Value: float64(l.devices) / time.Since(begun).Seconds(), Unit: "/s"})
	patches := min(l.devices, 1000)
	begun = time.Now()
	if err := l.each(ctx, patches, "", func(ctx context.Context, n int) error {
		d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: string(l.devs[n].ID)}}
		written := d.DeepCopy()
		d.Status.LastHeartbeatTime = new(metav1.Unix(1, 0))
		return l.fleet.Client.Status().Patch(ctx, d, client.MergeFrom(written))
	}); err != nil {
		return err
	}
	l.patches = float64(patches) / time.Since(begun).Seconds()
	if l.settled, err = l.apiWrites(ctx); err != nil {
		return err
	}
	if l.ready, err = watchReady(run, l.fleet.Client, l.devices); err != nil {
		return err
	}
	begun = time.Now()
	if err := l.fleet.StartOperator(ctx); err != nil {
		return err
	}
	if err := l.ready.known.await(ctx, time.Hour, "Devices taken in by the operator"); err != nil {
		return err
	}
	l.add(figure{Name: "Device objects taken in by the operator", Value: float64(l.devices) / time.Since(begun).Seconds(), Unit: "/s", Raw: l.patches, RawName: "status patches"})
	return nil
}

// each does something for numbers from 0, as many at once as the API server is asked.
func (l *load) each(ctx context.Context, count int, what string, do func(context.Context, int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(apiClients)
	last := time.Now()
	for n := range count {
		if ctx.Err() != nil {
			break
		}
		if what != "" && time.Since(last) > 5*time.Second {
			last = time.Now()
			l.progress.Say("  %d of %d %s", n, count, what)
		}
		group.Go(func() error { return do(ctx, n) })
	}
	return group.Wait()
}

// connect has every device connect for the first time. The stand-in stays for as long as the
// run lasts.
func (l *load) connect(ctx, run context.Context) error {
	operator, err := l.fleet.Signer()
	if err != nil {
		return err
	}
	l.received = map[string]*count{}
	l.agents = simulated.AgentOptions{Operator: operator, Heartbeat: l.heartbeat, Told: l.told, Bus: bus.Options{URL: l.fleet.ControlPlane.NATS, CAFile: l.fleet.CAFile()}}
	if len(l.turns.lots) > 1 {
		if err := l.standIn(run); err != nil {
			return err
		}
	}
	self, server, err := l.bothEnds()
	if err != nil {
		return err
	}
	begun := time.Now()
	var online time.Duration
	var here, there int64
	if err := l.everybody(ctx, func(ctx context.Context, had int) error {
		if err := l.until(ctx, time.Hour, "devices online", func(ctx context.Context) (int, int, error) {
			online, err := l.online(ctx)
			return online, had, err
		}); err != nil {
			return err
		}
		online = time.Since(begun)
		if had == len(l.turns.lots[0]) {
			selfNow, serverNow, err := l.bothEnds()
			if err != nil {
				return err
			}
			here, there = max(1, selfNow.resident-self.resident)/int64(had), max(1, serverNow.resident-server.resident)/int64(had)
		}
		return l.until(ctx, time.Hour, "Devices are Ready in the API server", func(context.Context) (int, int, error) {
			return int(l.ready.n.Load()), had, nil
		})
	}); err != nil {
		return err
	}
	l.add(figure{Name: "devices connect, until the operator has them online", Value: float64(l.devices) / online.Seconds(), Unit: "/s"})
	l.add(figure{Name: "Device objects get Ready", Value: float64(l.devices) / time.Since(begun).Seconds(), Unit: "/s", Raw: l.patches, RawName: "status patches"})
	l.add(figure{Name: "memory of a device, its agent", Value: float64(here) / 1024, Unit: "KiB"})
	l.add(figure{Name: "memory of a device, in the NATS server", Value: float64(there) / 1024, Unit: "KiB"})
	return nil
}

// bothEnds are what the processes use that have the devices and the NATS server.
func (l *load) bothEnds() (devices, server usage, err error) {
	pid, err := l.fleet.ControlPlane.NATSPID()
	if err != nil {
		return devices, server, err
	}
	if devices, err = usageOf(os.Getpid()); err != nil {
		return devices, server, err
	}
	server, err = usageOf(pid)
	return devices, server, err
}

// lease is how long an operator is the leader without a word of it. A fleet that keeps
// this machine busy for longer than the short default would make it give up in the middle.
func (l *load) lease() time.Duration {
	if l.devices > 10_000 {
		return 16 * time.Second
	}
	return 0
}

func (l *load) close() {
	stopAll(l.turns.there())
	if l.conn != nil {
		l.conn.Close()
	}
	if l.fleet != nil {
		if err := l.fleet.Close(); err != nil {
			l.progress.Say("stop everything: %v", err)
		}
	}
}

// readiness counts the Devices that have got Ready.
type readiness struct {
	*count
	// known counts those that the operator has taken in.
	known *count
}

// watchReady counts the Devices that get Ready from now on.
func watchReady(ctx context.Context, c client.WithWatch, devices int) (*readiness, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("DeviceList"))
	if err := c.List(ctx, list, client.InNamespace(namespace), client.Limit(1)); err != nil {
		return nil, err
	}
	// The API server ends a watch after a while, and a large fleet takes longer to connect.
	w, err := watchtools.NewRetryWatcherWithContext(ctx, list.ResourceVersion, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return c.Watch(ctx, &v1alpha1.DeviceList{}, client.InNamespace(namespace), &client.ListOptions{Raw: &o})
		},
	})
	if err != nil {
		return nil, err
	}
	ready := &readiness{newCount(devices), newCount(devices)}
	go func() {
		defer w.Stop()
		seen, known := map[string]bool{}, map[string]bool{}
		for e := range w.ResultChan() {
			d, ok := e.Object.(*v1alpha1.Device)
			if ok && !known[d.Name] && controllerutil.ContainsFinalizer(d, v1alpha1.Finalizer) {
				known[d.Name] = true
				ready.known.add()
			}
			if ok && !seen[d.Name] && meta.IsStatusConditionTrue(d.Status.Conditions, "Ready") {
				seen[d.Name] = true
				ready.add()
				if len(seen) == devices {
					return
				}
			}
		}
	}()
	return ready, nil
}
