package liveapi

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
)

const (
	// batch is how many changes a watcher takes at once.
	batch = 256
	// bookmarks come about as often, when nothing else does.
	bookmarkInterval = time.Minute
)

const expiredMessage = "the resource version is too old, or of another run or replica of the operator; list again"

// Watch tells of changes from a resource version on, or of everything that is there
// and then of changes.
func (s *storage[T]) Watch(ctx context.Context, o *metainternalversion.ListOptions) (watch.Interface, error) {
	if !s.ready() {
		return nil, unready()
	}
	w := &watcher[T]{
		storage: s, namespace: genericapirequest.NamespaceValue(ctx), wanted: s.wanted(o), bookmarks: o.AllowWatchBookmarks,
		results: make(chan watch.Event), done: make(chan struct{}),
	}
	initial := o.SendInitialEvents != nil && *o.SendInitialEvents
	if initial || o.ResourceVersion == "" || o.ResourceVersion == "0" {
		w.initial, w.version, _, _ = s.table.page(w.namespace, key{}, 0, w.wanted)
		w.markInitial = initial && o.AllowWatchBookmarks
	} else {
		version, err := s.parse(o.ResourceVersion)
		if err == nil {
			_, _, err = s.table.since(version, 1)
		}
		if errors.Is(err, errForeign) || errors.Is(err, errExpired) {
			return nil, apierrors.NewResourceExpired(expiredMessage)
		}
		if err != nil {
			return nil, err
		}
		w.version = version
	}
	ctx, w.cancel = context.WithCancel(ctx)
	go w.run(ctx)
	return w, nil
}

// watcher is one that watches. It holds no more than a batch of changes: one that
// does not read falls out of the history and is told to list again.
type watcher[T any] struct {
	*storage[T]
	namespace string
	wanted    func(*row[T]) bool
	bookmarks bool
	// initial is what was there at version; markInitial tells its end by a bookmark.
	initial     []*row[T]
	markInitial bool
	version     uint64

	results chan watch.Event
	cancel  context.CancelFunc
	once    sync.Once
	done    chan struct{}
}

// ResultChan is where the events come.
func (w *watcher[T]) ResultChan() <-chan watch.Event { return w.results }

// Stop ends the watcher.
func (w *watcher[T]) Stop() {
	w.once.Do(w.cancel)
	<-w.done
}

func (w *watcher[T]) run(ctx context.Context) {
	defer close(w.done)
	defer close(w.results)
	defer w.cancel()
	for _, r := range w.initial {
		if !w.send(ctx, watch.Added, w.object(r, w.format(r.version))) {
			return
		}
	}
	w.initial = nil
	if w.markInitial && !w.bookmark(ctx, map[string]string{metav1.InitialEventsAnnotationKey: "true"}) {
		return
	}
	timer := time.NewTimer(nextBookmark())
	defer timer.Stop()
	for {
		changes, bell, err := w.table.since(w.version, batch)
		if err != nil {
			w.send(ctx, watch.Error, &metav1.Status{
				Status: metav1.StatusFailure, Code: http.StatusGone, Reason: metav1.StatusReasonExpired, Message: expiredMessage,
			})
			return
		}
		for _, c := range changes {
			w.version = c.version
			if !w.tell(ctx, c) {
				return
			}
		}
		if bell == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-w.stopping:
			// The server would wait for everybody who watches; they come back to another.
			return
		case <-bell:
		case <-timer.C:
			if w.bookmarks && !w.bookmark(ctx, nil) {
				return
			}
			timer.Reset(nextBookmark())
		}
	}
}

// nextBookmark is spread, so that not everybody is told at once.
func nextBookmark() time.Duration { return bookmarkInterval*3/4 + rand.N(bookmarkInterval/2) }

// tell passes on a change as it is for what is selected.
func (w *watcher[T]) tell(ctx context.Context, c change[T]) bool {
	before, after := w.sees(c.before), w.sees(c.after)
	version := w.format(c.version)
	switch {
	case before && after:
		return w.send(ctx, watch.Modified, w.object(c.after, version))
	case after:
		return w.send(ctx, watch.Added, w.object(c.after, version))
	case before && c.after != nil:
		return w.send(ctx, watch.Deleted, w.object(c.after, version))
	case before:
		return w.send(ctx, watch.Deleted, w.object(c.before, version))
	}
	return true
}

func (w *watcher[T]) sees(r *row[T]) bool {
	return r != nil && (w.namespace == "" || r.namespace == w.namespace) && w.wanted(r)
}

func (w *watcher[T]) bookmark(ctx context.Context, annotations map[string]string) bool {
	object := w.newObject()
	m, err := meta.Accessor(object)
	if err != nil {
		panic(err) // every kind has metadata
	}
	m.SetResourceVersion(w.format(w.version))
	m.SetAnnotations(annotations)
	return w.send(ctx, watch.Bookmark, object)
}

func (w *watcher[T]) send(ctx context.Context, kind watch.EventType, object runtime.Object) bool {
	select {
	case w.results <- watch.Event{Type: kind, Object: object}:
		return true
	case <-ctx.Done():
		return false
	case <-w.stopping:
		return false
	}
}
