// Package fleethealth counts devices by their health, from what the cluster and the bus
// say of each.
package fleethealth

import (
	"cmp"
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/nationtech/fleet/api/health"
	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/operator/roster"
)

// Facts are what the health of a Device follows from. Owner is the Device that has its
// ID, which may be itself; nil for nobody.
func Facts(d, owner *roster.Device, seen *fleetview.Device) health.Facts {
	f := health.Facts{
		Namespace: d.Namespace, Name: string(d.ID), Approved: d.Approved, PublicKey: d.PublicKey,
		Online: seen.Online, LastHeartbeat: seen.LastHeartbeat, Interval: seen.Interval,
	}
	if owner != nil && owner.Namespace != d.Namespace {
		f.Owner = owner.Namespace
	}
	if seen.Info != nil {
		f.AgentKey = seen.Info.PublicKey
	}
	return f
}

// chunk is how many devices are looked up at a time, while which no heartbeat is folded.
const chunk = 256

// Of counts the Devices of a namespace, of all when it is empty, that a selector selects:
// one FleetHealth for each namespace that has any, ordered by namespace.
//
// Nothing is kept for it: it is one pass over the Devices, in no order. The bus is folded
// in between, a chunk at a time; the roster waits while its list is copied.
func Of(devices *roster.Roster, view *fleetview.View, namespace string, selector labels.Selector) []live.FleetHealth {
	tallies := map[string]*tally{}
	all, owners := devices.Devices(namespace)
	if !selector.Empty() {
		all = slices.DeleteFunc(all, func(d *roster.Device) bool { return !selector.Matches(labels.Set(d.Labels)) })
	}
	var ids [chunk]contracts.DeviceID
	var seen [chunk]fleetview.Device
	for some := range slices.Chunk(all, chunk) {
		for i, d := range some {
			ids[i] = d.ID
		}
		view.Devices(ids[:len(some)], seen[:])
		for i, d := range some {
			t := tallies[d.Namespace]
			if t == nil {
				t = &tally{}
				tallies[d.Namespace] = t
			}
			t.add(Facts(d, owners[d], &seen[i]), d.Cordoned)
		}
	}
	out := make([]live.FleetHealth, 0, len(tallies))
	for _, namespace := range slices.Sorted(maps.Keys(tallies)) {
		out = append(out, live.FleetHealth{
			TypeMeta:   metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "FleetHealth"},
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: live.FleetHealthName},
			Status:     tallies[namespace].status(),
		})
	}
	return out
}

// tally is what was counted of a namespace.
type tally struct {
	counts live.FleetHealthStatus
	gone   first[health.Facts]
	// The first by name of a health each.
	waiting, applicants, duplicates, mismatches first[string]
}

func (t *tally) add(f health.Facts, cordoned bool) {
	c := &t.counts
	c.Total++
	if cordoned {
		c.Cordoned++
	}
	switch f.Reason() {
	case v1alpha1.ReasonHeartbeat:
		c.Ready++
	case v1alpha1.ReasonHeartbeatMissed:
		c.NotReady++
		t.gone.add(f, live.MaxGone, lastFirst)
	case v1alpha1.ReasonPublicKeyMismatch:
		c.NotReady++
		c.Mismatched++
		t.mismatches.add(f.Name, live.MaxNames, cmp.Compare)
	case v1alpha1.ReasonNeverSeen:
		c.NeverSeen++
		t.waiting.add(f.Name, live.MaxNames, cmp.Compare)
	case v1alpha1.ReasonNotApproved:
		c.Pending++
		t.applicants.add(f.Name, live.MaxNames, cmp.Compare)
	case v1alpha1.ReasonShutOut:
		c.ShutOut++
	case v1alpha1.ReasonDuplicateID:
		c.Duplicate++
		t.duplicates.add(f.Name, live.MaxNames, cmp.Compare)
	}
}

func (t *tally) status() live.FleetHealthStatus {
	s := t.counts
	s.Waiting, s.Applicants, s.Duplicates, s.Mismatches = t.waiting, t.applicants, t.duplicates, t.mismatches
	for _, f := range t.gone {
		reason := f.Reason()
		s.Gone = append(s.Gone, live.GoneDevice{Name: f.Name, Reason: reason, Message: f.Message(reason), LastHeartbeatTime: second(f.LastHeartbeat)})
	}
	return s
}

// second is a time as it stands in a Device. Who goes by the Devices sees no finer
// differences, and has to come to the same order.
func second(t time.Time) metav1.Time { return metav1.NewTime(t).Rfc3339Copy() }

func lastFirst(a, b health.Facts) int {
	return cmp.Or(cmp.Compare(b.LastHeartbeat.Unix(), a.LastHeartbeat.Unix()), cmp.Compare(a.Name, b.Name))
}

// first keeps the first few of what it is given, in their order.
type first[T any] []T

func (f *first[T]) add(v T, limit int, compare func(a, b T) int) {
	if len(*f) == limit && compare((*f)[limit-1], v) <= 0 {
		return
	}
	i, _ := slices.BinarySearchFunc(*f, v, compare)
	*f = slices.Insert(*f, i, v)
	*f = (*f)[:min(len(*f), limit)]
}
