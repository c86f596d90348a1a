package liveapi

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/clock"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/operator/roster"
)

// countable is a server that counts two tills, of which one is there, and a mast that
// nobody has approved.
func countable(t *testing.T) *served {
	t.Helper()
	devices, view := roster.New(), fleetview.New(fleetview.Options{Clock: clock.RealClock{}})
	for name, namespace := range map[string]string{"till-1": "shops", "till-2": "shops", "mast": "radio"} {
		d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"line": name}}}
		if namespace == "shops" {
			d.Spec.Approved = new(true)
		}
		devices.Set(d)
	}
	value, err := contracts.Encode(contracts.HeartbeatPayload{V: contracts.Version, Seq: 1, Time: time.Now().UnixMilli(), Interval: 30})
	must(t, err)
	view.Fold(bus.Entry{Bucket: contracts.BucketDeviceHeartbeat, Key: contracts.HeartbeatKey("till-1"), Value: value, Time: time.Now()})
	return serveOptions(t, Options{Store: NewStore(time.Now()), Roster: devices, View: view})
}

func TestFleetHealthCountsWhatASelectorSelects(t *testing.T) {
	s := countable(t)
	all := s.client.Resource(live.GroupVersion.WithResource(fleetHealthResource))
	for name, c := range map[string]struct {
		list    dynamic.ResourceInterface
		options metav1.ListOptions
		want    []string
		refuses string
	}{
		"one for each namespace":          {list: all, want: []string{"radio/fleet 1/0", "shops/fleet 2/1"}},
		"a namespace":                     {list: all.Namespace("shops"), want: []string{"shops/fleet 2/1"}},
		"a namespace that has no devices": {list: all.Namespace("none")},
		"labels are of devices":           {list: all, options: metav1.ListOptions{LabelSelector: "line=till-2"}, want: []string{"shops/fleet 1/0"}},
		"labels that no device has":       {list: all, options: metav1.ListOptions{LabelSelector: "line=none"}},
		"by namespace":                    {list: all, options: metav1.ListOptions{FieldSelector: "metadata.namespace=radio"}, want: []string{"radio/fleet 1/0"}},
		"by a name that none has":         {list: all, options: metav1.ListOptions{FieldSelector: "metadata.name=till-1"}},
		"by a field that can't":           {list: all, options: metav1.ListOptions{FieldSelector: "status.ready=1"}, refuses: `"status.ready" is not a known field selector`},
		"the past":                        {list: all, options: metav1.ListOptions{ResourceVersion: "1", ResourceVersionMatch: metav1.ResourceVersionMatchExact}, refuses: "only the present"},
		"pages are not given out":         {list: all, options: metav1.ListOptions{Limit: 1}, want: []string{"radio/fleet 1/0", "shops/fleet 2/1"}},
		"a page that was not given out":   {list: all, options: metav1.ListOptions{Limit: 1, Continue: "x"}, refuses: "only the present"},
		"a selector that can't be read":   {list: all, options: metav1.ListOptions{LabelSelector: "line in"}, refuses: "unable to parse requirement"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := c.list.List(t.Context(), c.options)
			if c.refuses != "" {
				if err == nil || !strings.Contains(err.Error(), c.refuses) {
					t.Errorf("it answers %v, want %q", err, c.refuses)
				}
				return
			}
			must(t, err)
			var got []string
			for _, o := range l.Items {
				status := o.Object["status"].(map[string]any)
				got = append(got, fmt.Sprintf("%s/%s %d/%d", o.GetNamespace(), o.GetName(), status["total"], status["ready"]))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

func TestFleetHealthIsReadOnlyAndExplained(t *testing.T) {
	s := countable(t)
	shops := s.client.Resource(live.GroupVersion.WithResource(fleetHealthResource)).Namespace("shops")
	o, err := shops.Get(t.Context(), live.FleetHealthName, metav1.GetOptions{})
	must(t, err)
	if o.GetKind() != "FleetHealth" || o.GetNamespace() != "shops" {
		t.Errorf("it is %v", o)
	}
	none := s.client.Resource(live.GroupVersion.WithResource(fleetHealthResource)).Namespace("none")
	for name, get := range map[string]func() error{
		"another name":                    func() error { _, err := shops.Get(t.Context(), "till-1", metav1.GetOptions{}); return err },
		"a namespace that has no devices": func() error { _, err := none.Get(t.Context(), "fleet", metav1.GetOptions{}); return err },
	} {
		if err := get(); !apierrors.IsNotFound(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := shops.Watch(t.Context(), metav1.ListOptions{}); !apierrors.IsMethodNotSupported(err) {
		t.Errorf("a watch is answered %v", err)
	}
	found, err := discovery.NewDiscoveryClientForConfigOrDie(s.config).ServerResourcesForGroupVersion(live.GroupVersion.String())
	must(t, err)
	i := slices.IndexFunc(found.APIResources, func(r metav1.APIResource) bool { return r.Name == fleetHealthResource })
	if r := found.APIResources[i]; !slices.Equal(r.Verbs, []string{"get", "list"}) || !r.Namespaced || r.Kind != "FleetHealth" || r.SingularName != "fleethealth" {
		t.Errorf("it is discovered as %+v", r)
	}
	raw, err := s.rest().Get().Resource(fleetHealthResource).SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(context.Background())
	must(t, err)
	for _, want := range []string{`"name":"Never-Seen"`, `"cells":["fleet",2,1,0,1,0,0,0,0,0,"\u003cnone\u003e","\u003cnone\u003e"]`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("%s is not in %s", want, raw)
		}
	}
	raw, err = s.rest().Get().AbsPath("/openapi/v3/apis/live.fleet.nationtech.io/v1alpha1").DoRaw(t.Context())
	must(t, err)
	if !strings.Contains(string(raw), "a label selector selects the Devices that are counted") {
		t.Error("kubectl explain would not say what a selector selects")
	}
	s.ready.Store(false)
	for _, path := range []string{"fleethealths", "namespaces/shops/fleethealths/fleet"} {
		err := s.rest().Get().RequestURI("/apis/live.fleet.nationtech.io/v1alpha1/" + path).MaxRetries(0).Do(t.Context()).Error()
		if !apierrors.IsServiceUnavailable(err) {
			t.Errorf("%s answers %v before the fleet is in view", path, err)
		}
	}
}
