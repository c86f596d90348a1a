// Package cluster has a fleet on several NATS servers: the three of a cluster, in the
// configuration that fleet-operator setup makes, and a site's own.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/fluxcd/pkg/runtime/leaderelection"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/manifests"
	"github.com/nationtech/fleet/operator"
	"github.com/nationtech/fleet/operator/setup"
	"github.com/nationtech/fleet/pki"
	"github.com/nationtech/fleet/test/simulated"
)

const (
	system, team = "fleet-system", "fleet-team"
	// replicas of each stream, where there are several servers.
	replicas = 3
)

var buckets = []contracts.Bucket{contracts.BucketDesiredState, contracts.BucketDeviceState, contracts.BucketDeviceInfo, contracts.BucketDeviceHeartbeat}

func TestMain(m *testing.M) {
	if text := os.Getenv(serverEnv); text != "" {
		if err := serve(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		fmt.Fprintln(os.Stderr, "KUBEBUILDER_ASSETS is not set: these tests need a real kube-apiserver; run `make test-cluster`")
		os.Exit(1)
	}
	ctrl.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// world is an API server, a cluster of NATS servers, an operator, and devices.
type world struct {
	*testing.T
	dir    string
	config *rest.Config
	client client.Client
	nodes  []*process
	signer string
	// ops is the operator's account and sys the system's, to look on.
	ops, sys *nats.Conn
	js       jetstream.JetStream

	mu     sync.Mutex
	orders map[contracts.DeviceID][]contracts.Order
}

func newWorld(t *testing.T, servers int, sites map[string]string) *world {
	t.Helper()
	w := &world{T: t, dir: t.TempDir(), orders: map[contracts.DeviceID][]contracts.Order{}}
	crds, err := manifests.CRDs()
	must(t, err)
	api := &envtest.Environment{CRDs: crds}
	t.Cleanup(func() { must(t, api.Stop()) })
	w.config, err = api.Start()
	must(t, err)
	w.config.QPS = -1
	scheme := runtime.NewScheme()
	must(t, errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)))
	w.client, err = client.New(w.config, client.Options{Scheme: scheme})
	must(t, err)
	for _, name := range []string{system, team} {
		must(t, w.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	}
	w.setUp(servers, sites)
	t.Cleanup(func() {
		for _, p := range w.nodes {
			p.kill(t)
			if log, err := os.ReadFile(filepath.Join(p.Dir, p.Name+".log")); err == nil && t.Failed() && testing.Verbose() {
				t.Logf("%s:\n%s", p.Name, log)
			}
		}
	})
	for _, p := range w.nodes {
		p.start(t)
	}
	keys, err := bus.ReadKeys(w.seed())
	must(t, err)
	w.signer, err = keys.Signer.PublicKey()
	must(t, err)
	w.ops, err = bus.Connect(bus.Options{URL: w.urls(), SeedFile: w.seed(), CAFile: w.ca(), Name: "onlooker"})
	must(t, err)
	t.Cleanup(w.ops.Close)
	w.sys, err = bus.Connect(bus.Options{URL: w.urls(), Key: keys.System, CAFile: w.ca(), Name: "onlooker"})
	must(t, err)
	t.Cleanup(w.sys.Close)
	w.js, err = bus.JetStream(w.ops)
	must(t, err)
	w.startOperator()
	return w
}

func (w *world) seed() string { return filepath.Join(w.dir, setup.SeedFile) }
func (w *world) ca() string   { return filepath.Join(w.dir, pki.TrustedKey) }

// urls are those of all servers of the cluster.
func (w *world) urls() string {
	var all []string
	for _, p := range w.nodes {
		all = append(all, p.url())
	}
	return strings.Join(all, ",")
}

// setUp runs setup, and does the part of the kubelet and of the DNS: it writes the Secrets
// into files, and puts where the servers are here in the place of their names.
func (w *world) setUp(servers int, sites map[string]string) {
	w.Helper()
	must(w.T, setup.Run(w.Context(), setup.Options{
		Client: w.client, Namespace: system, NATSServers: servers, NATSSites: sites, NATSTLSDir: w.dir, Clock: clock.RealClock{}, Lifetimes: pki.Usual, Report: func(string, bool) {},
	}))
	for n := range servers {
		p := &process{Name: fmt.Sprintf("fleet-nats-%d", n), Config: filepath.Join(w.dir, setup.ConfigFile), Dir: w.dir, Port: freePort(w)}
		if servers > 1 {
			p.RoutePort = freePort(w)
		}
		if sites != nil {
			p.LeafPort = freePort(w)
		}
		w.nodes = append(w.nodes, p)
	}
	for _, name := range []string{setup.SecretNATS, setup.SecretNATSTLS, setup.SecretSeed} {
		secret := &corev1.Secret{}
		must(w.T, w.client.Get(w.Context(), client.ObjectKey{Namespace: system, Name: name}, secret))
		for file, content := range secret.Data {
			if file == setup.ConfigFile {
				for n, p := range w.nodes {
					if p.RoutePort == 0 {
						continue
					}
					name := fmt.Sprintf("fleet-nats-%d.fleet-nats-nodes:%d", n, bus.ClusterPort)
					if !strings.Contains(string(content), name) {
						w.Fatalf("%s has no route to %s:\n%s", file, name, content)
					}
					content = []byte(strings.ReplaceAll(string(content), name, fmt.Sprintf("localhost:%d", p.RoutePort)))
				}
			}
			must(w.T, os.WriteFile(filepath.Join(w.dir, file), content, 0o600))
		}
	}
}

func (w *world) startOperator() {
	w.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	log := logr.Discard()
	if testing.Verbose() {
		file, err := os.Create(filepath.Join(w.dir, "operator.log"))
		must(w.T, err)
		log = logr.FromSlogHandler(slog.NewTextHandler(file, nil))
		w.Cleanup(func() {
			if text, err := os.ReadFile(file.Name()); err == nil && w.Failed() {
				w.Logf("operator:\n%s", text)
			}
		})
	}
	go func() {
		done <- operator.Run(ctx, rest.CopyConfig(w.config), log, operator.Options{
			Bus: bus.Options{URL: w.urls(), SeedFile: w.seed(), CAFile: w.ca()}, Streams: bus.StreamOptions{Replicas: min(replicas, len(w.nodes))},
			Namespace: system, MetricsAddr: "0", HealthAddr: "0", Metrics: prometheus.NewRegistry(),
			LeaderElection: leaderelection.Options{
				Enable: true, ReleaseOnCancel: true, LeaseDuration: 10 * time.Second, RenewDeadline: 8 * time.Second, RetryPeriod: 100 * time.Millisecond,
			},
		})
	}()
	w.Cleanup(func() {
		cancel()
		// Also when it has given up long before: a change of leaders is no reason to.
		if err := <-done; err != nil {
			w.Errorf("the operator ended: %v", err)
		}
	})
}

// agents makes approved Devices with a label, and connects their agents to the servers.
func (w *world) agents(count int, prefix, urls string) []*simulated.Agent {
	w.Helper()
	var all []*simulated.Agent
	for n := range count {
		a, err := simulated.NewAgent(contracts.DeviceID(fmt.Sprintf("%s-%02d", prefix, n)))
		must(w.T, err)
		d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: string(a.ID), Labels: map[string]string{"run": prefix}}}
		d.Spec.Approved, d.Spec.PublicKey = new(true), a.Public
		must(w.T, w.client.Create(w.Context(), d))
		must(w.T, a.Start(simulated.AgentOptions{
			Bus: bus.Options{URL: urls, CAFile: w.ca()}, Operator: w.signer, Heartbeat: time.Second, Told: w.told,
		}))
		w.Cleanup(a.Stop)
		all = append(all, a)
	}
	return all
}

func (w *world) told(id contracts.DeviceID, o contracts.Order) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.orders[id] = append(w.orders[id], o)
}

// deploy makes a Deployment for the devices with a label.
func (w *world) deploy(name string) {
	w.Helper()
	d := &v1alpha1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: name}}
	d.Spec.TargetSelector.MatchLabels = map[string]string{"run": name}
	d.Spec.Score.Podman = &v1alpha1.PodmanScore{Containers: []v1alpha1.Container{{Name: "c", Image: "registry.example.com/app:1"}}}
	all := intstr.FromString("100%")
	d.Spec.Rollout.MaxUnavailable = &all
	must(w.T, w.client.Create(w.Context(), d))
}

// roll changes a Deployment, on so many devices at once.
func (w *world) roll(name, image, at string) {
	w.Helper()
	d := w.get(name)
	share := intstr.FromString(at)
	d.Spec.Rollout.MaxUnavailable = &share
	d.Spec.Score.Podman.Containers[0].Image = image
	must(w.T, w.client.Update(w.Context(), d))
}

func (w *world) get(name string) *v1alpha1.Deployment {
	w.Helper()
	d := &v1alpha1.Deployment{}
	must(w.T, w.client.Get(w.Context(), client.ObjectKey{Namespace: team, Name: name}, d))
	return d
}

// complete waits until all devices run a Deployment's revision, and the aggregate says so
// and nothing else. It returns the revision.
func (w *world) complete(name string, devices int32) string {
	w.Helper()
	var d *v1alpha1.Deployment
	until(w, name+" is complete", func(context.Context) error {
		d = w.get(name)
		s := d.Status
		want := v1alpha1.Aggregate{Matched: devices, Updated: devices, Succeeded: devices}
		if s.ObservedGeneration != d.Generation || s.Aggregate == nil || *s.Aggregate != want || s.CurrentRevision != s.UpdateRevision {
			return fmt.Errorf("generation %d, status %+v, aggregate %+v", d.Generation, s, s.Aggregate)
		}
		return nil
	})
	return d.Status.CurrentRevision
}

// consistent holds what the devices were told, what is stored, and what is said of them to
// one another.
func (w *world) consistent(agents []*simulated.Agent, name, revision string) {
	w.Helper()
	w.mu.Lock()
	orders := maps.Clone(w.orders)
	w.mu.Unlock()
	digests := map[string]string{}
	for _, a := range agents {
		var last int64
		for _, o := range orders[a.ID] {
			switch {
			case o.Issued <= last:
				w.Errorf("%s was told order %d after %d", a.ID, o.Issued, last)
			case o.Desired == nil:
				w.Errorf("%s was told to remove %s", a.ID, o.Deployment)
				continue
			}
			last = o.Issued
			of := o.Desired.Revision
			if was, ok := digests[of]; ok && was != o.Desired.Digest {
				w.Errorf("%s was told revision %s with content %s, others with %s", a.ID, of, o.Desired.Digest, was)
			}
			digests[of] = o.Desired.Digest
		}
		revisions := map[string]int{}
		for _, o := range orders[a.ID] {
			revisions[o.Desired.Revision]++
		}
		for of, times := range revisions {
			if times > 1 {
				w.Errorf("%s was told revision %s in %d orders", a.ID, of, times)
			}
		}
		final := orders[a.ID][len(orders[a.ID])-1]
		if final.Desired.Revision != revision {
			w.Errorf("%s was told %s last, want %s", a.ID, final.Desired.Revision, revision)
		}
		if stored := w.stored(contracts.BucketDesiredState, contracts.DesiredStateKey(a.ID, contracts.DeploymentName(name))); string(stored) != string(final.Envelope) {
			w.Errorf("what is stored for %s is not what it was told last", a.ID)
		}
		state, err := contracts.DecodeDeploymentState(w.stored(contracts.BucketDeviceState, contracts.DeviceStateKey(a.ID, contracts.DeploymentName(name))))
		if err != nil || state.Revision != revision || state.Phase != contracts.PhaseRunning || state.Issued != final.Issued {
			w.Errorf("%s says %+v (%v), want that it runs %s", a.ID, state, err, revision)
		}
	}
}

func (w *world) stored(bucket contracts.Bucket, key string) []byte {
	w.Helper()
	stream, err := w.js.Stream(w.Context(), bucket.Stream())
	must(w.T, err)
	m, err := stream.GetLastMsgForSubject(w.Context(), bucket.Subject(key))
	must(w.T, err)
	return m.Data
}

// leader is the server that leads the stream of a bucket.
func (w *world) leader(bucket contracts.Bucket) *process {
	w.Helper()
	info, err := w.cluster(w.Context(), bucket)
	must(w.T, err)
	n := slices.IndexFunc(w.nodes, func(p *process) bool { return p.Name == info.Leader })
	if n < 0 {
		w.Fatalf("%q leads %s", info.Leader, bucket)
	}
	return w.nodes[n]
}

func (w *world) cluster(ctx context.Context, bucket contracts.Bucket) (*jetstream.ClusterInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	stream, err := w.js.Stream(ctx, bucket.Stream())
	if err != nil {
		return nil, err
	}
	if c := stream.CachedInfo().Cluster; c != nil {
		return c, nil
	}
	return nil, errors.New("it is in no cluster")
}

// current waits until every server has all of every stream.
func (w *world) current() {
	w.Helper()
	until(w, "every server has every stream", func(ctx context.Context) error {
		for _, b := range buckets {
			info, err := w.cluster(ctx, b)
			if err != nil {
				return fmt.Errorf("%s: %w", b, err)
			}
			if len(info.Replicas) != replicas-1 {
				return fmt.Errorf("%s has %d replicas beside the leader", b, len(info.Replicas))
			}
			for _, r := range info.Replicas {
				if !r.Current || r.Offline || r.Lag > 0 {
					return fmt.Errorf("%s on %s: %+v", b, r.Name, r)
				}
			}
		}
		return nil
	})
}
