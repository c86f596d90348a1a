// Package agent runs a device: it carries out what the device was told, first from
// disk and then from the bus, and says how that goes.
package agent

import (
	"cmp"
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleet/agent/commands"
	"github.com/nationtech/fleet/agent/config"
	"github.com/nationtech/fleet/agent/driver/podman"
	"github.com/nationtech/fleet/agent/facts"
	"github.com/nationtech/fleet/agent/identity"
	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/agent/report"
	"github.com/nationtech/fleet/agent/store"
	"github.com/nationtech/fleet/agent/trust"
	"github.com/nationtech/fleet/agent/worker"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/internal/version"
)

// Run runs the agent until the context ends. Containers go on running then. An
// error is one of configuration or disk; whatever is away comes back.
func Run(ctx context.Context, c config.Config, log *slog.Logger) error {
	disk, err := store.Open(c.StateDir, log)
	if err != nil {
		return err
	}
	defer func() {
		if err := disk.Close(); err != nil {
			log.Error("close the state directory", "error", err)
		}
	}()
	if c.Trust.Operator == "" {
		return trust.ErrNotJoined
	}
	publicKey, err := identity.Ensure(c.NATS.SeedFile)
	if err != nil {
		return err
	}
	driver, err := podman.New(podman.Options{
		Device: c.Device, Socket: c.Podman.Socket, Network: c.Podman.Network,
		VolumeDir: filepath.Join(c.StateDir, "volumes"), Logger: log,
	})
	if err != nil {
		return err
	}
	log.Info("starting", "version", version.Version, "device", c.Device, "publicKey", publicKey)

	shutOut := &refusal{config: c, log: log, happened: make(chan struct{}, 1)}
	options := c.Trust.Options()
	options.URL, options.SeedFile, options.Device, options.Logger = c.NATS.URL, c.NATS.SeedFile, c.Device, log
	options.Name, options.OnRefused = "fleet-agent "+string(c.Device), shutOut.tell
	if c.NATS.CAFile != "" {
		options.Authorities = bus.AuthoritiesOf(c.NATS.CAFile)
	}
	nc, err := bus.Connect(options)
	if err != nil {
		return err
	}
	defer nc.Close()
	publisher, err := bus.NewPublisher(nc, c.Device)
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := &fleet{ctx: ctx, disk: disk, log: log, workers: map[contracts.DeploymentName]*running{}, known: map[contracts.DeploymentName]contracts.DesiredState{}}
	sender := report.New(publisher.State, f.gone, log)
	f.options = worker.Options{
		Driver: driver, Settings: reconcile.Settings{Device: c.Device, HostIP: c.HostIP}, Allow: c.Podman.Allow, BootID: facts.BootID(),
		Save: disk.PutRecord, SaveGood: disk.PutGood, Report: sender.Report, Logger: log,
	}
	if err := f.resume(sender); err != nil {
		return err
	}
	defer f.wait()
	mirror := bus.NewMirror(nc, c.Device, bus.MirrorOptions{
		Logger: log, Known: f.known,
		OnChange: func(view map[contracts.DeploymentName]bus.Desired) { f.adopt(ctx, view, driver) },
	})
	p := &presence{
		config: c, nc: nc, publisher: publisher, driver: driver, disk: disk, log: log, publicKey: publicKey,
		started: time.Now(), connected: sender.All, refusal: shutOut,
	}
	handler := &commands.Handler{Allow: c.Commands, Driver: driver, Restart: f.restart, Started: p.started}
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	parts.Go(func() { sender.Run(ctx) })
	parts.Go(func() { driver.Watch(ctx, f.event) })
	parts.Go(func() { p.heartbeats(ctx) })
	parts.Go(func() { p.inform(ctx) })
	parts.Go(func() { shutOut.resolve(ctx, nc) })
	parts.Go(func() {
		if err := bus.ServeCommands(ctx, nc, c.Device, handler, bus.CommandOptions{Logger: log}); err != nil {
			log.Error("commands are not served", "error", err)
		}
	})
	if err := mirror.Run(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	log.Info("stopping; what runs goes on running")
	return nil
}

// fleet is every deployment of the device, each with a worker.
type fleet struct {
	ctx     context.Context
	disk    *store.Store
	log     *slog.Logger
	options worker.Options
	// known is what the disk says the device was told. It belongs to the goroutine
	// of the mirror, after resume.
	known map[contracts.DeploymentName]contracts.DesiredState
	// looked tells that podman was asked for what nobody knows of.
	looked bool

	mu      sync.Mutex
	workers map[contracts.DeploymentName]*running
}

type running struct {
	*worker.Worker
	stop context.CancelFunc
	done chan struct{}
}

// resume goes on with what the device knew when the agent last ran, at once and
// without asking anybody.
func (f *fleet) resume(sender *report.Sender) error {
	var err error
	if f.known, err = f.disk.Desired(); err != nil {
		return err
	}
	records, err := f.disk.Records()
	if err != nil {
		return err
	}
	good, err := f.disk.Good()
	if err != nil {
		return err
	}
	for name, r := range records {
		f.mu.Lock()
		if g, ok := good[name]; ok {
			f.start(name, r, &g)
		} else {
			f.start(name, r, nil)
		}
		f.mu.Unlock()
		if r.Report.Seq > 0 {
			sender.Report(r.Report)
		}
		if _, ok := f.known[name]; !ok {
			// It was told to go, and the agent ended before it was gone.
			f.remove(name)
		}
	}
	for _, d := range f.known {
		f.set(d)
	}
	f.log.Info("going on with what the device was told before", "deployments", len(f.known))
	return nil
}

// adopt takes over what the device is told now: first on disk, then in deed.
func (f *fleet) adopt(ctx context.Context, view map[contracts.DeploymentName]bus.Desired, driver *podman.Driver) {
	for name, d := range view {
		if before, ok := f.known[name]; !ok || before.Digest != d.Digest || before.Revision != d.Revision || before.DeadlineSeconds != d.DeadlineSeconds {
			if err := f.disk.PutDesired(d.DesiredState); err != nil {
				// A full disk must not keep the fix for it from being carried out.
				f.log.Error("what the device is told is not on disk and is lost with the next reboot", "error", err)
			}
			f.log.Info("told", "deployment", name, "revision", d.Revision, "commit", d.Commit)
			f.known[name] = d.DesiredState
		}
		f.set(d.DesiredState)
	}
	for name := range f.known {
		if _, ok := view[name]; ok {
			continue
		}
		if err := f.disk.DeleteDesired(name); err != nil {
			f.log.Error("what the device is told no longer is still on disk", "error", err)
			continue
		}
		f.log.Info("told no longer", "deployment", name)
		delete(f.known, name)
		f.remove(name)
	}
	f.removeUnknown(ctx, driver)
}

// removeUnknown removes, once, what carries the device's label and is of no
// deployment that it is told: the disk was lost, or the device's identity moved.
func (f *fleet) removeUnknown(ctx context.Context, driver *podman.Driver) {
	if f.looked {
		return
	}
	names, err := driver.Deployments(ctx)
	if err != nil {
		f.log.Debug("podman was not asked for what nobody knows of", "error", err)
		return
	}
	f.looked = true
	for name := range names {
		if _, ok := f.known[name]; !ok {
			f.log.Warn("containers of a deployment that the device is not told are removed", "deployment", name)
			f.remove(name)
		}
	}
}

// set tells a deployment's worker what shall run. The lock is held until it knows:
// gone must not stop it in between.
func (f *fleet) set(d contracts.DesiredState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.worker(d.Deployment).Set(d)
}

// remove tells a deployment's worker that nothing shall run.
func (f *fleet) remove(name contracts.DeploymentName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.worker(name).Remove()
}

// worker returns the worker of a deployment, a new one if there is none. The lock
// is held.
func (f *fleet) worker(name contracts.DeploymentName) *running {
	if w := f.workers[name]; w != nil {
		return w
	}
	return f.start(name, store.Record{}, nil)
}

// start starts a worker. The lock is held.
func (f *fleet) start(name contracts.DeploymentName, r store.Record, good *contracts.DesiredState) *running {
	ctx, stop := context.WithCancel(f.ctx)
	w := &running{Worker: worker.New(name, r, good, f.options), stop: stop, done: make(chan struct{})}
	f.workers[name] = w
	go func() {
		defer close(w.done)
		w.Run(ctx)
	}()
	return w
}

// gone forgets a deployment of which the server knows that it was removed, unless
// it was told again meanwhile. The lock is held to the end, so that whoever is told
// of it next begins with a worker and a record of its own. A worker never takes the
// lock, and this one has nothing left to do: it ends at once.
func (f *fleet) gone(name contracts.DeploymentName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.workers[name]
	if w == nil || !w.Removed() {
		return
	}
	w.stop()
	<-w.done
	delete(f.workers, name)
	if err := f.disk.DeleteRecord(name); err != nil {
		f.log.Error("the record of a removed deployment is still on disk", "error", err)
	}
}

// restart has a deployment's worker restart containers.
func (f *fleet) restart(ctx context.Context, name contracts.DeploymentName, container string) ([]string, error) {
	f.mu.Lock()
	w := f.workers[name]
	f.mu.Unlock()
	if w == nil {
		return nil, contracts.CommandErrorf(contracts.CodeNotFound, "this device has no deployment %s", name)
	}
	return w.Restart(ctx, container)
}

// event passes on what podman tells.
func (f *fleet) event(e podman.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.All {
		for _, w := range f.workers {
			w.Look()
		}
		return
	}
	if w := f.workers[e.Deployment]; w != nil {
		w.Event(e.Container, e.ByHand)
	}
}

// wait waits until every worker has ended.
func (f *fleet) wait() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.workers {
		w.stop()
	}
	for _, w := range f.workers {
		<-w.done
	}
}

// presence is what tells the fleet that the device is there.
type presence struct {
	config    config.Config
	nc        *nats.Conn
	publisher *bus.Publisher
	driver    *podman.Driver
	disk      *store.Store
	log       *slog.Logger
	publicKey string
	started   time.Time
	// connected is called each time the connection stands anew.
	connected func()
	refusal   *refusal
}

// heartbeats sends a sign of life when the connection stands and at every
// interval.
func (p *presence) heartbeats(ctx context.Context) {
	up := p.nc.StatusChanged(nats.CONNECTED)
	defer p.nc.RemoveStatusListener(up)
	ticker := time.NewTicker(p.config.HeartbeatInterval)
	defer ticker.Stop()
	for n := uint64(1); ; n++ {
		if p.nc.IsConnected() {
			now := time.Now()
			if err := p.publisher.Heartbeat(contracts.HeartbeatPayload{
				Seq: n, Time: now.UnixMilli(), Interval: max(1, int(p.config.HeartbeatInterval/time.Second)), Uptime: int64(now.Sub(p.started) / time.Second),
			}); err != nil {
				p.log.Debug("heartbeat not sent", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-up:
			ticker.Reset(p.config.HeartbeatInterval)
		}
	}
}

// lookAgain is how often the device looks whether what it says of itself still
// holds.
const lookAgain = 5 * time.Minute

// inform says what the device is whenever the connection stands anew and when it
// has changed, and keeps for the status command how the connection is.
func (p *presence) inform(ctx context.Context) {
	changed := p.nc.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.DISCONNECTED)
	defer p.nc.RemoveStatusListener(changed)
	timer := time.NewTimer(0)
	defer timer.Stop()
	was := nats.Status(-1)
	failures := 0
	for {
		if is := p.nc.Status(); is != was {
			was = is
			p.remember(is == nats.CONNECTED)
			if is == nats.CONNECTED {
				p.connected()
			}
		}
		next := lookAgain
		if p.nc.IsConnected() {
			if err := p.publisher.Info(ctx, p.info(ctx)); err != nil {
				next = bus.Backoff(failures, 200*time.Millisecond, 10*time.Second)
				failures++
				p.log.Debug("what the device is was not sent", "error", err)
			} else {
				failures = 0
			}
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			p.remember(false)
			return
		case <-changed:
		case <-timer.C:
		}
	}
}

func (p *presence) info(ctx context.Context) contracts.DeviceInfo {
	i := facts.Gather(p.config.StateDir)
	i.Device, i.AgentVersion, i.PublicKey, i.Time = p.config.Device, version.Version, p.publicKey, time.Now().UTC()
	v, err := p.driver.Version(ctx)
	if err != nil {
		p.log.Warn("podman does not answer", "error", err)
		return i
	}
	i.Drivers = map[string]string{"podman": v}
	return i
}

func (p *presence) remember(connected bool) {
	a := store.Agent{
		Device: p.config.Device, Version: version.Version, Server: p.config.NATS.URL, Started: p.started,
		Connected: connected, Since: time.Now(),
	}
	if err := p.nc.LastError(); err != nil && !connected {
		a.Error = cmp.Or(p.refusal.why(), bus.Explain(err).Error())
	}
	if err := p.disk.PutAgent(a); err != nil {
		p.log.Error("keep the agent's state for the status command", "error", err)
	}
}
