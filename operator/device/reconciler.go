// Package device reconciles Devices: it registers those that report for the first
// time, says how each is doing, and clears up after those that are deleted.
package device

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	// get while the device is online, give or take a fifth.
	heartbeatRefresh = 10 * time.Minute
	busRetry         = time.Second
	// undecided is when to look again whether a Deployment that was not reconciled
	// yet selects a device; everything else that matters brings us back by itself.
	undecided = 30 * time.Second
	// settle is how long a device whose Device was deleted is not registered anew:
	// who deletes one often makes another.
	settle = time.Minute
)

//+kubebuilder:rbac:groups=fleet.nationtech.io,resources=devices,verbs=get;list;watch;patch
//+kubebuilder:rbac:groups=fleet.nationtech.io,namespace=fleet-system,resources=devices,verbs=create;delete
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
	// Namespace is where a device is registered that no Device stands for.
	Namespace string

	pace   *pace.Pacer[types.NamespacedName]
	writes ownwrite.Writes
	// deleted has when the Device of a device was, by contracts.DeviceID.
	deleted sync.Map
}

// SetupWithManager has the manager run the Reconciler.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, options controller.Options) error {
	r.pace = pace.New[types.NamespacedName](r.Clock)
	return ctrl.NewControllerManagedBy(mgr).
		Named("device").
		For(&v1alpha1.Device{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(coalesce.Source(r.Roster.ChangedDevices())).
		WatchesRawSource(coalesce.SourceOf(r.View.ChangedDevices(), r.standFor)).
		WithOptions(options).
		Complete(r)
}

// standFor lists the Devices that stand for a device, or the one that is to be
// made for it.
func (r *Reconciler) standFor(id contracts.DeviceID) []types.NamespacedName {
	if named := r.Roster.Named(id); len(named) > 0 {
		return named
	}
	return []types.NamespacedName{{Namespace: r.Namespace, Name: string(id)}}
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
		return r.register(ctx, contracts.DeviceID(request.Name))
	}
	if behind, err := r.writes.Behind(obj); behind || err != nil {
		return ctrl.Result{RequeueAfter: ownwrite.Retry}, err
	}
	written, c := obj.DeepCopy(), r.writes.Client(r.Client)
	if obj.DeletionTimestamp != nil {
		return r.finalize(ctx, obj, written)
	}
	if r.replaced(obj) {
		ctrl.LoggerFrom(ctx).Info("another Device stands for the device now, this one goes")
		return ctrl.Result{}, client.IgnoreNotFound(r.Delete(ctx, obj, client.Preconditions{UID: &obj.UID, ResourceVersion: &obj.ResourceVersion}))
	}
	if controllerutil.AddFinalizer(obj, v1alpha1.Finalizer) {
		if err := c.Patch(ctx, obj, exactly(written), fieldOwner); err != nil {
			return ctrl.Result{}, err
		}
		written = obj.DeepCopy()
	}
	result, err := r.withdraw(ctx, obj)
	if err != nil {
		return ctrl.Result{}, err
	}
	before := obj.Status.DeepCopy()
	r.setStatus(obj)
	if result.RequeueAfter == 0 && obj.Status.LastHeartbeatTime != nil && r.View.Device(contracts.DeviceID(obj.Name)).Online {
		result.RequeueAfter = heartbeatRefresh - rand.N(heartbeatRefresh/5)
	}
	changed, urgent := compare(before, &obj.Status)
	if !changed {
		return result, nil
	}
	if wait := r.pace.Wait(request.NamespacedName, urgent); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	r.announce(obj, before)
	// In one piece, so that nobody sees the conditions of one moment with the counts of
	// another.
	err = c.Status().Patch(ctx, obj, client.MergeFrom(written), fieldOwner)
	return result, client.IgnoreNotFound(err)
}

// withdraw has the device remove what it runs and no Deployment wants, and which it
// was not told to remove: the bucket that said so was lost. Deployments that exist
// tell it themselves.
func (r *Reconciler) withdraw(ctx context.Context, obj *v1alpha1.Device) (ctrl.Result, error) {
	id := contracts.DeviceID(obj.Name)
	if owner, ok := r.Roster.Owner(id); !ok || owner.UID != obj.UID {
		return ctrl.Result{}, nil
	}
	var unwanted []desired.Key
	result := ctrl.Result{}
	for _, name := range r.View.Untold(id) {
		key := types.NamespacedName{Namespace: obj.Namespace, Name: string(name)}
		if selects, known := r.Roster.Selects(key, id); known {
			if !selects {
				unwanted = append(unwanted, desired.Key{Device: id, Deployment: name})
			}
			continue
		}
		switch err := r.Get(ctx, key, &v1alpha1.Deployment{}); {
		case apierrors.IsNotFound(err):
			unwanted = append(unwanted, desired.Key{Device: id, Deployment: name})
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

// register makes a Device for a device that has reported and that none stands
// for. It is not approved and has no labels: nothing selects it until a person or
// Git says so.
func (r *Reconciler) register(ctx context.Context, id contracts.DeviceID) (ctrl.Result, error) {
	if at, ok := r.deleted.Load(id); ok {
		if wait := settle - r.Clock.Since(at.(time.Time)); wait > 0 {
			return ctrl.Result{RequeueAfter: wait}, nil
		}
		r.deleted.Delete(id)
	}
	seen := r.View.Device(id)
	if seen.Info == nil || len(r.Roster.Named(id)) > 0 {
		return ctrl.Result{}, nil
	}
	obj := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{
		Namespace: r.Namespace, Name: string(id), Annotations: map[string]string{v1alpha1.AnnotationRegistered: "true"},
	}}
	obj.Spec.PublicKey = seen.Info.PublicKey
	err := r.Create(ctx, obj, fieldOwner)
	switch {
	case apierrors.IsAlreadyExists(err):
		return ctrl.Result{}, nil
	case apierrors.IsInvalid(err):
		// Trying again does not change what the device says.
		ctrl.LoggerFrom(ctx).Error(err, "what the device registers with is refused")
		return ctrl.Result{}, nil
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("register device %s/%s: %w", r.Namespace, id, err)
	}
	r.Recorder.Normal(obj, nil, v1alpha1.ReasonRegistered, "The device has reported for the first time; set spec.approved to let it take part")
	return ctrl.Result{}, nil
}

// replaced reports whether a Device was made by register, and a Device that
// somebody made for the same key stands for the device now. Elsewhere than where
// register makes them a Device is somebody's own, whatever its annotations say:
// people copy those.
func (r *Reconciler) replaced(obj *v1alpha1.Device) bool {
	if obj.Namespace != r.Namespace {
		return false
	}
	me, ok := r.Roster.Device(obj.Namespace, contracts.DeviceID(obj.Name))
	owner, owned := r.Roster.Owner(contracts.DeviceID(obj.Name))
	return ok && owned && me.Placeholder && me.UID == obj.UID && owner.Namespace != obj.Namespace && owner.PublicKey == me.PublicKey
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
		if err := r.Store.Forget(ctx, id); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "the bus does not forget the device, trying again")
			return ctrl.Result{RequeueAfter: busRetry}, nil
		}
		r.deleted.Store(id, r.Clock.Now())
	}
	if controllerutil.RemoveFinalizer(obj, v1alpha1.Finalizer) {
		if err := r.Patch(ctx, obj, exactly(written), fieldOwner); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
	}
	r.pace.Forget(client.ObjectKeyFromObject(obj))
	return ctrl.Result{}, nil
}
