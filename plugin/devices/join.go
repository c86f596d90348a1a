package devices

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/health"
	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/placements"
	"github.com/nationtech/fleet/plugin/screen"
)

// device is a Device with its status as the live API knows it, when live, and as the
// operator wrote it last otherwise.
type device struct {
	*v1alpha1.Device
	live bool
}

func read(object *unstructured.Unstructured) (*device, error) {
	d := &device{Device: &v1alpha1.Device{}}
	return d, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, d.Device)
}

// patience is how long a list waits for a live API that does not answer.
const patience = 3 * time.Second

// joiner puts what the live API knows into devices. When it can't, it says so once.
type joiner struct {
	out  io.Writer
	said bool
}

func (j *joiner) join(ctx context.Context, cluster *cli.Cluster, options client.ListOptions, devices []*device) error {
	if len(devices) == 0 || j.said {
		return nil
	}
	err := merge(ctx, cluster.Client, options, devices)
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	j.said = true
	fmt.Fprintf(j.out, "No live data, so this is what the operator wrote last: %s\n", cause(err))
	return nil
}

// cause is a short word for what keeps the live API from answering.
func cause(err error) string {
	switch {
	case cli.NotInstalled(err):
		return "the live API is not installed in this cluster."
	case errors.Is(err, context.DeadlineExceeded):
		return "the live API does not answer in time."
	}
	return screen.Safe(err.Error())
}

// merge asks for the live data of devices that were listed with the same options.
func merge(ctx context.Context, c client.Client, options client.ListOptions, devices []*device) error {
	if err := probe(ctx, c, options.Namespace); err != nil {
		return err
	}
	heartbeats, _, err := cli.ListAll(ctx, c, &live.HeartbeatList{}, options)
	if err != nil {
		return fmt.Errorf("list heartbeats: %w", err)
	}
	if options.FieldSelector != nil {
		// A Placement has the Device's labels, but not its name.
		if options.FieldSelector, err = options.FieldSelector.Transform(func(field, value string) (string, string, error) {
			if field == "metadata.name" {
				field = "spec.device"
			}
			return field, value, nil
		}); err != nil {
			return err
		}
	}
	placements, _, err := cli.ListAll(ctx, c, &live.PlacementList{}, options)
	if err != nil {
		return fmt.Errorf("list placements: %w", err)
	}
	counts := count(placements)
	byName := map[types.NamespacedName]*live.Heartbeat{}
	for _, o := range heartbeats {
		byName[client.ObjectKeyFromObject(o)] = o.(*live.Heartbeat)
	}
	for _, d := range devices {
		key := client.ObjectKeyFromObject(d.Device)
		if h := byName[key]; h != nil {
			Update(d.Device, h, counts[key])
			d.live = true
		}
	}
	return nil
}

// probe finds out within a moment whether the live API answers at all. A list of a
// large fleet may take as long as it takes.
func probe(ctx context.Context, c client.Client, namespace string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := c.List(ctx, &live.HeartbeatList{}, client.InNamespace(namespace), client.Limit(1)); err != nil {
		return fmt.Errorf("list heartbeats: %w", err)
	}
	return nil
}

// count counts the placements of each device as the operator does.
func count(list []client.Object) map[types.NamespacedName]*v1alpha1.DeviceDeployments {
	counts := map[types.NamespacedName]*v1alpha1.DeviceDeployments{}
	for _, o := range list {
		p := o.(*live.Placement)
		key := types.NamespacedName{Namespace: p.Namespace, Name: p.Spec.Device}
		n := counts[key]
		if n == nil {
			n = &v1alpha1.DeviceDeployments{}
			counts[key] = n
		}
		switch placements.Of(p) {
		case placements.Leftover:
			continue
		case placements.Running:
			n.Running++
		case placements.Failed:
			n.Failed++
		case placements.Pending:
			n.Pending++
		}
		n.Total++
	}
	return counts
}

// Update puts into the status of a Device what is known live. What the operator has
// against it beside its heartbeats stays.
func Update(d *v1alpha1.Device, h *live.Heartbeat, counts *v1alpha1.DeviceDeployments) {
	s := &d.Status
	if s.Deployments = counts; counts == nil {
		s.Deployments = &v1alpha1.DeviceDeployments{}
	}
	s.LastHeartbeatTime = nil
	if t := h.Status.LastHeartbeatTime; t != nil {
		s.LastHeartbeatTime = &metav1.Time{Time: t.Time}
	}
	if h.Status.AgentVersion != "" {
		if s.Info == nil {
			s.Info = &v1alpha1.DeviceInfo{}
		}
		s.Info.AgentVersion = h.Status.AgentVersion
	}
	if ready := readyCondition(d, h); ready != nil {
		apimeta.SetStatusCondition(&s.Conditions, *ready)
	}
}

// readyCondition is the one that the operator would write; nil for that which is there.
func readyCondition(d *v1alpha1.Device, h *live.Heartbeat) *metav1.Condition {
	reason := ""
	if c := apimeta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionReady); c != nil {
		reason = c.Reason
	}
	if !ptr.Deref(d.Spec.Approved, false) || reason == v1alpha1.ReasonDuplicateID || h.Status.Ready && reason == v1alpha1.ReasonPublicKeyMismatch {
		return nil
	}
	facts := health.Facts{
		Namespace: d.Namespace, Name: d.Name, Approved: d.Spec.Approved,
		Online: h.Status.Ready, Interval: time.Duration(h.Status.IntervalSeconds) * time.Second,
	}
	if t := h.Status.LastHeartbeatTime; t != nil {
		facts.LastHeartbeat = t.Time
	}
	c := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: facts.Reason()}
	if c.Reason == v1alpha1.ReasonHeartbeat {
		c.Status = metav1.ConditionTrue
	}
	c.Message = facts.Message(c.Reason)
	return &c
}
