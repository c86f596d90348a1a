package operator_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/fluxcd/pkg/runtime/leaderelection"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/manifests"
	"github.com/nationtech/fleet/operator"
	"github.com/nationtech/fleet/test/simulated"
)

const systemNamespace = "fleet-system"

// pool is how many devices the tests together have; NATS knows them beforehand.
const pool = 200

// world is a real API server and a real NATS server, which the tests share.
type world struct {
	// config is of one who may do everything, operatorConfig and kubeconfig of the
	// operator, who may do what the manifests give it.
	config, operatorConfig *rest.Config
	kubeconfig             string
	client                 client.WithWatch
	// audit is where the API server writes what the operator asks for.
	audit  string
	nats   string
	seeds  string
	server *server.Server
	next   int
	mu     sync.Mutex
	// store is where the server keeps its streams.
	store string
	// signer is the public key that the operator signs with.
	signer string
}

var shared *world

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		fmt.Fprintln(os.Stderr, "KUBEBUILDER_ASSETS is not set: these tests need a real kube-apiserver; run `make test`")
		return 1
	}
	ctrl.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard())
	crds, err := manifests.CRDs()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "fleet-operator-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	shared = &world{seeds: dir, audit: filepath.Join(dir, "audit.log")}
	api := &envtest.Environment{CRDs: crds}
	// Nothing of it is worth keeping when the machine dies.
	api.ControlPlane.Etcd = &envtest.Etcd{}
	api.ControlPlane.Etcd.Configure().Set("unsafe-no-fsync", "true")
	if err := configure(api.ControlPlane.GetAPIServer().Configure(), dir, shared.audit); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// Also after a start that failed halfway.
	defer func() {
		if err := api.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	config, err := api.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	config.QPS = -1
	scheme := runtime.NewScheme()
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err := errors.Join(err, clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme), live.AddToScheme(scheme)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	shared.config, shared.client = config, c
	if err := errors.Join(shared.startNATS(filepath.Join(dir, "jetstream")), shared.grant(context.Background())); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer shared.server.Shutdown()
	return max(m.Run(), shared.refused())
}

func deviceID(n int) contracts.DeviceID { return contracts.DeviceID(fmt.Sprintf("d%03d", n)) }

// startNATS starts a server that asks the operator who may connect, and makes the keys
// of the operator and of every device of the pool.
func (w *world) startNATS(store string) error {
	w.store = store
	if err := w.makeKey("operator"); err != nil {
		return err
	}
	for n := range pool {
		if err := w.makeKey(string(deviceID(n))); err != nil {
			return err
		}
	}
	return w.serveNATS(-1)
}

// makeKey makes the key of a user.
func (w *world) makeKey(name string) error {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return err
	}
	seed, err := pair.Seed()
	if err != nil {
		return err
	}
	public, err := pair.PublicKey()
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(w.seeds, name), seed, 0o600),
		os.WriteFile(filepath.Join(w.seeds, name+".pub"), []byte(public), 0o600))
}

// serveNATS starts a server that knows the operator.
func (w *world) serveNATS(port int) error {
	keys, err := bus.ReadKeys(filepath.Join(w.seeds, "operator"))
	if err != nil {
		return err
	}
	if w.signer, err = keys.Signer.PublicKey(); err != nil {
		return err
	}
	text, err := keys.ServerConfig(nil, nil, nil)
	if err != nil {
		return err
	}
	path := filepath.Join(w.seeds, "nats.conf")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return err
	}
	o, err := server.ProcessConfigFile(path)
	if err != nil {
		return err
	}
	o.Host, o.Port, o.StoreDir, o.NoLog, o.NoSigs = "127.0.0.1", port, w.store, true, true
	if w.server, err = server.NewServer(o); err != nil {
		return err
	}
	w.server.Start()
	if !w.server.ReadyForConnections(10 * time.Second) {
		return errors.New("nats-server is not ready after 10 s")
	}
	w.nats = fmt.Sprintf("nats://127.0.0.1:%d", w.server.Addr().(*net.TCPAddr).Port)
	return nil
}

func (w *world) connect(t *testing.T, user string) *nats.Conn {
	t.Helper()
	o := bus.Options{URL: w.nats, SeedFile: filepath.Join(w.seeds, user), Name: user, Logger: slog.New(slog.DiscardHandler)}
	if user != "operator" {
		o.Device = contracts.DeviceID(user)
	}
	nc, err := bus.Connect(o)
	must(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// fleet is one test's own namespace and devices, and the operator.
type fleet struct {
	*testing.T
	*world
	namespace string
	js        jetstream.JetStream
	stop      func()
	// live is where the operator serves the live API; empty for nowhere.
	live string
	// previous are files with the seeds that the operator had before.
	previous []string
	// registry has the metrics of the operator that was started last.
	registry *prometheus.Registry
}

func namespace(prefix string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: prefix}}
}

// newFleet starts an operator that runs until the test ends.
func newFleet(t *testing.T) *fleet {
	t.Helper()
	return newFleetAt(t, "")
}

// team makes a namespace for devices, as kubectl fleet repo init writes one.
func (f *fleet) team() string {
	f.Helper()
	n := namespace("fleet-")
	must(f.T, f.client.Create(f.Context(), n))
	f.bind(n.Name, rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: systemNamespace, Name: "fleet-operator"}, "fleet-operator-team")
	return n.Name
}

// newFleetAt starts one that serves the live API.
func newFleetAt(t *testing.T, live string) *fleet {
	t.Helper()
	return newFleetOf(t, shared, live)
}

// newFleetOf starts one in a world of its own.
func newFleetOf(t *testing.T, w *world, live string) *fleet {
	t.Helper()
	f := &fleet{T: t, world: w, live: live}
	f.namespace = f.team()
	js, err := bus.JetStream(f.connect(t, "operator"))
	must(t, err)
	f.js = js
	f.stop = f.startOperator()
	t.Cleanup(func() { f.stop() })
	return f
}

// startOperator starts an operator and returns what stops it.
func (f *fleet) startOperator() func() {
	f.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	registry := prometheus.NewRegistry()
	f.registry = registry
	go func() {
		done <- operator.Run(ctx, rest.CopyConfig(f.operatorConfig), logr.Discard(), operator.Options{
			Bus:               bus.Options{URL: f.nats, SeedFile: filepath.Join(f.seeds, "operator")},
			PreviousSeedFiles: f.previous, LookAtSecrets: time.Second,
			Namespace: systemNamespace, MetricsAddr: "0", HealthAddr: "0",
			Metrics: registry, Live: f.live, Kubeconfig: f.kubeconfig,
			LeaderElection: leaderelection.Options{
				Enable: true, ReleaseOnCancel: true,
				LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 100 * time.Millisecond,
			},
		})
	}()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !strings.Contains(err.Error(), "leader election lost") {
			f.Errorf("the operator ended: %v", err)
		}
	})
}

// sim is a simulated device of the pool.
type sim struct {
	*simulated.Device
	id contracts.DeviceID
}

// newID takes a device out of the pool.
func (f *fleet) newID() contracts.DeviceID {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next == pool {
		f.Fatalf("the pool of %d devices is used up", pool)
	}
	f.next++
	return deviceID(f.next - 1)
}

func (f *fleet) publicKey(id contracts.DeviceID) string {
	f.Helper()
	key, err := os.ReadFile(filepath.Join(f.seeds, string(id)+".pub"))
	must(f.T, err)
	return string(key)
}

// device makes an approved Device with the label run=yes, and connects it.
func (f *fleet) device(answer simulated.Answer) *sim {
	f.Helper()
	id := f.newID()
	f.approve(id)
	d := f.online(id, answer)
	eventually(f.T, func() string {
		if !d.Connected() {
			return string(id) + " is not let in"
		}
		return ""
	})
	return d
}

func (f *fleet) approve(id contracts.DeviceID) {
	f.Helper()
	d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: string(id), Labels: map[string]string{"run": "yes"}}}
	d.Spec.Approved, d.Spec.PublicKey = new(true), f.publicKey(id)
	must(f.T, f.client.Create(f.Context(), d))
}

// online connects a device.
func (f *fleet) online(id contracts.DeviceID, answer simulated.Answer) *sim {
	f.Helper()
	return f.start(simulated.Options{ID: id, Operator: f.signer, Answer: answer})
}

// start connects a device as it says.
func (f *fleet) start(o simulated.Options) *sim {
	f.Helper()
	o.URL, o.SeedFile, o.PublicKey = f.nats, filepath.Join(f.seeds, string(o.ID)), f.publicKey(o.ID)
	if o.Operator == "" {
		o.Operator = f.signer
	}
	d, err := simulated.Start(f.Context(), o)
	must(f.T, err)
	f.Cleanup(d.Stop)
	return &sim{d, o.ID}
}

// revision is what the device was told for a Deployment; empty for nothing.
func (d *sim) revision(name string) string { return d.Told(name).Revision }

// deploy makes a Deployment for the devices with run=yes.
func (f *fleet) deploy(name string, change func(*v1alpha1.Deployment)) *v1alpha1.Deployment {
	f.Helper()
	d := &v1alpha1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: name},
		Spec: v1alpha1.DeploymentSpec{
			TargetSelector: metav1.LabelSelector{MatchLabels: map[string]string{"run": "yes"}},
			Score:          v1alpha1.Score{Podman: &v1alpha1.PodmanScore{Containers: []v1alpha1.Container{{Name: "app", Image: "example.org/app:1"}}}},
		},
	}
	all := intstr.FromString("100%")
	d.Spec.Rollout.MaxUnavailable = &all
	if change != nil {
		change(d)
	}
	must(f.T, f.client.Create(f.Context(), d))
	return d
}

// edit changes a Deployment.
func (f *fleet) edit(name string, change func(*v1alpha1.Deployment)) {
	f.Helper()
	d := f.get(name)
	patch := client.MergeFrom(d.DeepCopy())
	change(d)
	must(f.T, f.client.Patch(f.Context(), d, patch))
}

func image(tag string) func(*v1alpha1.Deployment) {
	return func(d *v1alpha1.Deployment) { d.Spec.Score.Podman.Containers[0].Image = "example.org/app:" + tag }
}

func (f *fleet) get(name string) *v1alpha1.Deployment {
	f.Helper()
	d := &v1alpha1.Deployment{}
	must(f.T, f.client.Get(f.Context(), client.ObjectKey{Namespace: f.namespace, Name: name}, d))
	return d
}

// until waits until a Deployment's status answers its spec and is as wanted.
func (f *fleet) until(name, what string, wanted func(*v1alpha1.Deployment) bool) *v1alpha1.Deployment {
	f.Helper()
	var last *v1alpha1.Deployment
	eventually(f.T, func() string {
		last = f.get(name)
		if last.Status.ObservedGeneration == last.Generation && wanted(last) {
			return ""
		}
		return fmt.Sprintf("%s is not %s: generation %d, status %+v", name, what, last.Generation, last.Status)
	})
	return last
}

// complete waits until every device of a Deployment runs its revision.
func (f *fleet) complete(name string, devices int32) *v1alpha1.Deployment {
	f.Helper()
	return f.until(name, "complete", func(d *v1alpha1.Deployment) bool {
		a := d.Status.Aggregate
		return a != nil && a.Matched == devices && a.Succeeded == devices && meta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionReady)
	})
}

func reason(conditions []metav1.Condition, kind string) string {
	if c := meta.FindStatusCondition(conditions, kind); c != nil {
		return string(c.Status) + " " + c.Reason
	}
	return ""
}

// keys are the keys of desired state that exist, with their values.
func (f *fleet) keys() map[string]string {
	f.Helper()
	stream, err := f.js.Stream(f.Context(), contracts.BucketDesiredState.Stream())
	must(f.T, err)
	info, err := stream.Info(f.Context(), jetstream.WithSubjectFilter(">"))
	must(f.T, err)
	out := map[string]string{}
	for subject := range info.State.Subjects {
		m, err := stream.GetLastMsgForSubject(f.Context(), subject)
		must(f.T, err)
		if m.Header.Get("KV-Operation") == "" {
			key, _ := contracts.BucketDesiredState.KeyOf(subject)
			out[key] = string(m.Data)
		}
	}
	return out
}

// writes counts, from now on, what is written for devices.
func (f *fleet) writes(devices []*sim) func() int64 {
	f.Helper()
	floor := f.sequence()
	var n atomic.Int64
	bus.Watch(f.Context(), f.js, contracts.BucketDesiredState, slog.New(slog.DiscardHandler), func(e bus.Entry) {
		id, _, err := contracts.ParseDesiredStateKey(e.Key)
		if err == nil && e.Sequence > floor && slices.ContainsFunc(devices, func(d *sim) bool { return d.id == id }) {
			n.Add(1)
		}
	})
	return n.Load
}

// sequence is the last of the stream of desired state: it grows with each write.
func (f *fleet) sequence() uint64 {
	f.Helper()
	stream, err := f.js.Stream(f.Context(), contracts.BucketDesiredState.Stream())
	must(f.T, err)
	return stream.CachedInfo().State.LastSeq
}

func (f *fleet) event(namespace, object, reason string) {
	f.Helper()
	eventually(f.T, func() string {
		events := &corev1.EventList{}
		must(f.T, f.client.List(f.Context(), events, client.InNamespace(namespace)))
		var seen []string
		for _, e := range events.Items {
			if e.InvolvedObject.Name == object && e.Reason == reason {
				return ""
			}
			seen = append(seen, e.InvolvedObject.Name+" "+e.Reason)
		}
		return fmt.Sprintf("no event %s of %s, only %v", reason, object, seen)
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until look returns "", and says what it last returned if it
// never does.
func eventually(t testing.TB, look func() string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		last := look()
		if last == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after 30 s: %s", last)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
