package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/flux"
)

// errEnough ends a watch that has seen what it waited for.
var errEnough = errors.New("enough")

// await waits until an object was reconciled as it was asked to be, or as it is now where
// token is empty. One that has failed is CodeBad at once, one that takes longer than
// timeout CodeUnfinished.
func await(ctx context.Context, cluster *cli.Cluster, t target, token string, timeout time.Duration) (client.Object, error) {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var last client.Object
	var ready flux.Condition
	look := func(o client.Object) error {
		last, ready = o, t.ready(o)
		if token != "" && t.handled(o) != token {
			ready = flux.Condition{Message: t.who + " has not answered yet"}
			return nil
		}
		switch ready.Status {
		case metav1.ConditionTrue:
			return errEnough
		case metav1.ConditionFalse:
			return &cli.ExitError{Code: cli.CodeBad, Err: fmt.Errorf("%s: %s: %s", t, ready.Reason, ready.Message)}
		}
		return nil
	}
	gone := fmt.Errorf("%s was deleted while it was waited for", t)
	f := cli.Follower{
		Client: cluster.Client, List: t.list(),
		Options: client.ListOptions{Namespace: t.key.Namespace, FieldSelector: fields.OneTermEqualSelector("metadata.name", t.key.Name)},
		Listed: func(objects []client.Object) error {
			if len(objects) == 0 {
				return gone
			}
			return look(objects[0])
		},
		Changed: func(event watch.EventType, o client.Object) error {
			if event == watch.Deleted {
				return gone
			}
			return look(o)
		},
	}
	err := f.Run(limited)
	switch {
	case errors.Is(err, errEnough):
		return last, nil
	case ctx.Err() == nil && limited.Err() != nil:
		return last, &cli.ExitError{Code: cli.CodeUnfinished, Err: fmt.Errorf("%s is not reconciled within %s: %s", t, timeout, ready.Message)}
	}
	return last, err
}
