package placements

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
)

func TestState(t *testing.T) {
	told := &metav1.MicroTime{Time: time.Unix(1700000000, 0)}
	for name, c := range map[string]struct {
		spec   live.PlacementSpec
		status live.PlacementStatus
		want   State
	}{
		"it runs what it was told":             {live.PlacementSpec{Revision: "web-2", ToldTime: told}, live.PlacementStatus{Revision: "web-2", Phase: "Running"}, Running},
		"it runs another revision":             {live.PlacementSpec{Revision: "web-2", ToldTime: told}, live.PlacementStatus{Revision: "web-1", Phase: "Running"}, Pending},
		"that another revision fails is past":  {live.PlacementSpec{Revision: "web-2", ToldTime: told}, live.PlacementStatus{Revision: "web-1", Phase: "Failed"}, Pending},
		"it has said nothing":                  {live.PlacementSpec{Revision: "web-2", ToldTime: told}, live.PlacementStatus{Phase: "Pending"}, Pending},
		"it pulls":                             {live.PlacementSpec{Revision: "web-2", ToldTime: told}, live.PlacementStatus{Revision: "web-2", Phase: "Pulling"}, Pending},
		"it is degraded":                       {live.PlacementSpec{Revision: "web-2", ToldTime: told}, live.PlacementStatus{Revision: "web-2", Phase: "Degraded"}, Failed},
		"it went back":                         {live.PlacementSpec{Revision: "web-2", ToldTime: told}, live.PlacementStatus{Revision: "web-2", Phase: "RolledBack"}, Failed},
		"what it says can't be read":           {live.PlacementSpec{Revision: "web-2", ToldTime: told}, live.PlacementStatus{Phase: "Failed"}, Failed},
		"it was told nothing, and runs it yet": {live.PlacementSpec{}, live.PlacementStatus{Revision: "web-1", Phase: "Running"}, Leftover},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Of(&live.Placement{Spec: c.spec, Status: c.status}); got != c.want {
				t.Errorf("state %d, want %d", got, c.want)
			}
		})
	}
}

func TestPhasesSelect(t *testing.T) {
	f := filters{device: "till-1", phases: []string{"failed", "Degraded"}}
	terms, err := f.selectors()
	if err != nil {
		t.Fatal(err)
	}
	selector := fields.AndSelectors(terms...)
	for _, phase := range phases() {
		want := phase == "Failed" || phase == "Degraded"
		if got := selector.Matches(fields.Set{"spec.device": "till-1", "status.phase": phase}); got != want {
			t.Errorf("%s is selected: %t, want %t", phase, got, want)
		}
	}
	if selector.Matches(fields.Set{"spec.device": "till-2", "status.phase": "Failed"}) {
		t.Error("another device is selected")
	}
}

func TestWhatFailsComesFirst(t *testing.T) {
	told := &metav1.MicroTime{Time: time.Unix(1700000000, 0)}
	var list []*live.Placement
	for _, phase := range []string{"Running", "Pulling", "Failed"} {
		for _, online := range []bool{true, false} {
			list = append(list, &live.Placement{Spec: live.PlacementSpec{ToldTime: told}, Status: live.PlacementStatus{Phase: phase, Online: online}})
		}
	}
	slices.SortStableFunc(list, Compare)
	var got []string
	for _, p := range list {
		got = append(got, p.Status.Phase)
	}
	if want := []string{"Failed", "Failed", "Pulling", "Pulling", "Running", "Running"}; !slices.Equal(got, want) || list[4].Status.Online {
		t.Errorf("order %v, want %v with the offline one before the online one", got, want)
	}
}
