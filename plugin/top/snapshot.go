package top

import (
	"context"
	"fmt"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
)

// once reads everything and does not follow it.
func (f *feed) once(ctx context.Context) (frame, error) {
	out := frame{now: f.now()}
	var err error
	if out.heartbeats, err = list[live.Heartbeat](ctx, f, "heartbeats", &live.HeartbeatList{}); err != nil {
		return out, err
	}
	out.placements, err = list[live.Placement](ctx, f, "placements", &live.PlacementList{})
	return out, err
}

func list[T any, P pointer[T]](ctx context.Context, f *feed, what string, kind client.ObjectList) (changes[T], error) {
	objects, _, err := cli.ListAll(ctx, f.client, kind, f.options)
	if err == nil {
		var all changes[T]
		if all, err = listed[T, P](objects); err == nil {
			return all, nil
		}
	}
	return changes[T]{}, fmt.Errorf("list %s in %s: %w", what, f.scope, err)
}

// snapshot is all that the screen could show, from top to bottom.
func (m *model) snapshot() string {
	lines := m.totals(m.style)
	for _, v := range []view{m.devices, m.placements} {
		lines = append(lines, "")
		if none := v.none(m.scope); none != "" {
			lines = append(lines, none)
			continue
		}
		lines = append(lines, v.all(m.style, m.now)...)
	}
	return strings.Join(lines, "\n") + "\n"
}
