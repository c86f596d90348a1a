package status

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
)

const (
	// settle lets the changes of one moment gather, so that they are one reading.
	settle = 300 * time.Millisecond
	// reread is how often everything is read although no Deployment has changed:
	// the devices of a large fleet are counted, not watched.
	reread = 10 * time.Second
	// recount is how often the devices alone are counted, where the live API does it:
	// that is milliseconds of the operator's, however many devices there are. To watch
	// them would be a message for each heartbeat of each.
	recount = 2 * time.Second
)

// follow shows the status again whenever a Deployment changes, or the count of the
// devices, until the context ends.
func (o *options) follow(ctx context.Context, cluster *cli.Cluster, env *cli.Env, show func(Report) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	scope := o.scope(cluster)
	options, err := scope.ListOptions()
	if err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	poke := func() error {
		select {
		case changed <- struct{}{}:
		default:
		}
		return nil
	}
	follower := &cli.Follower{
		Client: cluster.Client, List: &v1alpha1.DeploymentList{}, Options: options,
		Listed:  func([]client.Object) error { return poke() },
		Changed: func(watch.EventType, client.Object) error { return poke() },
	}
	failed := make(chan error, 1)
	go func() { failed <- follower.Run(ctx) }()
	again := time.NewTimer(reread)
	defer again.Stop()
	for {
		observed, err := Gather(ctx, cluster, scope, env.Now())
		if err != nil {
			return err
		}
		if err := show(Judge(observed)); err != nil {
			return err
		}
		again.Reset(reread)
		for {
			due, err := await(ctx, changed, failed, again.C, observed.Live, scope)
			if err != nil {
				return err
			}
			if due {
				break
			}
			counted, err := liveDevices(ctx, cluster.Config, scope)
			if err != nil {
				// With the other way, which costs more, goes what is read anyway.
				continue
			}
			if reflect.DeepEqual(counted, observed.Devices) {
				continue
			}
			observed.Devices, observed.Time = counted, env.Now()
			if err := show(Judge(observed)); err != nil {
				return err
			}
		}
	}
}

// await returns when it is time to read everything again, which due tells, or to count
// the devices, where they are live.
func await(ctx context.Context, changed <-chan struct{}, failed <-chan error, again <-chan time.Time, live bool, scope cli.Scope) (due bool, err error) {
	var count <-chan time.Time
	if live {
		timer := time.NewTimer(recount)
		defer timer.Stop()
		count = timer.C
	}
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case err := <-failed:
		return false, fmt.Errorf("watch deployments in %s: %w", scope, err)
	case <-again:
		return true, nil
	case <-count:
		return false, nil
	case <-changed:
	}
	gather := time.NewTimer(settle)
	defer gather.Stop()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-gather.C:
		return true, nil
	}
}

// live draws reports in one place when out is a terminal; ok tells whether it is.
func (o *options) live(env *cli.Env) (show func(Report) error, done func(), ok bool) {
	style := env.Style(env.Streams.Out)
	file, isFile := env.Streams.Out.(*os.File)
	if !style.Terminal || !isFile {
		return nil, nil, false
	}
	live := screen.NewLive(file)
	return func(r Report) error {
		return live.Draw(func(width, lines int) string {
			style.Width = width
			return RenderWithin(style, r, o.detail(), lines)
		})
	}, live.Close, true
}
