package deployment

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/runtime/predicates"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/operator/coalesce"
	"github.com/nationtech/fleet/operator/pace"
	"github.com/nationtech/fleet/operator/resolve"
)

// Indices of Deployments in the cache.
const (
	byConfigMap     = "configMap"
	byKustomization = "kustomization"
)

// SetupWithManager has the manager run the Reconciler. Name distinguishes the
// controllers of one process.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager, options controller.Options) error {
	var err error
	r.pace, r.rests = pace.New[types.NamespacedName](r.Clock), pace.NewRests[types.NamespacedName](r.Clock)
	if r.metrics, err = newMetrics(r.Metrics); err != nil {
		return err
	}
	if err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.Deployment{}, byConfigMap, func(o client.Object) []string {
		return resolve.References(o.(*v1alpha1.Deployment).Spec.Score)
	}); err != nil {
		return err
	}
	if err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.Deployment{}, byKustomization, func(o client.Object) []string {
		l := o.GetLabels()
		if l[labelKustomization] == "" {
			return nil
		}
		return []string{l[labelKustomizationNamespace] + "/" + l[labelKustomization]}
	}); err != nil {
		return err
	}
	b := ctrl.NewControllerManagedBy(mgr).
		Named("deployment").
		For(&v1alpha1.Deployment{}, builder.WithPredicates(predicate.Or(
			predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}, predicates.ReconcileRequestedPredicate{}))).
		WatchesMetadata(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return r.indexed(ctx, byConfigMap, o.GetName(), client.InNamespace(o.GetNamespace()))
		})).
		WatchesRawSource(coalesce.Source(r.Roster.ChangedDeployments())).
		WatchesRawSource(coalesce.Source(r.View.ChangedDeployments())).
		WatchesRawSource(coalesce.SourceOf(r.View.ChangedStanding(), r.Roster.Selecting)).
		WatchesRawSource(source.Func(func(ctx context.Context, queue queue) error {
			go func() {
				if r.Gate.Wait(ctx) != nil {
					return
				}
				// What was told for a Deployment that is gone has nobody else to ask for it.
				for _, key := range r.View.ToldDeployments() {
					queue.Add(reconcile.Request{NamespacedName: key})
				}
			}()
			return nil
		})).
		WithOptions(options)
	if r.Flux {
		b = b.Watches(&kustomizev1.Kustomization{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return r.indexed(ctx, byKustomization, client.ObjectKeyFromObject(o).String())
		}), builder.WithPredicates(predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
			return e.ObjectOld.(*kustomizev1.Kustomization).Status.LastAppliedRevision != e.ObjectNew.(*kustomizev1.Kustomization).Status.LastAppliedRevision
		}}))
	}
	return b.Complete(r)
}

// queue is what a source feeds.
type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// indexed lists the Deployments that an index has under a value.
func (r *Reconciler) indexed(ctx context.Context, index, value string, options ...client.ListOption) []reconcile.Request {
	list := &v1alpha1.DeploymentList{}
	if err := r.List(ctx, list, append(options, client.MatchingFields{index: value})...); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "list deployments", "index", index, "value", value)
		return nil
	}
	out := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return out
}
