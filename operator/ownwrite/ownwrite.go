// Package ownwrite keeps a reconciler from deciding on a cache that is behind its
// own writes. What it would take for changed was changed by itself; and a merge
// patch against an old state leaves out what has to be written again.
package ownwrite

import (
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Retry is how soon to look again whether the cache has caught up: it takes the
// API server some milliseconds to tell of a write.
const Retry = 5 * time.Millisecond

// Writes remembers the last version of each object that was written. The zero
// value is ready.
type Writes struct {
	mu       sync.Mutex
	versions map[types.NamespacedName]string
}

// Wrote remembers an object as the API server returned it from a write.
func (w *Writes) Wrote(obj client.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.versions == nil {
		w.versions = map[types.NamespacedName]string{}
	}
	w.versions[client.ObjectKeyFromObject(obj)] = obj.GetResourceVersion()
}

// Behind reports whether an object from the cache is older than the last write.
func (w *Writes) Behind(obj client.Object) (bool, error) {
	key := client.ObjectKeyFromObject(obj)
	w.mu.Lock()
	defer w.mu.Unlock()
	wrote, ok := w.versions[key]
	if !ok {
		return false, nil
	}
	order, err := resourceversion.CompareResourceVersion(obj.GetResourceVersion(), wrote)
	if err != nil {
		return false, fmt.Errorf("compare the versions of %s: %w", key, err)
	}
	if order >= 0 {
		// Nothing that is older comes from the cache again.
		delete(w.versions, key)
	}
	return order < 0, nil
}

// Forget drops an object that is gone.
func (w *Writes) Forget(key types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.versions, key)
}
