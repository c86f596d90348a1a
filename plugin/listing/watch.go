package listing

import (
	"context"
	"fmt"
	"maps"
	"slices"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/plugin/cli"
)

// follow goes on with every change: on one live screen where there is one, with a row
// or an object for each change elsewhere.
func (l *lister[T]) follow(ctx context.Context) error {
	follow := l.stream
	if file, ok := l.terminal(); ok {
		follow = func(ctx context.Context) error { return l.live(ctx, file) }
	}
	if err := follow(ctx); err != nil {
		return fmt.Errorf("watch %ss in %s: %w", l.Noun, l.scope, err)
	}
	return nil
}

// known are the objects that were shown last.
type known[T any] map[types.NamespacedName]item[T]

// differences are what has changed since the objects in known were shown. They are
// compared as they are and not by their resource versions, which all differ when the
// operator has restarted.
func (l *lister[T]) differences(k known[T], now []item[T]) (added, modified, deleted []item[T]) {
	gone := maps.Clone(k)
	for _, i := range now {
		key := client.ObjectKeyFromObject(i.object)
		before, ok := k[key]
		delete(gone, key)
		switch {
		case !ok:
			added = append(added, i)
		case !same(before.object, i.object):
			modified = append(modified, i)
		}
	}
	deleted = slices.Collect(maps.Values(gone))
	l.order(deleted)
	return added, modified, deleted
}

func same(a, b *unstructured.Unstructured) bool {
	if a.GetResourceVersion() == b.GetResourceVersion() {
		return true
	}
	b = b.DeepCopy()
	b.SetResourceVersion(a.GetResourceVersion())
	return apiequality.Semantic.DeepEqual(a.Object, b.Object)
}

// stream prints the objects that there are and then each change. When the history is
// lost it lists again and prints only what is different.
func (l *lister[T]) stream(ctx context.Context) error {
	shown := known[T]{}
	first, lost := true, false
	follower := &cli.Follower{
		Client: l.cluster.Client, List: l.newList(), Options: l.list,
		Listed: func(objects []client.Object) error {
			items, err := l.items(ctx, objects, l.list)
			if err != nil {
				return err
			}
			if first && len(items) == 0 && l.Human() {
				l.sayNone()
			}
			first = false
			added, modified, deleted := l.differences(shown, items)
			for _, change := range []struct {
				event watch.EventType
				items []item[T]
			}{{watch.Deleted, deleted}, {watch.Added, added}, {watch.Modified, modified}} {
				if err := l.events(shown, change.event, change.items); err != nil {
					return err
				}
			}
			return nil
		},
		Changed: func(event watch.EventType, o client.Object) error {
			i, err := l.item(o)
			if err != nil || !l.matches(i) {
				return err
			}
			return l.events(shown, event, []item[T]{i})
		},
		Connection: func(err error) {
			if lost == (err != nil) {
				return
			}
			if lost = err != nil; lost {
				fmt.Fprintf(l.env.Streams.ErrOut, "connection lost, trying again: %v\n", err)
			} else {
				fmt.Fprintln(l.env.Streams.ErrOut, "connection is back")
			}
		},
	}
	return follower.Run(ctx)
}

// events prints objects that changed in the same way.
func (l *lister[T]) events(shown known[T], event watch.EventType, items []item[T]) error {
	if len(items) == 0 {
		return nil
	}
	for _, i := range items {
		if key := client.ObjectKeyFromObject(i.object); event == watch.Deleted {
			delete(shown, key)
		} else {
			shown[key] = i
		}
	}
	if l.Human() {
		return l.rows(items, event)
	}
	for _, i := range items {
		var object runtime.Object = i.object
		if l.watchEvents {
			object = &metav1.WatchEvent{Type: string(event), Object: runtime.RawExtension{Object: i.object}}
		}
		if err := l.printer.PrintObj(object, l.env.Streams.Out); err != nil {
			return err
		}
	}
	return nil
}
