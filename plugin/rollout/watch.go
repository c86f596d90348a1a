package rollout

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
)

// update is one thing that happened while watching.
type update struct {
	rollout *Rollout
	// lost is set while there is no connection; connection tells that it says
	// something.
	lost       error
	connection bool
}

// follow shows a rollout until it has come to an end.
func (o *viewOptions) follow(ctx context.Context, cluster *cli.Cluster, name string, v *view) error {
	parent := ctx
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.timeout)
		defer cancel()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	updates := make(chan update)
	failed := make(chan error, 1)
	go func() { failed <- produce(ctx, cluster, name, updates) }()

	last, err := v.show(ctx, updates, failed)
	switch {
	case err != nil && parent.Err() != nil:
		return parent.Err()
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		if last == nil {
			return fmt.Errorf("watch deployment %s/%s: no answer within %s: %w", cluster.Namespace, name, o.timeout, err)
		}
		return &cli.ExitError{Code: cli.CodeUnfinished, Err: fmt.Errorf("rollout of deployment %s/%s has not finished within %s", cluster.Namespace, name, o.timeout)}
	case err != nil:
		return err
	}
	return cli.Exit(last.exitCode())
}

// produce turns what the API server tells of one Deployment into updates.
func produce(ctx context.Context, cluster *cli.Cluster, name string, updates chan<- update) error {
	send := func(u update) error {
		select {
		case updates <- u:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	where := fmt.Sprintf("deployment %s/%s", cluster.Namespace, name)
	observe := func(o client.Object) error {
		d, ok := o.(*v1alpha1.Deployment)
		if !ok {
			return fmt.Errorf("watch %s: got a %T", where, o)
		}
		r := Observe(d)
		return send(update{rollout: &r})
	}
	seen := false
	follower := &cli.Follower{
		Client:  cluster.Client,
		List:    &v1alpha1.DeploymentList{},
		Options: client.ListOptions{Namespace: cluster.Namespace, FieldSelector: fields.OneTermEqualSelector("metadata.name", name)},
		Listed: func(objects []client.Object) error {
			if len(objects) == 0 {
				if seen {
					return fmt.Errorf("%s was deleted while it was watched", where)
				}
				// The same answer as without --watch.
				return fmt.Errorf("get %s: %w", where, cluster.Client.Get(ctx, client.ObjectKey{Namespace: cluster.Namespace, Name: name}, &v1alpha1.Deployment{}))
			}
			seen = true
			return observe(objects[0])
		},
		Changed: func(event watch.EventType, o client.Object) error {
			if event == watch.Deleted {
				return fmt.Errorf("%s was deleted while it was watched", where)
			}
			return observe(o)
		},
		Connection: func(err error) { _ = send(update{lost: err, connection: true}) },
	}
	if err := follower.Run(ctx); err != nil {
		return fmt.Errorf("watch %s: %w", where, err)
	}
	return nil
}

// show draws updates until the rollout is done or the source of updates fails.
func (v *view) show(ctx context.Context, updates <-chan update, failed <-chan error) (*Rollout, error) {
	style := v.env.Style(v.env.Streams.Out)
	file, isFile := v.env.Streams.Out.(*os.File)
	if !style.Terminal || !isFile || !v.human() {
		return v.lines(updates, failed)
	}
	live := screen.NewLive(file)
	defer live.Close()
	// Ages move on although nothing happens.
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var last *Rollout
	var lost error
	for {
		select {
		case u := <-updates:
			if u.connection {
				lost = u.lost
			} else {
				last = u.rollout
			}
		case err := <-failed:
			return last, err
		case <-tick.C:
		}
		if last == nil {
			continue
		}
		if err := live.Draw(func(width, lines int) string {
			style.Width = width
			if lost == nil {
				return RenderWithin(style, *last, v.env.Now(), v.detail, lines)
			}
			return RenderWithin(style, *last, v.env.Now(), v.detail, lines-2) + "\n" + style.Fit(style.Paint(screen.Warn, "# connection lost, trying again: "+screen.Safe(lost.Error())), width) + "\n"
		}); err != nil {
			return last, err
		}
		if last.Done() {
			return last, nil
		}
	}
}

// lines prints each change once, for a log.
func (v *view) lines(updates <-chan update, failed <-chan error) (*Rollout, error) {
	var last *Rollout
	var printed string
	lost := false
	for {
		select {
		case u := <-updates:
			if u.connection {
				if lost != (u.lost != nil) {
					lost = u.lost != nil
					v.sayConnection(u.lost)
				}
				continue
			}
			last = u.rollout
		case err := <-failed:
			return last, err
		}
		if text := v.changed(*last); text != printed {
			if printed != "" && v.screen && v.human() {
				fmt.Fprintln(v.env.Streams.Out)
			}
			printed = text
			if err := v.once(*last); err != nil {
				return last, err
			}
		}
		if last.Done() {
			return last, nil
		}
	}
}

// changed is what has to differ for a rollout to be printed again.
func (v *view) changed(r Rollout) string {
	if v.screen {
		// Without ages, which always differ.
		return render(screen.Style{}, r, time.Time{}, v.detail, rooms[0])
	}
	return Line(r)
}

func (v *view) sayConnection(err error) {
	if err != nil {
		fmt.Fprintf(v.env.Streams.ErrOut, "connection lost, trying again: %v\n", err)
		return
	}
	fmt.Fprintln(v.env.Streams.ErrOut, "connection is back")
}
