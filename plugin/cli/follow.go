package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	watchtools "k8s.io/client-go/tools/watch"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// chunk is how many objects are asked for at a time, as kubectl does.
const chunk = 500

// relistPause is how long to wait at least before a list is read again, which is
// much for whoever serves it.
const relistPause = time.Second

// patience is how long an answer may take until the connection counts as lost. The
// client itself tries for longer when it is told to come back later.
const patience = 3 * time.Second

var errNoAnswer = errors.New("no answer yet")

// Follower lists objects and then hears of every change to them. Once it has begun,
// it goes on through restarts of what serves them.
type Follower struct {
	Client client.WithWatch
	// List is the kind of list to read; every read begins with a copy of it.
	List client.ObjectList
	// Options choose namespace and selectors.
	Options client.ListOptions
	// Listed is given what is there, first at the beginning and again whenever the
	// API server no longer has the history from where the watch broke off. The
	// objects may then be ones that are known already.
	Listed func([]client.Object) error
	// Changed is given each change after that.
	Changed func(watch.EventType, client.Object) error
	// Connection is told when the watch or the list is lost, with the error, and when
	// it is back, with nil. It is called on another goroutine. May be nil.
	Connection func(error)
}

// Run follows until the context ends or a function returns an error.
func (f *Follower) Run(ctx context.Context) error {
	// What the watch says of lost connections goes to Connection, not to klog:
	// stray lines would tear a screen apart.
	ctx, cancel := context.WithCancel(klog.NewContext(ctx, logr.Discard()))
	defer cancel()
	objects, version, err := ListAll(ctx, f.Client, f.List, f.Options)
	for {
		if err != nil {
			return err
		}
		if err := f.Listed(objects); err != nil {
			return err
		}
		if err := f.watch(ctx, version); err != nil {
			return err
		}
		objects, version, err = f.relist(ctx)
	}
}

// relist reads the list again, for as long as it takes: what lost the history may be
// just restarting.
func (f *Follower) relist(ctx context.Context) ([]client.Object, string, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, "", ctx.Err()
		case <-time.After(wait.Jitter(relistPause, 1)):
		}
		var objects []client.Object
		var version string
		err := f.await(func() (err error) {
			objects, version, err = ListAll(ctx, f.Client, f.List, f.Options)
			return err
		})
		if err == nil || ctx.Err() != nil || isFinal(err) {
			return objects, version, err
		}
		f.connection(err)
	}
}

// await does something and tells Connection when that takes long.
func (f *Follower) await(do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		f.connection(errNoAnswer)
		return <-done
	}
}

func (f *Follower) connection(err error) {
	if f.Connection != nil {
		f.Connection(err)
	}
}

// isFinal reports whether the same request would fail again: it is not allowed, or
// there is no such thing.
func isFinal(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	switch code := status.Status().Code; code {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusGone, http.StatusTooManyRequests:
		return false
	default:
		return code >= 400 && code < 500
	}
}

func isExpired(err error) bool { return apierrors.IsGone(err) || apierrors.IsResourceExpired(err) }

// watch returns nil when the list has to be read again.
func (f *Follower) watch(ctx context.Context, version string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := watchtools.NewRetryWatcherWithContext(ctx, version, watcher{f})
	if err != nil {
		return fmt.Errorf("watch from version %s: %w", version, err)
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case event, open := <-w.ResultChan():
			if !open {
				return ctx.Err()
			}
			if event.Type == watch.Error {
				err := apierrors.FromObject(event.Object)
				if isExpired(err) {
					return nil
				}
				return fmt.Errorf("watch: %w", err)
			}
			object, ok := event.Object.(client.Object)
			if !ok {
				return fmt.Errorf("watch: got a %T, which is not an object", event.Object)
			}
			if err := f.Changed(event.Type, object); err != nil {
				return err
			}
		}
	}
}

// watcher opens the watches of a Follower.
type watcher struct{ f *Follower }

// WatchWithContext opens one watch.
func (w watcher) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	list, err := emptyCopy(w.f.List)
	if err != nil {
		return nil, err
	}
	listOptions := w.f.Options
	listOptions.Raw = &options
	var opened watch.Interface
	err = w.f.await(func() (err error) {
		opened, err = w.f.Client.Watch(ctx, list, &listOptions)
		return err
	})
	if isExpired(err) {
		return expired(err), nil
	}
	if ctx.Err() == nil {
		w.f.connection(err)
	}
	return opened, err
}

// expired is a watch that says so. The answer to the request itself would not do: the
// retry watcher goes by events and would ask for the same version for ever.
func expired(err error) watch.Interface {
	status := metav1.Status{Status: metav1.StatusFailure, Code: http.StatusGone, Reason: metav1.StatusReasonExpired, Message: err.Error()}
	events := make(chan watch.Event, 1)
	events <- watch.Event{Type: watch.Error, Object: &status}
	return watch.NewProxyWatcher(events)
}

// ListAll reads a whole list in chunks, and the version of it that a watch can
// begin from.
func ListAll(ctx context.Context, c client.Reader, kind client.ObjectList, options client.ListOptions) ([]client.Object, string, error) {
	var all []client.Object
	options.Limit = chunk
	for {
		list, err := emptyCopy(kind)
		if err != nil {
			return nil, "", err
		}
		if err := c.List(ctx, list, &options); err != nil {
			if apierrors.IsResourceExpired(err) && options.Continue != "" {
				// It took longer than the API server keeps old versions: begin again,
				// in one piece.
				all, options.Continue, options.Limit = nil, "", 0
				continue
			}
			return nil, "", err
		}
		if err := meta.EachListItem(list, func(o runtime.Object) error {
			object, ok := o.(client.Object)
			if !ok {
				return fmt.Errorf("list: got a %T, which is not an object", o)
			}
			all = append(all, object)
			return nil
		}); err != nil {
			return nil, "", err
		}
		if options.Continue = list.GetContinue(); options.Continue == "" {
			return all, list.GetResourceVersion(), nil
		}
	}
}

func emptyCopy(list client.ObjectList) (client.ObjectList, error) {
	copied, ok := list.DeepCopyObject().(client.ObjectList)
	if !ok {
		return nil, fmt.Errorf("copy of %T is not a list", list)
	}
	return copied, nil
}
