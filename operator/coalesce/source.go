package coalesce

import (
	"context"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// Source has a controller reconcile the objects in a set.
func Source(set *Set[types.NamespacedName]) source.Source {
	return SourceOf(set, func(key types.NamespacedName) []types.NamespacedName { return []types.NamespacedName{key} })
}

// SourceOf has a controller reconcile the objects that the things in a set stand
// for.
func SourceOf[K comparable](set *Set[K], objects func(K) []types.NamespacedName) source.Source {
	return source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		go func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-set.Ready():
				}
				for _, k := range set.Take() {
					for _, key := range objects(k) {
						queue.Add(reconcile.Request{NamespacedName: key})
					}
				}
			}
		}()
		return nil
	})
}
