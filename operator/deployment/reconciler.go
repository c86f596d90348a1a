// Package deployment reconciles Deployments: it makes revisions of their scores,
// has the planner decide which devices are told, tells them, and keeps the status.
package deployment

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/desired"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/operator/gate"
	"github.com/nationtech/fleet/operator/ownwrite"
	"github.com/nationtech/fleet/operator/pace"
	"github.com/nationtech/fleet/operator/record"
	"github.com/nationtech/fleet/operator/resolve"
	"github.com/nationtech/fleet/operator/rollout"
	"github.com/nationtech/fleet/operator/roster"
)

// FieldOwner is whose fields a status is.
const FieldOwner = client.FieldOwner("fleet-operator")

// busRetry is how soon something is tried again that the bus did not take. The
// back-off of errors would be too slow once the bus is there again.
const busRetry = time.Second

//+kubebuilder:rbac:groups=fleet.nationtech.io,resources=deployments,verbs=list;watch;patch
//+kubebuilder:rbac:groups=fleet.nationtech.io,resources=deployments/status,verbs=patch
//+kubebuilder:rbac:groups=fleet.nationtech.io,resources=deployments/finalizers,verbs=update
//+kubebuilder:rbac:groups="",resources=configmaps,verbs=get;list;watch
//+kubebuilder:rbac:groups="",resources=events,verbs=create;patch
//+kubebuilder:rbac:groups=apps,resources=controllerrevisions,verbs=get;list;watch;create;patch;delete
//+kubebuilder:rbac:groups=kustomize.toolkit.fluxcd.io,resources=kustomizations,verbs=get;list;watch

// Reconciler reconciles Deployments.
type Reconciler struct {
	client.Client
	// APIReader reads ConfigMaps and Secrets: a cache of every ConfigMap of the cluster
	// would cost more than the few reads, and Secrets the operator may not list.
	APIReader client.Reader
	// Namespace is the operator's own, in which it keeps the salt of its digests.
	Namespace string
	// LookAtSecrets is how often, at most, a Deployment looks whether its Secrets have
	// changed; 0 is twice a minute.
	LookAtSecrets time.Duration
	Gate          *gate.Gate
	Roster        *roster.Roster
	View          *fleetview.View
	Store         *desired.Store
	Recorder      *record.Recorder
	Clock         clock.PassiveClock
	// Flux tells that the cluster has Kustomizations.
	Flux bool
	// Metrics is where the counts of devices are registered.
	Metrics prometheus.Registerer

	pace      *pace.Pacer[types.NamespacedName]
	rests     *pace.Rests[types.NamespacedName]
	templates templates
	metrics   *metrics
	// writes are of Deployments, revisionWrites of their ControllerRevisions.
	writes, revisionWrites ownwrite.Writes
	// sifted has, by Deployment, the last search for strays.
	sifted sync.Map
	salt   salt
}

// Reconcile brings one Deployment a step further.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (result ctrl.Result, err error) {
	if err := r.Gate.Wait(ctx); err != nil {
		return ctrl.Result{}, err
	}
	obj := &v1alpha1.Deployment{}
	if err := r.Get(ctx, request.NamespacedName, obj); err != nil {
		if !apierrors.IsNotFound(err) {
			return ctrl.Result{}, err
		}
		return r.gone(ctx, request.NamespacedName)
	}
	if behind, err := r.writes.Behind(obj); behind || err != nil {
		return ctrl.Result{RequeueAfter: ownwrite.Retry}, err
	}
	if left := r.rests.Left(request.NamespacedName); left > 0 && obj.Generation == obj.Status.ObservedGeneration {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	written, c := obj.DeepCopy(), r.writes.Client(r.Client)
	if obj.DeletionTimestamp != nil {
		return r.finalize(ctx, obj, written)
	}
	if controllerutil.AddFinalizer(obj, v1alpha1.Finalizer) {
		// Before anything is told: what has been told must be withdrawn.
		if err := c.Patch(ctx, obj, exactly(written), FieldOwner); err != nil {
			return ctrl.Result{}, err
		}
		written = obj.DeepCopy()
	}
	before := obj.Status.DeepCopy()
	result, err = r.reconcile(ctx, obj)
	if errors.Is(err, errBehind) {
		return ctrl.Result{RequeueAfter: ownwrite.Retry}, nil
	}
	if err != nil {
		return result, err
	}
	if v, ok := meta.ReconcileAnnotationValue(obj.Annotations); ok {
		obj.Status.LastHandledReconcileAt = v
	}
	obj.Status.ObservedGeneration = obj.Generation
	change := compare(before, &obj.Status)
	if change == nothing {
		return result, nil
	}
	if wait := r.pace.Wait(request.NamespacedName, change == urgent, 0); wait > 0 {
		return sooner(result, wait), nil
	}
	// In one piece, so that nobody sees the conditions of one moment with the counts of
	// another.
	err = c.Status().Patch(ctx, obj, client.MergeFrom(written), FieldOwner)
	if err == nil {
		// Once, though a write that fails is done again.
		r.announce(obj, before)
		r.metrics.moved(obj, before.Wave, obj.Status.Wave)
	}
	return result, client.IgnoreNotFound(err)
}

// reconcile does what there is to do and sets the status. An error is one to try
// again after; what a person has to put right is in the status.
func (r *Reconciler) reconcile(ctx context.Context, obj *v1alpha1.Deployment) (ctrl.Result, error) {
	key := client.ObjectKeyFromObject(obj)
	source, err := r.source(ctx, obj)
	if err != nil {
		return ctrl.Result{}, err
	}
	obj.Status.Source = source
	if err := r.Roster.Select(key, &obj.Spec.TargetSelector); err != nil {
		markStalled(obj, v1alpha1.ReasonInvalidSpec, "spec.targetSelector: %s", err)
		return ctrl.Result{}, nil
	}
	// Before everything that may stand in the way of a rollout: none of it is a
	// reason for a device to go on with what is not for it any more.
	if err := r.withdrawStrays(ctx, obj); err != nil {
		return r.unreachable(ctx, obj, err)
	}
	if obj.Spec.Suspend {
		markSuspended(obj)
		return ctrl.Result{}, nil
	}
	update, err := r.update(ctx, obj)
	switch {
	case resolve.IsNotFound(err):
		markStalled(obj, v1alpha1.ReasonReferenceNotFound, "%s", err)
		return r.await(obj), nil
	case resolve.IsInvalid(err):
		markStalled(obj, v1alpha1.ReasonInvalidSpec, "spec.score: %s", err)
		return r.await(obj), nil
	case err != nil:
		return ctrl.Result{}, err
	}
	begun := time.Now()
	look, err := r.look(obj, update)
	if err != nil {
		markStalled(obj, v1alpha1.ReasonInvalidSpec, "%s", err)
		return ctrl.Result{}, nil
	}
	out := rollout.Plan(look.input)
	r.rests.Looked(key, time.Since(begun))
	if out.RollBack {
		// Remembered before the first device is told to go back: that erases the proof.
		if err := r.patchRevision(ctx, update.revision, func() {
			metav1.SetMetaDataAnnotation(&update.revision.ObjectMeta, annotationRolledBack, look.input.Now.UTC().Format(time.RFC3339Nano))
		}); err != nil {
			return ctrl.Result{}, err
		}
		look.input.Failed = true
		out = rollout.Plan(look.input)
	}
	if look.sealing {
		out.Tell = append(out.Tell, look.reseal(update, out.Tell)...)
	}
	if len(out.Tell) > 0 {
		if err := r.tell(ctx, obj, update, look, out.Tell); err != nil {
			if resolve.IsInvalid(err) {
				markStalled(obj, v1alpha1.ReasonInvalidSpec, "spec.score: %s", err)
				return ctrl.Result{}, nil
			}
			r.setStatus(obj, update, look, out)
			return r.unreachable(ctx, obj, err)
		}
		// The status is of what is now, not of before the devices were told.
		if look, err = r.look(obj, update); err != nil {
			return ctrl.Result{}, err
		}
		out = rollout.Plan(look.input)
	}
	if out.Ran {
		if err := r.completed(ctx, update.revision); err != nil {
			return ctrl.Result{}, err
		}
	}
	r.setStatus(obj, update, look, out)
	if err := r.prune(ctx, obj, update); err != nil {
		return ctrl.Result{}, err
	}
	var result ctrl.Result
	if look.sealing {
		result.RequeueAfter = r.lookAtSecrets()
	}
	if out.Wake.IsZero() {
		return result, nil
	}
	return sooner(result, max(out.Wake.Sub(r.Clock.Now()), time.Millisecond)), nil
}

// unreachable says that the bus does not take what has to be written. Nothing that
// was true of an older spec may be left standing: it would pass for the new one's.
func (r *Reconciler) unreachable(ctx context.Context, obj *v1alpha1.Deployment, err error) (ctrl.Result, error) {
	ctrl.LoggerFrom(ctx).Error(err, "the bus does not take desired state, trying again")
	conditions.Delete(obj, v1alpha1.ConditionStalled)
	conditions.MarkReconciling(obj, v1alpha1.ReasonBusUnreachable, "The bus does not take desired state; it is tried again")
	conditions.MarkFalse(obj, v1alpha1.ConditionReady, v1alpha1.ReasonBusUnreachable, "The bus does not take desired state; devices go on with what they were told")
	return ctrl.Result{RequeueAfter: busRetry}, nil
}

// sifted is what the last search for strays began from.
type sifted struct {
	lost      uint64
	told      int
	suspended bool
}

// withdrawStrays withdraws from the devices that were told and are not selected any
// more. While the Deployment is suspended that are only those that nothing may
// select: a Device that is being deleted waits for it. To look at everything that
// was told is O(fleet), so it is done when something may have strayed.
func (r *Reconciler) withdrawStrays(ctx context.Context, obj *v1alpha1.Deployment) error {
	key := client.ObjectKeyFromObject(obj)
	now := sifted{lost: r.Roster.Lost(key), told: r.View.ToldCount(key), suspended: obj.Spec.Suspend}
	if last, ok := r.sifted.Load(key); ok && last == now || now.told == 0 {
		return nil
	}
	var strays []contracts.DeviceID
	for _, id := range r.View.ToldDevices(key) {
		if selects, _ := r.Roster.Selects(key, id); selects {
			continue
		}
		if d, ok := r.Roster.Device(key.Namespace, id); obj.Spec.Suspend && ok && d.IsApproved() {
			continue
		}
		strays = append(strays, id)
	}
	if err := r.withdraw(ctx, key, strays); err != nil {
		return err
	}
	now.told -= len(strays)
	r.sifted.Store(key, now)
	return nil
}

// exactly is a patch of what was read and nothing newer: the list of finalizers is
// written as a whole.
func exactly(written *v1alpha1.Deployment) client.Patch {
	return client.MergeFromWithOptions(written, client.MergeFromWithOptimisticLock{})
}

// finalize withdraws a Deployment that is being deleted and lets it go. A device
// that is offline learns it when it returns.
func (r *Reconciler) finalize(ctx context.Context, obj, written *v1alpha1.Deployment) (ctrl.Result, error) {
	key := client.ObjectKeyFromObject(obj)
	if err := r.withdraw(ctx, key, r.View.ToldDevices(key)); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "the bus does not take desired state, trying again")
		return ctrl.Result{RequeueAfter: busRetry}, nil
	}
	if controllerutil.RemoveFinalizer(obj, v1alpha1.Finalizer) {
		if err := r.Patch(ctx, obj, exactly(written), FieldOwner); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
	}
	r.forget(key)
	return ctrl.Result{}, nil
}

// gone withdraws what is left of a Deployment that does not exist: somebody took
// its finalizer away.
func (r *Reconciler) gone(ctx context.Context, key types.NamespacedName) (ctrl.Result, error) {
	r.forget(key)
	if err := r.withdraw(ctx, key, r.View.ToldDevices(key)); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "the bus does not take desired state, trying again")
		return ctrl.Result{RequeueAfter: busRetry}, nil
	}
	return ctrl.Result{}, nil
}

func (r *Reconciler) forget(key types.NamespacedName) {
	r.Roster.Forget(key)
	r.pace.Forget(key)
	r.rests.Forget(key)
	r.templates.forget(key)
	r.metrics.forget(key)
	r.writes.Forget(key)
	r.sifted.Delete(key)
}

// sooner makes a result come back after at most wait.
func sooner(result ctrl.Result, wait time.Duration) ctrl.Result {
	if result.RequeueAfter == 0 || wait < result.RequeueAfter {
		result.RequeueAfter = wait
	}
	return result
}

// configMaps reads the ConfigMaps that a score refers to; a missing one is left out.
func (r *Reconciler) configMaps(ctx context.Context, namespace string, score v1alpha1.Score) (map[string]*corev1.ConfigMap, error) {
	out := map[string]*corev1.ConfigMap{}
	for _, name := range resolve.References(score) {
		m := &corev1.ConfigMap{}
		err := r.APIReader.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, m)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, fmt.Errorf("read ConfigMap %s/%s: %w", namespace, name, err)
		default:
			out[name] = m
		}
	}
	return out, nil
}
