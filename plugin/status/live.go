package status

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"k8s.io/client-go/rest"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
)

// patience is how long the live API, which answers from memory, may take until the
// devices are counted without it.
const patience = 3 * time.Second

// liveDevices has the operator count the devices in scope.
func liveDevices(ctx context.Context, config *rest.Config, scope cli.Scope) (Devices, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	api, err := restClient(config, live.GroupVersion)
	if err != nil {
		return Devices{}, err
	}
	// An operator that has just started says to come back: there is another way at once.
	request := api.Get().Resource("fleethealths").MaxRetries(0)
	if !scope.All() {
		request = request.Namespace(scope.Namespace)
	}
	if scope.Selector != "" {
		request = request.Param("labelSelector", scope.Selector)
	}
	raw, err := request.DoRaw(ctx)
	if err != nil {
		return Devices{}, fmt.Errorf("list fleethealths: %w", err)
	}
	list := live.FleetHealthList{}
	if err := json.Unmarshal(raw, &list); err != nil {
		return Devices{}, fmt.Errorf("list fleethealths: %w", err)
	}
	return sum(list.Items), nil
}

// sum adds up the namespaces, which come in their order.
func sum(namespaces []live.FleetHealth) Devices {
	var d Devices
	for i := range namespaces {
		s := &namespaces[i].Status
		for _, n := range []struct {
			to   *int
			from int32
		}{
			{&d.Total, s.Total}, {&d.Ready, s.Ready}, {&d.NotReady, s.NotReady}, {&d.NeverSeen, s.NeverSeen}, {&d.Pending, s.Pending},
			{&d.ShutOut, s.ShutOut}, {&d.Duplicate, s.Duplicate}, {&d.Mismatched, s.Mismatched}, {&d.Cordoned, s.Cordoned},
		} {
			*n.to += int(n.from)
		}
		for _, gone := range s.Gone {
			d.Gone = append(d.Gone, Gone{
				Namespace: namespaces[i].Namespace, Name: gone.Name, Reason: gone.Reason, Message: gone.Message, LastHeartbeat: &gone.LastHeartbeatTime,
			})
		}
		d.Waiting = append(d.Waiting, s.Waiting...)
		d.Applicants = append(d.Applicants, s.Applicants...)
		d.Duplicates = append(d.Duplicates, s.Duplicates...)
		d.Mismatches = append(d.Mismatches, s.Mismatches...)
	}
	slices.SortFunc(d.Gone, compareGone)
	d.Gone = d.Gone[:min(len(d.Gone), maxGone)]
	for _, names := range []*[]string{&d.Waiting, &d.Applicants, &d.Duplicates, &d.Mismatches} {
		*names = (*names)[:min(len(*names), maxNames)]
	}
	return d
}

// compareGone has the device whose heartbeats stopped last first.
func compareGone(a, b Gone) int {
	at := func(g Gone) (seconds int64) {
		if g.LastHeartbeat != nil {
			seconds = g.LastHeartbeat.Unix()
		}
		return seconds
	}
	return cmp.Or(cmp.Compare(at(b), at(a)), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
