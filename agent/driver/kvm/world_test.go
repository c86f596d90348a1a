package kvm_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	rpc "github.com/digitalocean/go-libvirt"

	"github.com/nationtech/fleet/agent/driver/kvm"
	"github.com/nationtech/fleet/agent/policy"
	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/agent/store"
	"github.com/nationtech/fleet/agent/worker"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/libvirt/libvirttest"
	"github.com/nationtech/fleet/test/guest"
	"github.com/nationtech/fleet/test/guest/tiny"
)

const (
	device = contracts.DeviceID("till-1")
	name   = contracts.DeploymentName("shop")
	pool   = "machines"
	image  = "tiny.qcow2"
	mib    = 1 << 20
)

// patience is how long a machine may take to get where it is expected: under emulation, on
// a machine that other tests use too.
const patience = 2 * time.Minute

// world is a worker of the agent's above a real libvirtd and the operator's side of it.
type world struct {
	*testing.T
	daemon *libvirttest.Daemon
	conn   *libvirt.Conn
	driver *kvm.Driver
	worker *worker.Worker
	log    *buffer
	stop   func()
	number int64

	mu       sync.Mutex
	last     contracts.DeploymentState
	reported []contracts.DeploymentState
	record   store.Record
	changed  chan struct{}
}

// buffer is a log that is written and read at the same time.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newWorld starts a libvirtd with a pool in the directory, or in one of its own.
func newWorld(t *testing.T, poolDir string) *world {
	t.Helper()
	w := &world{T: t, daemon: libvirttest.Start(t), log: &buffer{}, changed: make(chan struct{}, 1)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the worker's log:\n%s", w.log)
		}
	})
	w.conn = w.daemon.Dial(t)
	if poolDir == "" {
		poolDir = w.daemon.PoolDir()
	}
	must(t, w.conn.EnsurePool(t.Context(), pool, poolDir))
	w.run()
	t.Cleanup(func() { w.stop() })
	return w
}

// run runs a worker that goes on from the record.
func (w *world) run() {
	log := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.driver = kvm.New(kvm.Options{Device: device, URI: w.daemon.URI(), Pool: pool, Emulate: true, Logger: log, HostPath: w.daemon.HostPath})
	w.worker = worker.New(name, w.record, nil, worker.Options{
		Machines: w.driver, Settings: reconcile.Settings{Device: device}, Allow: policy.Device{}, BootID: "this boot", Logger: log,
		Save: func(r store.Record) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.record = r
			return nil
		},
		SaveGood: func(contracts.DesiredState) error { return nil },
		Report: func(s contracts.DeploymentState) {
			w.mu.Lock()
			w.last, w.reported = s, append(w.reported, s)
			w.mu.Unlock()
			select {
			case w.changed <- struct{}{}:
			default:
			}
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	one, driver := w.worker, w.driver
	parts.Go(func() { one.Run(ctx) })
	parts.Go(func() { driver.Watch(ctx, one.Look) })
	w.stop = sync.OnceFunc(func() {
		cancel()
		parts.Wait()
		_ = driver.Close()
	})
}

// upload brings the tiny guest's image into the pool, by whatever name.
func (w *world) upload(image string) {
	w.Helper()
	path, err := guest.TinyImage(w.Context())
	must(w.T, err)
	f, err := os.Open(path)
	must(w.T, err)
	defer f.Close()
	info, err := f.Stat()
	must(w.T, err)
	must(w.T, w.conn.Upload(w.Context(), pool, image, "qcow2", info.Size(), f))
}

// tell tells the worker what shall run, and returns the revision.
func (w *world) tell(k contracts.KVMScore) string { return w.tellWithin(k, 0) }

// tellWithin tells what has to get healthy within so many seconds.
func (w *world) tellWithin(k contracts.KVMScore, seconds int64) string {
	w.number++
	score := contracts.ReconcileScore{KVM: &k}
	revision := "shop-" + score.Digest()[:8]
	w.worker.Set(contracts.DesiredState{Deployment: name, Namespace: "n", Revision: revision, Digest: score.Digest(), Score: score, DeadlineSeconds: seconds, Issued: w.number})
	return revision
}

// await waits until the last report is as expected.
func (w *world) await(what string, is func(contracts.DeploymentState) bool) contracts.DeploymentState {
	w.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		last := w.now()
		if is(last) {
			return last
		}
		select {
		case <-w.changed:
		case <-deadline.C:
			w.Fatalf("%s: not within %s; the last report is %+v", what, patience, last)
		}
	}
}

func (w *world) running(revision string) contracts.DeploymentState {
	w.Helper()
	return w.await("running", func(s contracts.DeploymentState) bool {
		return s.Revision == revision && s.Phase == contracts.PhaseRunning
	})
}

func (w *world) failed(revision, reason string) contracts.DeploymentState {
	w.Helper()
	return w.await("failing with "+reason, func(s contracts.DeploymentState) bool {
		return s.Revision == revision && s.Phase == contracts.PhaseFailed && s.Reason == reason
	})
}

// removed has the worker remove everything.
func (w *world) removed() {
	w.Helper()
	w.number++
	w.worker.Remove(w.number)
	w.await("removed", func(s contracts.DeploymentState) bool { return s.Phase == contracts.PhaseRemoved })
}

// saw is the report of that phase and reason that was sent for a revision.
func (w *world) saw(revision string, phase contracts.Phase, reason string) (contracts.DeploymentState, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.reported {
		if s.Revision == revision && s.Phase == phase && s.Reason == reason {
			return s, true
		}
	}
	return contracts.DeploymentState{}, false
}

func (w *world) machine(domain string) libvirt.MachineStatus {
	w.Helper()
	s, err := w.conn.Machine(w.Context(), domain)
	must(w.T, err)
	return s
}

// hello is what the guest of a machine says of itself. One that is busy, such as with a
// new processor, may take its time.
func (w *world) hello(domain string) (said tiny.Hello) {
	w.Helper()
	w.eventually("the guest answers", func() bool {
		var err error
		said, err = w.ask(domain)
		return err == nil
	})
	return said
}

// domains are the names of all machines that libvirt has.
func (w *world) domains() (all []string) {
	w.Helper()
	list, err := w.conn.Machines(w.Context())
	must(w.T, err)
	for _, s := range list {
		all = append(all, s.Name)
	}
	return all
}

// volumes are the names of all volumes of the pool.
func (w *world) volumes() (all []string) {
	w.Helper()
	list, err := w.conn.Volumes(w.Context(), pool)
	must(w.T, err)
	for _, v := range list {
		all = append(all, filepath.Base(v.Path))
	}
	return all
}

// foreign makes a machine that nobody of fleet's has made.
func (w *world) foreign(domain string) {
	w.Helper()
	_, err := w.daemon.Stranger(w.T).DomainDefineXML(`<domain type='qemu'><name>` + domain + `</name><memory>65536</memory><os><type arch='x86_64'>hvm</type></os></domain>`)
	must(w.T, err)
}

// byHand does to a machine what a person does who knows nothing of fleet.
func (w *world) byHand(domain string, do func(*rpc.Libvirt, rpc.Domain) error) {
	w.Helper()
	stranger := w.daemon.Stranger(w.T)
	d, err := stranger.DomainLookupByName(domain)
	must(w.T, err)
	must(w.T, do(stranger, d))
}

// in has what fails within a subtest fail that.
func (w *world) in(t *testing.T) *world {
	before := w.T
	w.T = t
	t.Cleanup(func() { w.T = before })
	return w
}

// now is the last report.
func (w *world) now() contracts.DeploymentState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// eventually waits for what nothing tells of.
func (w *world) eventually(what string, is func() bool) {
	w.Helper()
	deadline := time.Now().Add(patience)
	for !is() {
		if time.Now().After(deadline) {
			w.Fatalf("%s: not within %s", what, patience)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// ask is hello for a guest that may not answer.
func (w *world) ask(domain string) (tiny.Hello, error) {
	at, err := w.driver.Address(w.Context(), domain)
	if err != nil {
		return tiny.Hello{}, err
	}
	return guest.Ask(w.Context(), at.Host)
}

func askAt(ctx context.Context, host string) (tiny.Hello, error) { return guest.Ask(ctx, host) }
