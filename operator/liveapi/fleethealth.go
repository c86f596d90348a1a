package liveapi

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/operator/fleethealth"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/operator/roster"
)

// fleetHealths counts the devices whenever somebody asks. It goes by the roster and not by
// the Store, which has only the Device that has an ID, and not those that want it too.
type fleetHealths struct {
	devices *roster.Roster
	view    *fleetview.View
	ready   func() bool
}

var (
	_ rest.Scoper               = (*fleetHealths)(nil)
	_ rest.Getter               = (*fleetHealths)(nil)
	_ rest.Lister               = (*fleetHealths)(nil)
	_ rest.SingularNameProvider = (*fleetHealths)(nil)
	_ rest.ShortNamesProvider   = (*fleetHealths)(nil)
)

const fleetHealthResource = "fleethealths"

// New makes an empty object.
func (*fleetHealths) New() runtime.Object { return &live.FleetHealth{} }

// NewList makes an empty list.
func (*fleetHealths) NewList() runtime.Object { return &live.FleetHealthList{} }

// Destroy has nothing to do.
func (*fleetHealths) Destroy() {}

// NamespaceScoped says that it is.
func (*fleetHealths) NamespaceScoped() bool { return true }

// GetSingularName is for kubectl.
func (*fleetHealths) GetSingularName() string { return "fleethealth" }

// ShortNames are for kubectl.
func (*fleetHealths) ShortNames() []string { return []string{"fh"} }

// Get counts the devices of a namespace.
func (s *fleetHealths) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	if !s.ready() {
		return nil, unready()
	}
	if name == live.FleetHealthName {
		if found := fleethealth.Of(s.devices, s.view, genericapirequest.NamespaceValue(ctx), labels.Everything()); len(found) == 1 {
			return &found[0], nil
		}
	}
	return nil, apierrors.NewNotFound(live.GroupVersion.WithResource(fleetHealthResource).GroupResource(), name)
}

// List counts the devices that the label selector selects. There is no more than one
// object for each namespace, so it is not given out in pages.
func (s *fleetHealths) List(ctx context.Context, o *metainternalversion.ListOptions) (runtime.Object, error) {
	if !s.ready() {
		return nil, unready()
	}
	if o.ResourceVersionMatch == metav1.ResourceVersionMatchExact || o.Continue != "" {
		return nil, apierrors.NewResourceExpired("only the present can be listed, in one piece")
	}
	selector := o.LabelSelector
	if selector == nil {
		selector = labels.Everything()
	}
	list := &live.FleetHealthList{Items: []live.FleetHealth{}}
	for _, h := range fleethealth.Of(s.devices, s.view, genericapirequest.NamespaceValue(ctx), selector) {
		if o.FieldSelector == nil || o.FieldSelector.Matches(fields.Set{"metadata.name": h.Name, "metadata.namespace": h.Namespace}) {
			list.Items = append(list.Items, h)
		}
	}
	return list, nil
}

var fleetHealthColumns = []metav1.TableColumnDefinition{
	{Name: "Name", Type: "string", Format: "name", Description: "The same for every namespace."},
	{Name: "Devices", Type: "integer", Description: "How many there are."},
	{Name: "Ready", Type: "integer", Description: "Heartbeats arrive."},
	{Name: "Not-Ready", Type: "integer", Description: "Heartbeats come no more, or from an agent with another key."},
	{Name: "Never-Seen", Type: "integer", Description: "Approved, and no heartbeat has come yet."},
	{Name: "Pending", Type: "integer", Description: "Waiting for approval."},
	{Name: "Shut-Out", Type: "integer", Description: "They may not connect."},
	{Name: "Duplicate", Type: "integer", Description: "An older Device of another namespace has the ID."},
	{Name: "Cordoned", Type: "integer", Description: "Told nothing new, whatever else they are."},
	{Name: "Mismatched", Type: "integer", Priority: 1, Description: "Those of Not-Ready with another key."},
	{Name: "Last-Gone", Type: "string", Priority: 1, Description: "The device whose heartbeats stopped last."},
	{Name: "Since", Type: "string", Priority: 1, Description: "How long ago its last heartbeat arrived."},
}

func fleetHealthCells(o runtime.Object) []any {
	h := o.(*live.FleetHealth)
	s, gone, since := &h.Status, "<none>", "<none>"
	if len(s.Gone) > 0 {
		gone, since = s.Gone[0].Name, duration.HumanDuration(time.Since(s.Gone[0].LastHeartbeatTime.Time))
	}
	return []any{h.Name, s.Total, s.Ready, s.NotReady, s.NeverSeen, s.Pending, s.ShutOut, s.Duplicate, s.Cordoned, s.Mismatched, gone, since}
}

// ConvertToTable is what plain kubectl prints.
func (*fleetHealths) ConvertToTable(_ context.Context, object, options runtime.Object) (*metav1.Table, error) {
	return tableOf(object, options, fleetHealthColumns, fleetHealthCells)
}
