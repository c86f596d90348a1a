package top

import (
	"context"
	"fmt"
	"sync"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
)

const (
	// frameInterval is how often changes are shown at most.
	frameInterval = 150 * time.Millisecond
	// tickInterval is how often ages move on although nothing has changed.
	tickInterval = time.Second
)

// feed follows heartbeats and placements and makes frames of what it hears. What comes
// in between two frames is held once for each object, however often it changes.
type feed struct {
	client  client.WithWatch
	scope   cli.Scope
	options client.ListOptions
	now     func() time.Time

	mu         sync.Mutex
	heartbeats changes[live.Heartbeat]
	placements changes[live.Placement]
	// lost is how each connection is, by what it follows.
	lost map[string]connection
	// changed has something in it when there is something to show.
	changed chan struct{}
}

func newFeed(cluster *cli.Cluster, scope cli.Scope, options client.ListOptions, now func() time.Time) *feed {
	return &feed{
		client: cluster.Client, scope: scope, options: options, now: now,
		lost: map[string]connection{}, changed: make(chan struct{}, 1),
	}
}

// run gives frames to send until the context ends or there is nothing to follow.
func (f *feed) run(ctx context.Context, send func(tea.Msg)) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return follow(ctx, f, "heartbeats", &live.HeartbeatList{}, &f.heartbeats) })
	g.Go(func() error { return follow(ctx, f, "placements", &live.PlacementList{}, &f.placements) })
	g.Go(func() error { return f.frames(ctx, send) })
	return g.Wait()
}

// pointer is a pointer to T that is an object.
type pointer[T any] interface {
	*T
	client.Object
}

// follow puts what it hears into changes.
func follow[T any, P pointer[T]](ctx context.Context, f *feed, what string, list client.ObjectList, into *changes[T]) error {
	follower := &cli.Follower{
		Client: f.client, List: list, Options: f.options,
		Listed: func(objects []client.Object) error {
			all, err := listed[T, P](objects)
			if err == nil {
				f.change(func() { *into = all })
			}
			return err
		},
		Changed: func(event watch.EventType, o client.Object) error {
			object, ok := o.(P)
			if !ok {
				return fmt.Errorf("got a %T", o)
			}
			if event == watch.Deleted {
				object = nil
			}
			f.change(func() { into.set(keyOf(o), object) })
			return nil
		},
		Connection: func(err error) {
			f.change(func() { f.connection(what, err) })
		},
	}
	if err := follower.Run(ctx); err != nil {
		return fmt.Errorf("watch %s in %s: %w", what, f.scope, err)
	}
	return nil
}

// listed is a whole list.
func listed[T any, P pointer[T]](objects []client.Object) (changes[T], error) {
	all := make(map[key]*T, len(objects))
	for _, o := range objects {
		object, ok := o.(P)
		if !ok {
			return changes[T]{}, fmt.Errorf("got a %T", o)
		}
		all[keyOf(o)] = object
	}
	return changes[T]{listed: true, objects: all}, nil
}

// set counts a change.
func (c *changes[T]) set(k key, object *T) {
	if c.objects == nil {
		c.objects = map[key]*T{}
	}
	c.objects[k] = object
	c.count++
}

func (f *feed) change(do func()) {
	f.mu.Lock()
	do()
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *feed) connection(what string, err error) {
	c := f.lost[what]
	switch c.err = err; {
	case err == nil:
		c.lost = time.Time{}
	case c.lost.IsZero():
		c.lost = f.now()
	}
	f.lost[what] = c
}

// frames sends a frame when something has changed, but not too often, and when ages
// move on.
func (f *feed) frames(ctx context.Context, send func(tea.Msg)) error {
	tick := time.NewTicker(tickInterval)
	defer tick.Stop()
	pause := time.NewTicker(frameInterval)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case <-f.changed:
		}
		send(f.take())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pause.C:
		}
	}
}

// take is what has happened since it was last called.
func (f *feed) take() frame {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := frame{now: f.now(), heartbeats: f.heartbeats, placements: f.placements}
	f.heartbeats, f.placements = changes[live.Heartbeat]{}, changes[live.Placement]{}
	for _, c := range f.lost {
		// The one that was lost first says since when the screen is not true.
		if !c.lost.IsZero() && (out.connection.lost.IsZero() || c.lost.Before(out.connection.lost)) {
			out.connection = c
		}
	}
	return out
}
