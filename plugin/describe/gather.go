package describe

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/placements"
)

// maxEvents is how many events are shown, the last ones.
const maxEvents = 10

// patience is how long a live API may take that does not answer.
const patience = 5 * time.Second

// device is what there is to say of a device.
type device struct {
	*v1alpha1.Device
	// heartbeat is nil when there is none, or it could not be read.
	heartbeat  *live.Heartbeat
	placements []*live.Placement
	events     []*corev1.Event
	// older is how many events there are before these.
	older int
	// unread are the parts that could not be read.
	unread []unread
}

type unread struct {
	part part
	err  error
}

// part of the screen.
type part string

const (
	partHeartbeat   part = "Heartbeat"
	partDeployments part = "Deployments"
	partEvents      part = "Events"
)

// gather reads everything at the same time. Only without the Device itself there is
// nothing to show.
func gather(ctx context.Context, cluster *cli.Cluster, name string) (device, error) {
	out := device{Device: &v1alpha1.Device{}}
	key := client.ObjectKey{Namespace: cluster.Namespace, Name: name}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	brief, done := context.WithTimeout(ctx, patience)
	defer done()
	var all sync.WaitGroup
	var heartbeat, placed, events error
	all.Go(func() { out.heartbeat, heartbeat = readHeartbeat(brief, cluster.Client, key) })
	all.Go(func() { out.placements, placed = readPlacements(brief, cluster.Client, key) })
	all.Go(func() { out.events, out.older, events = readEvents(ctx, cluster.Client, key) })
	err := cluster.Client.Get(ctx, key, out.Device)
	if err != nil {
		cancel()
	}
	all.Wait()
	if err != nil {
		return out, fmt.Errorf("get device %s: %w", key, err)
	}
	for _, u := range []unread{{partHeartbeat, heartbeat}, {partDeployments, placed}, {partEvents, events}} {
		if u.err != nil {
			out.unread = append(out.unread, u)
		}
	}
	return out, nil
}

func readHeartbeat(ctx context.Context, c client.Client, key client.ObjectKey) (*live.Heartbeat, error) {
	h := &live.Heartbeat{}
	err := c.Get(ctx, key, h)
	if apierrors.IsNotFound(err) && !cli.NotInstalled(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get heartbeat %s: %w", key, err)
	}
	return h, nil
}

// readPlacements has the ones that are not well first.
func readPlacements(ctx context.Context, c client.Client, key client.ObjectKey) ([]*live.Placement, error) {
	objects, _, err := cli.ListAll(ctx, c, &live.PlacementList{}, client.ListOptions{
		Namespace: key.Namespace, FieldSelector: fields.OneTermEqualSelector("spec.device", key.Name),
	})
	if err != nil {
		return nil, fmt.Errorf("list placements of device %s: %w", key, err)
	}
	var out []*live.Placement
	for _, o := range objects {
		out = append(out, o.(*live.Placement))
	}
	slices.SortStableFunc(out, placements.Compare)
	return out, nil
}

// readEvents returns the last events, the latest at the end, and how many there are
// before them.
func readEvents(ctx context.Context, c client.Client, key client.ObjectKey) (last []*corev1.Event, older int, err error) {
	objects, _, err := cli.ListAll(ctx, c, &corev1.EventList{}, client.ListOptions{
		Namespace: key.Namespace, FieldSelector: fields.Set{
			"involvedObject.kind": v1alpha1.DeviceKind, "involvedObject.apiVersion": v1alpha1.GroupVersion.String(), "involvedObject.name": key.Name,
		}.AsSelector(),
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list events of device %s: %w", key, err)
	}
	for _, o := range objects {
		last = append(last, o.(*corev1.Event))
	}
	slices.SortStableFunc(last, func(a, b *corev1.Event) int { return eventTime(a).Compare(eventTime(b)) })
	older = max(len(last)-maxEvents, 0)
	return last[older:], older, nil
}

// eventTime is when it happened last. Which field has it depends on the API by which
// it was written.
func eventTime(e *corev1.Event) time.Time {
	if e.Series != nil {
		return e.Series.LastObservedTime.Time
	}
	if !e.LastTimestamp.IsZero() {
		return e.LastTimestamp.Time
	}
	return cmp.Or(e.EventTime.Time, e.CreationTimestamp.Time)
}

// hints say what to do about what could not be read, each once.
func (d *device) hints() []string {
	var out []string
	for _, u := range d.unread {
		if hint := cli.Explain(u.err); hint != "" && !slices.Contains(out, hint) {
			out = append(out, hint)
		}
	}
	return out
}

// missing reports whether a part could not be read.
func (d *device) missing(p part) bool {
	return slices.ContainsFunc(d.unread, func(u unread) bool { return u.part == p })
}
