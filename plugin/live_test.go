package plugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/operator/liveapi"
	"github.com/nationtech/fleet/operator/roster"
)

// liveAPI is the operator's live API as the shared API server has it, with what the
// tests say of devices. Devices have their ID in the whole fleet: a test has to call
// its devices otherwise than the other tests do.
type liveAPI struct {
	ready atomic.Bool
	port  int
	stop  func()

	mu    sync.Mutex
	store *liveapi.Store
	told  []func(*liveapi.Store)
}

// startLive serves the live API and has the API server pass requests on to it.
func startLive(ctx context.Context, c client.Client) (*liveAPI, error) {
	l := &liveAPI{}
	l.ready.Store(true)
	if err := l.serve(); err != nil {
		return nil, err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "fleet-system"}}
	// There are no pods that it could select, so it is another name of this machine.
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "fleet-operator-live"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"},
	}
	for _, o := range []client.Object{namespace, service} {
		if err := c.Create(ctx, o); err != nil {
			return nil, err
		}
	}
	return l, l.register(ctx, c)
}

// serve begins with an empty store, as a process that has just started, and tells it
// what the one before was told.
func (l *liveAPI) serve() error {
	store := liveapi.NewStore(time.Now())
	l.mu.Lock()
	for _, tell := range l.told {
		tell(store)
	}
	l.store = store
	l.mu.Unlock()
	listener, err := net.Listen("tcp", fmt.Sprintf("localhost:%d", l.port))
	if err != nil {
		return err
	}
	l.port = listener.Addr().(*net.TCPAddr).Port
	server, err := liveapi.NewServer(liveapi.Options{Store: store, Ready: l.ready.Load, Listener: listener, Trusting: true})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Start(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "the live API ended:", err)
		}
	}()
	l.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	return nil
}

// register makes the APIService of the manifests, with the port of this server.
func (l *liveAPI) register(ctx context.Context, c client.Client) error {
	raw, err := os.ReadFile("../manifests/live/apiservice.yaml")
	if err != nil {
		return err
	}
	api := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(raw, &api.Object); err != nil {
		return err
	}
	if err := unstructured.SetNestedField(api.Object, int64(l.port), "spec", "service", "port"); err != nil {
		return err
	}
	// The server here has a certificate that it made for itself.
	if err := unstructured.SetNestedField(api.Object, true, "spec", "insecureSkipTLSVerify"); err != nil {
		return err
	}
	if err := c.Create(ctx, api); err != nil {
		return err
	}
	return l.await(ctx, c, true)
}

// await waits until the live API answers, or answers no more.
func (l *liveAPI) await(ctx context.Context, c client.Client, answers bool) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for {
		err := c.List(ctx, &live.HeartbeatList{}, client.Limit(1))
		if (err == nil) == answers {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(errors.New("the live API does not get as it should be"), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// tell tells the live API something, and every one that is started after it.
func (l *liveAPI) tell(f func(*liveapi.Store)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = append(l.told, f)
	f(l.store)
}

// device tells of a Device and its last heartbeat.
func (l *liveAPI) device(ns, name string, h fleetview.Heartbeat) {
	l.tell(func(s *liveapi.Store) {
		// First the heartbeat: without its Device nobody sees it.
		s.Heartbeat(contracts.DeviceID(name), h)
		s.Device(contracts.DeviceID(name), &roster.Device{
			ID: contracts.DeviceID(name), Namespace: ns, UID: types.UID("uid-" + name), Labels: map[string]string{"site": name[:1]}, Created: shared.now.Add(-25 * time.Hour),
		})
	})
}

// placement tells how a Deployment stands on a device.
func (l *liveAPI) placement(device, deployment string, p fleetview.Placement) {
	l.tell(func(s *liveapi.Store) {
		s.Placement(contracts.DeviceID(device), contracts.DeploymentName(deployment), p)
	})
}

// restart replaces the server by a new one; in between there is none.
func (l *liveAPI) restart(t *testing.T, between func()) {
	t.Helper()
	l.stop()
	between()
	must(t, l.serve())
	must(t, l.await(t.Context(), shared.client, true))
}

// remove takes the live API out of the API server until the test ends.
func (l *liveAPI) remove(t *testing.T) {
	t.Helper()
	api := &unstructured.Unstructured{}
	api.SetAPIVersion("apiregistration.k8s.io/v1")
	api.SetKind("APIService")
	api.SetName(live.GroupVersion.Version + "." + live.GroupVersion.Group)
	must(t, shared.client.Delete(t.Context(), api))
	must(t, l.await(t.Context(), shared.client, false))
	t.Cleanup(func() { must(t, l.register(context.Background(), shared.client)) })
}

// beat is a heartbeat that arrived so long before the commands' present.
func beat(ago time.Duration) fleetview.Heartbeat {
	return fleetview.Heartbeat{
		Online: true, Last: shared.now.Add(-ago), Interval: 30 * time.Second, Sequence: 4711, Uptime: 3 * time.Hour,
		Latency: 12 * time.Millisecond, AgentVersion: "v0.1.0", Hostname: "till",
	}
}

// silent is a heartbeat after which none came.
func silent(ago time.Duration) fleetview.Heartbeat {
	h := beat(ago)
	h.Online, h.Missed = false, 3
	return h
}

// placed is a Deployment that runs on a device as it was told.
func placed(revision string, since time.Duration) fleetview.Placement {
	return fleetview.Placement{
		Order:  fleetview.Order{Told: true, Revision: revision, Digest: revision, ToldWave: "all"},
		Report: fleetview.Report{Phase: contracts.PhaseRunning, ReportedRevision: revision, ReportedDigest: revision},
		ToldAt: shared.now.Add(-since - time.Minute), PhaseSince: shared.now.Add(-since), Online: true,
	}
}
