// Package device reconciles Devices: it says how each is doing, and clears up after
// those that are deleted or shut out.
package device

import (
	"context"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/coalesce"
	"github.com/nationtech/fleet/operator/desired"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/operator/gate"
	"github.com/nationtech/fleet/operator/ownwrite"
	"github.com/nationtech/fleet/operator/pace"
	"github.com/nationtech/fleet/operator/record"
	"github.com/nationtech/fleet/operator/roster"
)

const (
	fieldOwner = client.FieldOwner("fleet-operator")
	// heartbeatRefresh is how old the time of the last heartbeat in a status may
	// get while the device is online, give or take a fifth. Of a fleet that is large it
	// gets older: nobody waits for it, and the API server has better things to do.
	heartbeatRefresh   = 10 * time.Minute
	refreshesPerSecond = 5
	// countsPerSecond is how many Devices of a large fleet have their counts written in a
	// second: during a rollout those of each device change and change back.
	countsPerSecond = 200
	// newcomersPerSecond is how many Devices that nobody has heard of yet, beyond the first
	// newcomers, have that said in their status in a second. Of a whole fleet that is made
	// at once, most connect before it is their turn.
	newcomersPerSecond = 10
	newcomers          = 100
	busRetry           = time.Second
	// undecided is when to look again whether a Deployment that was not reconciled
	// yet selects a device; everything else that matters brings us back by itself.
	undecided = 30 * time.Second
)

//+kubebuilder:rbac:groups=fleet.nationtech.io,resources=devices,verbs=list;watch;patch
//+kubebuilder:rbac:groups=fleet.nationtech.io,resources=devices/status,verbs=patch

// Reconciler reconciles Devices.
type Reconciler struct {
	client.Client
	Gate     *gate.Gate
	Roster   *roster.Roster
	View     *fleetview.View
	Store    *desired.Store
	Recorder *record.Recorder
	Clock    clock.PassiveClock

	pace      *pace.Pacer[types.NamespacedName]
	newcomers *rate.Limiter
	writes    ownwrite.Writes
}

// SetupWithManager has the manager run the Reconciler.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, options controller.Options) error {
	r.pace = pace.New[types.NamespacedName](r.Clock)
	r.newcomers = rate.NewLimiter(newcomersPerSecond, newcomers)
	return ctrl.NewControllerManagedBy(mgr).
		Named("device").
		For(&v1alpha1.Device{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(coalesce.Source(r.Roster.ChangedDevices())).
		WatchesRawSource(coalesce.SourceOf(r.View.ChangedDevices(), r.Roster.Named)).
		WithOptions(options).
		Complete(r)
}

// Reconcile brings one Device a step further.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	if err := r.Gate.Wait(ctx); err != nil {
		return ctrl.Result{}, err
	}
	obj := &v1alpha1.Device{}
	if err := r.Get(ctx, request.NamespacedName, obj); err != nil {
		if !apierrors.IsNotFound(err) {
			return ctrl.Result{}, err
		}
		r.pace.Forget(request.NamespacedName)
		r.writes.Forget(request.NamespacedName)
		return ctrl.Result{}, nil
	}
	if behind, err := r.writes.Behind(obj); behind || err != nil {
		return ctrl.Result{RequeueAfter: ownwrite.Retry}, err
	}
	written, c := obj.DeepCopy(), r.writes.Client(r.Client)
	if obj.DeletionTimestamp != nil {
		return r.finalize(ctx, obj, written)
	}
	if controllerutil.AddFinalizer(obj, v1alpha1.Finalizer) {
		if err := c.Patch(ctx, obj, exactly(written), fieldOwner); err != nil {
			return ctrl.Result{}, err
		}
		written = obj.DeepCopy()
	}
	if obj.Spec.Approved == nil || !*obj.Spec.Approved {
		if wait, err := r.forget(ctx, obj); wait > 0 || err != nil {
			return ctrl.Result{RequeueAfter: wait}, err
		}
	}
	result, err := r.withdraw(ctx, obj)
	if err != nil {
		return ctrl.Result{}, err
	}
	before := obj.Status.DeepCopy()
	r.setStatus(obj)
	if result.RequeueAfter == 0 && obj.Status.LastHeartbeatTime != nil && r.View.Device(contracts.DeviceID(obj.Name)).Online {
		refresh := r.refresh()
		result.RequeueAfter = refresh - rand.N(refresh/5)
	}
	changed, urgent := compare(before, &obj.Status)
	if !changed {
		r.pace.Settled(request.NamespacedName)
		return result, nil
	}
	settle := r.round(countsPerSecond)
	if newcomer(before, &obj.Status) {
		urgent, settle = r.newcomers.AllowN(r.Clock.Now(), 1), r.round(newcomersPerSecond)
	}
	if wait := r.pace.Wait(request.NamespacedName, urgent, settle); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	r.announce(obj, before)
	// In one piece, so that nobody sees the conditions of one moment with the counts of
	// another.
	err = c.Status().Patch(ctx, obj, client.MergeFrom(written), fieldOwner)
	return result, client.IgnoreNotFound(err)
}

// refresh is heartbeatRefresh in a fleet of this size.
func (r *Reconciler) refresh() time.Duration {
	return max(heartbeatRefresh, r.round(refreshesPerSecond))
}

// round is how long it takes to go once through the fleet, that many in a second.
func (r *Reconciler) round(perSecond int) time.Duration {
	return time.Duration(r.Roster.Len()) * time.Second / time.Duration(perSecond)
}

// withdraw has the device remove what it runs and no Deployment wants, and which it
// was not told to remove: the bucket that said so was lost. Deployments that exist
// tell it themselves.
func (r *Reconciler) withdraw(ctx context.Context, obj *v1alpha1.Device) (ctrl.Result, error) {
	id := contracts.DeviceID(obj.Name)
	if owner, ok := r.Roster.Owner(id); !ok || owner.UID != obj.UID {
		return ctrl.Result{}, nil
	}
	var unwanted []fleetview.Key
	result := ctrl.Result{}
	for _, name := range r.View.Untold(id) {
		key := types.NamespacedName{Namespace: obj.Namespace, Name: string(name)}
		if selects, known := r.Roster.Selects(key, id); known {
			if !selects {
				unwanted = append(unwanted, fleetview.Key{Device: id, Deployment: name})
			}
			continue
		}
		switch err := r.Get(ctx, key, &v1alpha1.Deployment{}); {
		case apierrors.IsNotFound(err):
			unwanted = append(unwanted, fleetview.Key{Device: id, Deployment: name})
		case err != nil:
			return ctrl.Result{}, err
		default:
			// Not reconciled yet, so nobody knows what it selects.
			result.RequeueAfter = undecided
		}
	}
	if len(unwanted) == 0 {
		return result, nil
	}
	if err := r.Store.Withdraw(ctx, unwanted); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "the bus does not take desired state, trying again")
		return ctrl.Result{RequeueAfter: busRetry}, nil
	}
	ctrl.LoggerFrom(ctx).Info("the device runs what no Deployment wants, and is told to remove it", "deployments", unwanted)
	return result, nil
}

// forget removes what the bus holds of a device that is shut out, when it is told
// nothing any longer.
func (r *Reconciler) forget(ctx context.Context, obj *v1alpha1.Device) (time.Duration, error) {
	id := contracts.DeviceID(obj.Name)
	if owner, ok := r.Roster.Owner(id); !ok || owner.UID != obj.UID || len(r.View.ToldTo(id, obj.Namespace)) > 0 {
		return 0, nil
	}
	if seen := r.View.Device(id); seen.Info == nil && seen.LastHeartbeat.IsZero() && len(r.View.ReportedBy(id)) == 0 {
		return 0, nil
	}
	if err := r.Store.Forget(ctx, id, true); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "the bus does not forget the device, trying again")
		return busRetry, nil
	}
	return 0, nil
}

// exactly is a patch of what was read and nothing newer: the list of finalizers is
// written as a whole.
func exactly(written *v1alpha1.Device) client.Patch {
	return client.MergeFromWithOptions(written, client.MergeFromWithOptimisticLock{})
}

// finalize lets a Device go when nothing is left of it on the bus. What it was
// told is withdrawn by the Deployments, which select it no more.
func (r *Reconciler) finalize(ctx context.Context, obj, written *v1alpha1.Device) (ctrl.Result, error) {
	id := contracts.DeviceID(obj.Name)
	if owner, ok := r.Roster.Owner(id); ok && owner.Namespace == obj.Namespace && owner.UID == obj.UID {
		if left := r.View.ToldTo(id, obj.Namespace); len(left) > 0 {
			// Each withdrawal changes the device's counts, which brings us back.
			return ctrl.Result{}, nil
		}
		if err := r.Store.Forget(ctx, id, false); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "the bus does not forget the device, trying again")
			return ctrl.Result{RequeueAfter: busRetry}, nil
		}
	}
	if controllerutil.RemoveFinalizer(obj, v1alpha1.Finalizer) {
		if err := r.Patch(ctx, obj, exactly(written), fieldOwner); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
	}
	r.pace.Forget(client.ObjectKeyFromObject(obj))
	return ctrl.Result{}, nil
}
