package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/env"
)

// namespace of the devices and Deployments.
const namespace = "fleet-load"

// apiClients is how many requests to the API server are on their way at once.
const apiClients = 32

// load is one run.
type load struct {
	options
	progress *env.Progress
	out      io.Writer

	fleet   *env.Fleet
	nats    *server.Server
	devs    []*device
	desired jetstream.Stream
	figures []figure

	// raw is what the bus does at best, patches how many changes of a status the API server
	// takes in a second.
	raw     raw
	patches float64
	// ready counts the Devices that have got Ready.
	ready *count
	// settled is how many writes of the operator's kinds the API server has had when it
	// was last left alone.
	settled float64
	// busy is how many cores devices and broker use with the operator there.
	busy float64

	// received counts by revision how many devices were told it.
	mu       sync.Mutex
	received map[string]*count
	// hold keeps the devices from what they are told until it is closed; nil is not at all.
	hold atomic.Pointer[chan struct{}]
}

// count tells when it has come to its end.
type count struct {
	n    atomic.Int64
	want int64
	done chan struct{}
}

func newCount(want int) *count { return &count{want: int64(want), done: make(chan struct{})} }

func (c *count) add() {
	if c.n.Add(1) == c.want {
		close(c.done)
	}
}

// await waits for the end of a count.
func (c *count) await(ctx context.Context, limit time.Duration, what string) error {
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(limit):
		return fmt.Errorf("%s: %d of %d after %s", what, c.n.Load(), c.want, limit)
	}
}

// judged is how many devices there have to be for budgets to say anything: with fewer it
// is the time of one step that is measured.
const judged = 1000

// large is the fleet that budgets are for whose figures grow with the fleet: a smaller one
// that keeps them has shown nothing.
const large = 100_000

func (l *load) add(f figure) {
	if l.devices < judged || f.Large && l.devices < large {
		f.Budget = ""
	}
	l.figures = append(l.figures, f)
}

func (l *load) run(ctx context.Context) (err error) {
	if err := os.RemoveAll(l.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	defer func() {
		l.close()
		if err == nil {
			err = os.RemoveAll(l.dir)
			return
		}
		l.progress.Say("The logs stay in %s.", filepath.Join(l.dir, "logs"))
	}()
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"what the bus does at best, without fleet", l.measureBus},
		{"control plane, keys, certificates, operator", l.bringUp},
		{"Device objects, at the API server's own pace", l.createDevices},
		{"devices connect", l.connect},
		{"what was put off is written", l.settleAfter("a device that joins: writes to the API server")},
		{fmt.Sprintf("%d Deployments, each for every device", l.deployments), l.deploy},
		{"what was put off is written", l.settleAfter(fmt.Sprintf("%d Deployments: writes to the API server for each device", l.deployments))},
		{"one Deployment changes", l.change},
		{"what was put off is written", l.settleAfter("one change: writes to the API server for each device")},
		{"steady state", l.steady},
		{"kubectl fleet status", l.status},
		{"the same without the operator", l.alone},
		{"the operator starts anew", l.coldStart},
		{"every aggregate is right", l.check},
	} {
		stop := l.profile(ctx, step.name)
		err := l.progress.Step(step.name, func() error { return step.do(ctx) })
		stop()
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(l.out, "\n%d devices (%d by TCP and TLS, the others in process), %d Deployments, %d cores\n\n",
		l.devices, min(l.devices, l.tcp), l.deployments, goruntime.GOMAXPROCS(0))
	if err := writeTable(l.out, l.figures); err != nil {
		return err
	}
	if l.json == "" {
		return nil
	}
	return results{Devices: l.devices, Deployments: l.deployments, TCP: min(l.devices, l.tcp), Figures: l.figures}.write(l.json)
}

func (l *load) measureBus(ctx context.Context) (err error) {
	l.raw, err = measureRaw(ctx, l.dir, l.devices, 1<<10, l.progress.Say)
	return err
}

func (l *load) bringUp(ctx context.Context) (err error) {
	bin, err := filepath.Abs(l.bin)
	if err != nil {
		return err
	}
	addr, err := env.FreeAddr()
	if err != nil {
		return err
	}
	if l.fleet, err = env.New(env.Options{Dir: l.dir, Bin: bin, ServeNATS: l.serveNATS, MetricsAddr: addr}); err != nil {
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
	nc, err := bus.Connect(bus.Options{URL: l.fleet.ControlPlane.NATS, SeedFile: l.fleet.OperatorSeed(), CAFile: l.fleet.CAFile(), Name: "fleet-load", Logger: quiet})
	if err != nil {
		return err
	}
	js, err := bus.JetStream(nc)
	if err != nil {
		return err
	}
	l.desired, err = js.Stream(ctx, contracts.BucketDesiredState.Stream())
	return err
}

// serveNATS runs the server in this process, so that devices can connect without
// descriptors.
func (l *load) serveNATS(config, addr string) error {
	o, err := server.ProcessConfigFile(config)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if o.Port, err = strconv.Atoi(port); err != nil {
		return err
	}
	o.Host, o.StoreDir, o.NoSigs, o.MaxConn = host, filepath.Join(l.dir, "nats-data"), true, 1<<20
	o.LogFile = filepath.Join(l.dir, "logs", "nats.log")
	if l.nats, err = server.NewServer(o); err != nil {
		return err
	}
	l.nats.ConfigureLogger()
	l.nats.Start()
	if !l.nats.ReadyForConnections(10 * time.Second) {
		return fmt.Errorf("NATS is not ready after 10 s; its log is %s", o.LogFile)
	}
	return nil
}

// createDevices makes the Devices as Git would, with the operator away, and then changes
// the status of some of them: what the API server does at best.
func (l *load) createDevices(ctx context.Context) (err error) {
	l.fleet.Operator.Stop(10 * time.Second)
	l.devs = make([]*device, l.devices)
	begun := time.Now()
	if err = l.each(ctx, len(l.devs), "made", func(ctx context.Context, n int) (err error) {
		if l.devs[n], err = newDevice(n); err != nil {
			return err
		}
		d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: string(l.devs[n].id), Labels: map[string]string{"fleet": "load"}}}
		d.Spec.PublicKey, d.Spec.Approved = l.devs[n].public, new(true)
		return l.fleet.Client.Create(ctx, d)
	}); err != nil {
		return err
	}
	created := float64(l.devices) / time.Since(begun).Seconds()
	patches := min(l.devices, 1000)
	begun = time.Now()
	if err := l.each(ctx, patches, "", func(ctx context.Context, n int) error {
		d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: string(l.devs[n].id)}}
		body, err := json.Marshal(map[string]any{"status": map[string]any{"lastHeartbeatTime": "2001-01-01T00:00:00Z"}})
		if err != nil {
			return err
		}
		return l.fleet.Client.Status().Patch(ctx, d, client.RawPatch("application/merge-patch+json", body))
	}); err != nil {
		return err
	}
	patched := float64(patches) / time.Since(begun).Seconds()
	l.add(figure{Name: "Device objects made", Value: created, Unit: "/s"})
	l.patches = patched
	if l.settled, err = l.apiWrites(ctx); err != nil {
		return err
	}
	if l.ready, err = watchReady(ctx, l.fleet.Client, l.devices); err != nil {
		return err
	}
	return l.fleet.StartOperator(ctx)
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

func (l *load) connect(ctx context.Context) error {
	operator, err := l.fleet.Signer()
	if err != nil {
		return err
	}
	l.received = map[string]*count{}
	s := settings{operator: operator, heartbeat: l.heartbeat, told: l.told, bus: bus.Options{URL: l.fleet.ControlPlane.NATS, CAFile: l.fleet.CAFile()}}
	self, err := usageOf(os.Getpid())
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := l.each(ctx, len(l.devs), "started", func(_ context.Context, n int) error {
		var in nats.InProcessConnProvider
		if n >= l.tcp {
			in = l.nats
		}
		return l.devs[n].start(s, in)
	}); err != nil {
		return err
	}
	if err := l.until(ctx, 20*time.Minute, "devices online", func(ctx context.Context) (int, int, error) {
		online, err := l.metric(ctx, "fleet_devices_online")
		return int(online), l.devices, err
	}); err != nil {
		return err
	}
	took := time.Since(begun)
	l.add(figure{Name: "devices connect, until the operator has them online", Value: float64(l.devices) / took.Seconds(), Unit: "/s"})
	if err := l.ready.await(ctx, 30*time.Minute, "Devices are Ready in the API server"); err != nil {
		return err
	}
	l.add(figure{Name: "Device objects get Ready", Value: float64(l.devices) / time.Since(begun).Seconds(), Unit: "/s", Raw: l.patches, RawName: "status patches"})
	now, err := usageOf(os.Getpid())
	if err != nil {
		return err
	}
	l.add(figure{Name: "memory of a device and its connection, both ends", Value: float64(now.resident-self.resident) / float64(l.devices) / 1024, Unit: "KiB"})
	return nil
}

// told counts an order that a device has taken in.
func (l *load) told(o contracts.Order) {
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
		l.received[revision] = newCount(l.devices)
	}
	return l.received[revision]
}

func (l *load) deployment(n int, version string) *v1alpha1.Deployment {
	d := &v1alpha1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("load-%d", n)}}
	d.Spec.TargetSelector.MatchLabels = map[string]string{"fleet": "load"}
	d.Spec.Rollout.MaxUnavailable = new(intstr.FromString("100%"))
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
	if err := l.complete(ctx, l.deployments); err != nil {
		return err
	}
	l.add(figure{Name: "all Deployments of all devices, from the first object to the last status", Value: time.Since(begun).Seconds(), Unit: "s"})
	return nil
}

// complete waits until Deployments say that every device runs them.
func (l *load) complete(ctx context.Context, count int) error {
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
		return succeeded, count * l.devices, nil
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
	before, err := l.desired.Info(ctx)
	if err != nil {
		return err
	}
	d := &v1alpha1.Deployment{}
	if err := l.fleet.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "load-1"}, d); err != nil {
		return err
	}
	d.Spec.Score.Podman.Containers[0].Image = "registry.example.com/app-1:v2"
	operator, err := usageOf(l.fleet.Operator.PID())
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := l.fleet.Client.Update(ctx, d); err != nil {
		return err
	}
	first := begun
	var told time.Duration
	if err := l.until(ctx, 10*time.Minute, "devices told", func(ctx context.Context) (int, int, error) {
		info, err := l.desired.Info(ctx)
		if err != nil {
			return 0, 0, err
		}
		n := int(info.State.LastSeq - before.State.LastSeq)
		if told = time.Since(begun); n == 0 {
			first = time.Now() // the last moment at which nobody was told
		}
		return n, l.devices, nil
	}); err != nil {
		return err
	}
	if err := l.fleet.Client.Get(ctx, client.ObjectKeyFromObject(d), d); err != nil {
		return err
	}
	revision := d.Status.UpdateRevision
	if err := l.expect(revision).await(ctx, 10*time.Minute, "devices have received "+revision); err != nil {
		return err
	}
	received := time.Since(begun)
	release()
	if err := l.complete(ctx, l.deployments); err != nil {
		return err
	}
	after, err := usageOf(l.fleet.Operator.PID())
	if err != nil {
		return err
	}
	l.add(figure{Name: "one change: from the API server's answer until the first device is told", Value: first.Sub(begun).Seconds(), Unit: "s"})
	rate := float64(l.devices) / (told - first.Sub(begun)).Seconds()
	l.add(figure{Name: "one change: devices told from then on", Value: rate, Unit: "/s", Raw: l.raw.publish, RawName: "published"}.atLeast(l.raw.publish/2, "≥ 50 % of raw"))
	l.add(figure{Name: "one change: all devices have received it", Value: received.Seconds(), Unit: "s", Raw: l.raw.received.Seconds()}.atMost(2*l.raw.received.Seconds(), "≤ 2 × raw"))
	l.add(figure{Name: "one change: its status says that all devices run it", Value: time.Since(begun).Seconds(), Unit: "s"})
	l.add(figure{Name: "one change: the operator's CPU for each device", Value: float64((after.cpu - operator.cpu).Microseconds()) / float64(l.devices), Unit: "µs"})
	return nil
}

// steady measures heartbeats alone.
func (l *load) steady(ctx context.Context) error {
	operator, self, err := l.measure(ctx)
	if err != nil {
		return err
	}
	l.add(figure{Name: "heartbeats: the operator's CPU", Value: 100 * operator.cores, Unit: "% of a core"}.atMost(15, "≤ 15 %").ofLarge())
	l.add(figure{Name: "heartbeats: the operator's memory", Value: float64(operator.resident) / mib, Unit: "MiB"}.atMost(1024, "≤ 1 GiB").ofLarge())
	l.busy = self.cores
	return nil
}

// spent is what a process used in the steady state.
type spent struct {
	cores    float64
	resident int64
}

func (l *load) measure(ctx context.Context) (operator, self spent, err error) {
	var before, after [2]usage
	read := func(into *[2]usage) error {
		for i, pid := range []int{l.fleet.Operator.PID(), os.Getpid()} {
			if pid == 0 {
				continue
			}
			if into[i], err = usageOf(pid); err != nil {
				return err
			}
		}
		return nil
	}
	if err := read(&before); err != nil {
		return operator, self, err
	}
	select {
	case <-ctx.Done():
		return operator, self, context.Cause(ctx)
	case <-time.After(l.duration): // what is measured is this time
	}
	if err := read(&after); err != nil {
		return operator, self, err
	}
	if l.fleet.Operator.PID() != 0 {
		operator = spent{after[0].cores(before[0]), after[0].resident}
	}
	return operator, spent{after[1].cores(before[1]), after[1].resident}, nil
}

func (l *load) status(ctx context.Context) error {
	best := time.Hour
	for range 3 {
		begun := time.Now()
		if _, err := l.fleet.Kubectl(ctx, "status", "--namespace", namespace); err != nil {
			return err
		}
		best = min(best, time.Since(begun))
	}
	l.add(figure{Name: "kubectl fleet status", Value: best.Seconds(), Unit: "s"}.atMost(1, "≤ 1 s").ofLarge())
	return nil
}

// alone measures what devices and server use when no operator listens.
func (l *load) alone(ctx context.Context) error {
	l.fleet.Operator.Kill()
	_, self, err := l.measure(ctx)
	if err != nil {
		return err
	}
	l.add(figure{Name: "heartbeats: devices and broker", Value: 100 * l.busy, Unit: "% of a core", Raw: 100 * self.cores, RawName: "without operator"}.
		atMost(150*self.cores, "≤ 1.5 × without operator"))
	return nil
}

func (l *load) coldStart(ctx context.Context) error {
	begun := time.Now()
	if err := l.fleet.StartOperator(ctx); err != nil {
		return err
	}
	l.add(figure{Name: "the operator starts: a complete view", Value: time.Since(begun).Seconds(), Unit: "s"}.atMost(15, "≤ 15 s").ofLarge())
	return nil
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

func (l *load) close() {
	var group errgroup.Group
	group.SetLimit(256)
	for _, d := range l.devs {
		if d != nil {
			group.Go(func() error { d.stop(); return nil })
		}
	}
	_ = group.Wait() // stopping has no error
	if l.fleet != nil {
		if err := l.fleet.Close(); err != nil {
			l.progress.Say("stop everything: %v", err)
		}
	}
	if l.nats != nil {
		l.nats.Shutdown()
		l.nats.WaitForShutdown()
	}
}

// until waits for a number, and tells about it from time to time.
func (l *load) until(ctx context.Context, limit time.Duration, what string, look func(context.Context) (is, want int, err error)) error {
	last := time.Now()
	return env.Until(ctx, limit, what, func(ctx context.Context) error {
		is, want, err := look(ctx)
		if err != nil {
			return err
		}
		if is >= want {
			return nil
		}
		if time.Since(last) > 5*time.Second {
			last = time.Now()
			l.progress.Say("  %d of %d %s", is, want, what)
		}
		return fmt.Errorf("%d of %d", is, want)
	})
}

// watchReady counts the Devices that get Ready from now on.
func watchReady(ctx context.Context, c client.WithWatch, devices int) (*count, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("DeviceList"))
	if err := c.List(ctx, list, client.InNamespace(namespace), client.Limit(1)); err != nil {
		return nil, err
	}
	w, err := c.Watch(ctx, &v1alpha1.DeviceList{}, client.InNamespace(namespace), &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}})
	if err != nil {
		return nil, err
	}
	ready := newCount(devices)
	go func() {
		defer w.Stop()
		seen := map[string]bool{}
		for e := range w.ResultChan() {
			d, ok := e.Object.(*v1alpha1.Device)
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
