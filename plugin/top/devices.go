package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/plugin/heartbeats"
	"github.com/nationtech/fleet/plugin/placements"
	"github.com/nationtech/fleet/plugin/screen"
)

// device is a row of the view of devices.
type device struct {
	*live.Heartbeat
	state string
	// due is when it is late if nothing comes; zero for never.
	due time.Time
	// placements of the device.
	placements []*live.Placement
	running    int
	failed     int
}

func newDevice(h *live.Heartbeat, of []*live.Placement, now time.Time) *device {
	d := &device{Heartbeat: h, state: online, due: heartbeats.Due(h), placements: of}
	switch {
	case h.Status.LastHeartbeatTime == nil:
		d.state = never
	case !h.Status.Ready:
		d.state = gone
	case d.overdue(now):
		d.state = late
	}
	for _, p := range of {
		switch placements.Of(p) {
		case placements.Running:
			d.running++
		case placements.Failed:
			d.failed++
		}
	}
	return d
}

// overdue reports whether a heartbeat of a device that is online should have come.
func (d *device) overdue(now time.Time) bool {
	return d.state == online && !d.due.IsZero() && now.After(d.due)
}

// Ranks of a device, worst first.
const (
	rankGone = iota
	rankFailing
	rankLate
	rankNever
	rankWell
)

func (d *device) rank() int {
	switch {
	case d.state == gone:
		return rankGone
	case d.failed > 0:
		return rankFailing
	case d.state == late:
		return rankLate
	case d.state == never:
		return rankNever
	}
	return rankWell
}

func (d *device) last() time.Time {
	if t := d.Status.LastHeartbeatTime; t != nil {
		return t.Time
	}
	return time.Time{}
}

func deviceKind(scopeKey func(namespace, name string) string) kind[device] {
	return kind[device]{
		noun:    "device",
		heading: "Devices",
		key:     func(d *device) key { return keyOf(d.Heartbeat) },
		group:   func(d *device) string { return d.state },
		problem: func(d *device) bool { return d.rank() < rankWell },
		orders: []order[device]{
			{"worst", worstDevice},
			{"name", func(_, _ *device) int { return 0 }},
			{"heartbeat", func(a, b *device) int { return a.last().Compare(b.last()) }},
			{"latency", func(a, b *device) int { return cmp.Compare(b.Status.LatencyMillis, a.Status.LatencyMillis) }},
			{"missed", func(a, b *device) int { return cmp.Compare(b.Status.Missed, a.Status.Missed) }},
			{"failed", func(a, b *device) int { return cmp.Compare(b.failed, a.failed) }},
			{"uptime", func(a, b *device) int { return cmp.Compare(a.Status.UptimeSeconds, b.Status.UptimeSeconds) }},
		},
		columns: []column[device]{
			{name: "NAME", width: 16, grow: 34, cell: func(d *device, _ time.Time) (string, screen.Tone) {
				return screen.Safe(scopeKey(d.Namespace, d.Name)), screen.Plain
			}},
			{name: "READY", width: 5, spare: 1, cell: func(d *device, _ time.Time) (string, screen.Tone) {
				return screen.Truth(d.Status.Ready), toneOf(deviceStates, d.state)
			}},
			{name: "HEARTBEAT", width: 9, spare: 2, cell: func(d *device, now time.Time) (string, screen.Tone) {
				if d.state == online {
					return screen.Age(now, d.last()), screen.Plain
				}
				return screen.Age(now, d.last()), toneOf(deviceStates, d.state)
			}},
			{name: "LATENCY", width: 7, spare: 5, right: true, cell: seen(func(d *device) string { return heartbeats.Latency(d.Status.LatencyMillis) })},
			{name: "MISSED", width: 6, spare: 7, right: true, cell: seen(func(d *device) string { return fmt.Sprint(d.Status.Missed) })},
			{name: "RUNNING", width: 7, spare: 4, right: true, cell: func(d *device, _ time.Time) (string, screen.Tone) {
				return screen.Ratio(d.running, len(d.placements)), screen.Plain
			}},
			{name: "FAILED", width: 6, spare: 3, right: true, cell: func(d *device, _ time.Time) (string, screen.Tone) {
				if d.failed > 0 {
					return screen.Count(d.failed), screen.Bad
				}
				return "0", screen.Dim
			}},
			{name: "AGENT", width: 10, grow: 10, spare: 8, cell: seen(func(d *device) string { return screen.Safe(d.Status.AgentVersion) })},
			{name: "UPTIME", width: 6, spare: 6, cell: seen(func(d *device) string { return heartbeats.Seconds(d.Status.UptimeSeconds) })},
		},
		text: func(d *device) string {
			return strings.ToLower(strings.Join([]string{d.Namespace + "/" + d.Name, d.state, d.Status.AgentVersion, d.Status.Hostname}, "\n"))
		},
		detail: deviceDetail,
	}
}

// worstDevice has first who went last: that is the news.
func worstDevice(a, b *device) int {
	if c := cmp.Compare(a.rank(), b.rank()); c != 0 {
		return c
	}
	switch a.rank() {
	case rankGone:
		return b.last().Compare(a.last())
	case rankFailing:
		return cmp.Compare(b.failed, a.failed)
	case rankLate:
		return a.last().Compare(b.last())
	}
	return 0
}

// seen is a cell of what is known of devices that were heard of only.
func seen(text func(*device) string) func(*device, time.Time) (string, screen.Tone) {
	return func(d *device, _ time.Time) (string, screen.Tone) {
		if d.state == never {
			return "", screen.Plain
		}
		return text(d), screen.Plain
	}
}

func deviceDetail(d *device, now time.Time) []field {
	fields := []field{
		{"Device", d.Namespace + "/" + d.Name, screen.Bold},
		{"Labels", labelsText(d.Labels), screen.Plain},
		{"State", d.state, toneOf(deviceStates, d.state)},
		{"Heartbeat", moment(now, d.Status.LastHeartbeatTime), screen.Plain},
	}
	if d.state != never {
		fields = append(fields, []field{
			{"Interval", heartbeats.Seconds(int64(d.Status.IntervalSeconds)), screen.Plain},
			{"Sequence", screen.Count(d.Status.Sequence), screen.Plain},
			{"Missed", screen.Count(d.Status.Missed), screen.Plain},
			{"Latency", heartbeats.Latency(d.Status.LatencyMillis), screen.Plain},
			{"Agent", d.Status.AgentVersion, screen.Plain},
			{"Uptime", heartbeats.Seconds(d.Status.UptimeSeconds), screen.Plain},
			{"Hostname", d.Status.Hostname, screen.Plain},
		}...)
	}
	fields = append(fields, field{"Running", screen.Ratio(d.running, len(d.placements)), screen.Plain})
	for _, p := range slices.SortedFunc(slices.Values(d.placements), worstPlacement) {
		text := strings.Join(strings.Fields(p.Status.Phase+" "+p.Status.Reason), ", ")
		fields = append(fields, field{"  " + p.Spec.Deployment, text, placements.Tone(p)})
	}
	return fields
}
