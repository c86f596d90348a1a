package listing

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
)

// redraw is how often a live screen is drawn: ages go on although nothing happens, and
// a fleet changes faster than anybody reads.
const redraw = time.Second

// terminal is where a live screen can be drawn, if it can.
func (l *lister[T]) terminal() (*os.File, bool) {
	file, isFile := l.env.Streams.Out.(*os.File)
	return file, isFile && l.Summary != nil && l.Human() && !l.watchEvents && l.env.Style(file).Terminal
}

// view is what a live screen shows, while it changes.
type view[T any] struct {
	mu    sync.Mutex
	items known[T]
	lost  error
}

// live draws everything in one place until the context ends.
func (l *lister[T]) live(ctx context.Context, out *os.File) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	v := &view[T]{}
	listed := make(chan struct{})
	failed := make(chan error, 1)
	go func() { failed <- l.keep(ctx, v, sync.OnceFunc(func() { close(listed) })) }()
	select {
	case err := <-failed:
		// Before the screen is touched.
		return err
	case <-listed:
	}
	drawn := screen.NewLive(out)
	defer drawn.Close()
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		if err := l.draw(drawn, v); err != nil {
			return err
		}
		select {
		case err := <-failed:
			return err
		case <-tick.C:
		}
	}
}

// keep keeps a view as the cluster is.
func (l *lister[T]) keep(ctx context.Context, v *view[T], listed func()) error {
	follower := &cli.Follower{
		Client: l.cluster.Client, List: l.newList(), Options: l.list,
		Listed: func(objects []client.Object) error {
			items, err := l.items(ctx, objects, l.list)
			if err != nil {
				return err
			}
			now := known[T]{}
			for _, i := range items {
				now[client.ObjectKeyFromObject(i.object)] = i
			}
			v.mu.Lock()
			defer v.mu.Unlock()
			v.items = now
			listed()
			return nil
		},
		Changed: func(event watch.EventType, o client.Object) error {
			i, err := l.item(o)
			if err != nil {
				return err
			}
			v.mu.Lock()
			defer v.mu.Unlock()
			if key := client.ObjectKeyFromObject(o); event == watch.Deleted || !l.matches(i) {
				delete(v.items, key)
			} else {
				v.items[key] = i
			}
			return nil
		},
		Connection: func(err error) {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.lost = err
		},
	}
	return follower.Run(ctx)
}

func (l *lister[T]) draw(on *screen.Live, v *view[T]) error {
	v.mu.Lock()
	items, lost := slices.Collect(maps.Values(v.items)), v.lost
	v.mu.Unlock()
	slices.SortFunc(items, func(a, b item[T]) int {
		return cmp.Or(strings.Compare(a.object.GetNamespace(), b.object.GetNamespace()), strings.Compare(a.object.GetName(), b.object.GetName()))
	})
	l.order(items)
	var failed error
	err := on.Draw(func(width, lines int) string {
		var text string
		text, failed = l.page(items, lost, width, lines)
		return text
	})
	if failed != nil {
		return failed
	}
	return err
}

// page is as much as there is room for: a table, and below it all of it in a line.
func (l *lister[T]) page(items []item[T], lost error, width, lines int) (string, error) {
	style := l.env.Style(l.env.Streams.Out)
	values := make([]T, len(items))
	for i := range items {
		values[i] = items[i].value
	}
	foot := []string{"", l.Summary(style, values, l.env.Now())}
	if lost != nil {
		foot = append(foot, style.Paint(screen.Warn, "# connection lost, trying again: "+screen.Safe(lost.Error())))
	}
	var body []string
	if fits := max(lines-len(foot)-1, 1); len(items) > fits {
		foot[1] += style.Paint(screen.Dim, fmt.Sprintf("  (%s more)", screen.Count(len(items)-fits)))
		items = items[:fits]
	}
	if len(items) > 0 {
		// A new printer, for each prints its header once.
		printer, err := l.print.ToPrinter()
		if err != nil {
			return "", err
		}
		if body, err = l.lines(printer, items, ""); err != nil {
			return "", err
		}
	} else {
		foot = foot[1:]
	}
	all := slices.Concat(body, foot)
	for i := range all {
		all[i] = style.Fit(all[i], width)
	}
	return strings.Join(all, "\n"), nil
}
