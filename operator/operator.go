// Package operator wires the operator: a controller-runtime manager with the
// reconcilers, and the bus to the devices.
package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/runtime/leaderelection"
	"github.com/fluxcd/pkg/runtime/pprof"
	"github.com/fluxcd/pkg/runtime/probes"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/admission"
	"github.com/nationtech/fleet/operator/deployment"
	"github.com/nationtech/fleet/operator/desired"
	"github.com/nationtech/fleet/operator/device"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/operator/gate"
	"github.com/nationtech/fleet/operator/join"
	"github.com/nationtech/fleet/operator/liveapi"
	"github.com/nationtech/fleet/operator/record"
	"github.com/nationtech/fleet/operator/roster"
	"github.com/nationtech/fleet/operator/setup"
	"github.com/nationtech/fleet/pki"
)

const name = "fleet-operator"

// Options of an operator.
type Options struct {
	// Bus to the devices.
	Bus bus.Options
	// PublicURL is where devices find the NATS server; empty for where the operator does.
	PublicURL string
	Streams   bus.StreamOptions
	// PreviousSeedFiles hold the seeds that the operator had before the one in
	// Bus.SeedFile, as long as there may be devices that trust no other.
	PreviousSeedFiles []string
	// MetricsAddr, HealthAddr: where to listen; "0" for nowhere.
	MetricsAddr, HealthAddr string
	// EventsAddr is where Flux's notification-controller listens; empty for none.
	EventsAddr     string
	LeaderElection leaderelection.Options
	// LookForFlux is how often to look whether Flux has come; 0 is once a minute.
	LookForFlux time.Duration
	// LookAtSecrets is how often, at most, a Deployment looks whether its Secrets have
	// changed; 0 is twice a minute.
	LookAtSecrets time.Duration
	// Namespace that the operator runs in and has its Lease in.
	Namespace string
	// Live is the address of the live API; empty for none. LiveCertFile and LiveKeyFile
	// are its certificate, empty for one that is made for this run. Kubeconfig is what
	// it asks with who somebody is; empty for the cluster that this runs in.
	Live, LiveCertFile, LiveKeyFile, Kubeconfig string
	// Lifetimes of the certificates of setup.Run that the operator keeps fresh; none keeps
	// none.
	Lifetimes pki.Lifetimes
	// Metrics is where metrics are registered; nil is what MetricsAddr serves.
	Metrics prometheus.Registerer
}

// Run runs an operator against the cluster until the context ends. It returns an
// error when it can't go on, and is to be started again then.
func Run(ctx context.Context, config *rest.Config, log logr.Logger, o Options) error {
	if o.Metrics == nil {
		o.Metrics = ctrlmetrics.Registry
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, kustomizev1.AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	ofDeployment, err := labels.NewRequirement(deployment.LabelDeployment, selection.Exists, nil)
	if err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme,
		Logger: log,
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject: map[client.Object]cache.ByObject{
				&appsv1.ControllerRevision{}: {Label: labels.NewSelector().Add(*ofDeployment)},
				&v1alpha1.Device{}:           {Transform: device.Slim},
			},
		},
		Client:                        client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}, &corev1.ConfigMap{}}}},
		Metrics:                       metricsserver.Options{BindAddress: o.MetricsAddr, ExtraHandlers: pprof.GetHandlers()},
		HealthProbeBindAddress:        o.HealthAddr,
		LeaderElection:                o.LeaderElection.Enable,
		LeaderElectionID:              name + "-leader-election",
		LeaderElectionNamespace:       o.Namespace,
		LeaderElectionReleaseOnCancel: o.LeaderElection.ReleaseOnCancel,
		LeaseDuration:                 &o.LeaderElection.LeaseDuration,
		RenewDeadline:                 &o.LeaderElection.RenewDeadline,
		RetryPeriod:                   &o.LeaderElection.RetryPeriod,
	})
	if err != nil {
		return fmt.Errorf("set up the manager: %w", err)
	}
	probes.SetupChecks(mgr, log)
	if o.PublicURL == "" {
		o.PublicURL = o.Bus.URL
	}

	o.Bus.Name, o.Bus.Logger = name, slog.New(logr.ToSlogHandler(log.WithName("bus")))
	keys, err := bus.ReadKeys(o.Bus.SeedFile)
	if err != nil {
		return err
	}
	signer, previous, err := readSigners(keys, o.PreviousSeedFiles)
	if err != nil {
		return err
	}
	nc, err := bus.Connect(o.Bus)
	if err != nil {
		return err
	}
	defer nc.Close()
	system := o.Bus
	system.Name, system.Key = name+" system", keys.System
	systemConn, err := bus.Connect(system)
	if err != nil {
		return err
	}
	defer systemConn.Close()
	js, err := bus.JetStream(nc)
	if err != nil {
		return err
	}
	recorder, err := record.New(mgr, o.EventsAddr, name)
	if err != nil {
		return err
	}

	inView := gate.New()
	devices := roster.New()
	live := liveapi.NewStore(time.Now())
	devices.Observe(func(id contracts.DeviceID, _, d *roster.Device) { live.Device(id, d) })
	view := fleetview.New(fleetview.Options{
		Clock:       clock.RealClock{},
		Signer:      signer.Public(),
		Previous:    publicKeys(previous),
		Observer:    live,
		OnMalformed: malformed{mgr.GetClient(), devices, recorder, log, inView}.tell,
	})
	store := &desired.Store{JetStream: js, View: view, Clock: clock.RealClock{}, Signer: signer, Previous: previous}
	if err := mgr.AddReadyzCheck("fleet-view", func(*http.Request) error {
		if !inView.IsOpen() {
			return errors.New("the buckets are not read yet")
		}
		return nil
	}); err != nil {
		return err
	}
	synced, err := follow(ctx, mgr, devices)
	if err != nil {
		return err
	}
	read := gate.New()
	for _, r := range []manager.Runnable{
		recorder,
		&follower{js: js, view: view, gate: read, streams: o.Streams, handovers: handovers(signer, previous, view, inView), log: o.Bus.Logger},
		&desired.Renewer{Store: store, Gate: inView, Logger: o.Bus.Logger},
		&opener{read: read, synced: synced, open: inView},
		admission.New(devices, admission.Options{Synced: synced, Conn: nc, System: systemConn, Issuer: keys.Issuer, Log: o.Bus.Logger}),
	} {
		if err := mgr.Add(r); err != nil {
			return err
		}
	}

	if o.Live != "" {
		listener, err := net.Listen("tcp", o.Live)
		if err != nil {
			return fmt.Errorf("listen for the live API: %w", err)
		}
		server, err := liveapi.NewServer(liveapi.Options{
			Store: live, Ready: inView.IsOpen, Roster: devices, View: view, Commander: bus.NewCommander(nc, o.Bus.Logger), Listener: listener,
			CertFile: o.LiveCertFile, KeyFile: o.LiveKeyFile, Kubeconfig: o.Kubeconfig,
		})
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		if err := mgr.Add(server); err != nil {
			return err
		}
	}

	flux, err := hasFlux(mgr)
	if err != nil {
		return err
	}
	if !flux {
		log.Info("this cluster has no Kustomizations of Flux: the status of Deployments names no source until it has")
		every := o.LookForFlux
		if every <= 0 {
			every = lookForFlux
		}
		if err := mgr.Add(&fluxAwaiter{every: every, has: func() (bool, error) { return hasFlux(mgr) }, log: log}); err != nil {
			return err
		}
	}
	if err := (&deployment.Reconciler{
		Client: mgr.GetClient(), APIReader: mgr.GetAPIReader(), Namespace: o.Namespace, LookAtSecrets: o.LookAtSecrets, Gate: inView, Roster: devices, View: view, Store: store,
		Recorder: recorder, Clock: clock.RealClock{}, Flux: flux, Metrics: o.Metrics,
	}).SetupWithManager(ctx, mgr, options(4)); err != nil {
		return err
	}
	if err := (&device.Reconciler{
		Client: mgr.GetClient(), Gate: inView, Roster: devices, View: view, Store: store, Recorder: recorder,
		Clock: clock.RealClock{},
	}).SetupWithManager(mgr, options(8)); err != nil {
		return err
	}
	authorities := bus.AuthoritiesOf(o.Bus.CAFile)
	joins := &join.Service{
		Client: mgr.GetClient(), Gate: inView, Roster: devices, Recorder: recorder, Clock: clock.RealClock{},
		Conn: nc, Keys: keys, Authorities: authorities, Log: o.Bus.Logger,
	}
	devices.Observe(joins.Changed)
	for _, r := range []manager.Runnable{
		joins,
		&join.Publisher{Client: mgr.GetClient(), Namespace: o.Namespace, Operator: signer.Public(), Server: o.PublicURL, Authorities: authorities},
	} {
		if err := mgr.Add(r); err != nil {
			return err
		}
	}
	if o.Lifetimes != (pki.Lifetimes{}) {
		if err := mgr.Add(&setup.Keeper{
			Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Namespace: o.Namespace, Lifetimes: o.Lifetimes, Clock: clock.RealClock{},
			System: systemConn, Log: slog.New(logr.ToSlogHandler(log.WithName("certificates"))), Metrics: o.Metrics,
		}); err != nil {
			return err
		}
	}
	if err := newMetrics(o.Metrics, view, store); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// options of a controller. An error is tried again after at most half a minute:
// what caused it is somebody else's restart more often than a mistake.
func options(concurrent int) controller.Options {
	return controller.Options{
		MaxConcurrentReconciles: concurrent,
		// Tests run several operators in one process.
		SkipNameValidation: new(true),
		// The priority queue of controller-runtime 0.24 can block for ever when it is shut
		// down, and with it the end of the operator, which keeps its Lease meanwhile:
		// https://github.com/kubernetes-sigs/controller-runtime/issues/3538
		UsePriorityQueue: new(false),
		RateLimiter:      workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](100*time.Millisecond, 30*time.Second),
	}
}

// follow keeps the roster as the cluster's Devices are. The function that it
// returns reports whether it has seen all.
func follow(ctx context.Context, mgr ctrl.Manager, r *roster.Roster) (func() bool, error) {
	informer, err := mgr.GetCache().GetInformer(ctx, &v1alpha1.Device{}, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watch Devices: %w", err)
	}
	set := func(o any) {
		if d, ok := o.(*v1alpha1.Device); ok {
			r.Set(d)
		}
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    set,
		UpdateFunc: func(_, o any) { set(o) },
		DeleteFunc: func(o any) {
			if last, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
				o = last.Obj
			}
			if d, ok := o.(*v1alpha1.Device); ok {
				r.Remove(types.NamespacedName{Namespace: d.Namespace, Name: d.Name})
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("watch Devices: %w", err)
	}
	return registration.HasSynced, nil
}

// opener opens the gate when both the bus and the cluster were read.
type opener struct {
	read   *gate.Gate
	synced func() bool
	open   *gate.Gate
}

// NeedLeaderElection says that every replica has a view.
func (o *opener) NeedLeaderElection() bool { return false }

// Start opens the gate.
func (o *opener) Start(ctx context.Context) error {
	if o.read.Wait(ctx) == nil && toolscache.WaitForCacheSync(ctx.Done(), o.synced) {
		o.open.Open()
	}
	return nil
}
