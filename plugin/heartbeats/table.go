package heartbeats

import (
	"cmp"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/plugin/screen"
)

// readyColumn is where READY is among the columns.
const readyColumn = 1

func columns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		{Name: "Name", Type: "string", Format: "name"},
		{Name: "Ready", Type: "string"},
		{Name: "Last-Heartbeat", Type: "string"},
		{Name: "Every", Type: "string"},
		{Name: "Latency", Type: "string"},
		{Name: "Missed", Type: "string"},
		{Name: "Agent", Type: "string"},
		{Name: "Uptime", Type: "string"},
		{Name: "Sequence", Type: "string", Priority: 1},
		{Name: "Hostname", Type: "string", Priority: 1},
	}
}

func cells(h *live.Heartbeat, now time.Time) []any {
	s := h.Status
	if s.LastHeartbeatTime == nil {
		return []any{h.Name, screen.Truth(s.Ready), "never", screen.None, screen.None, screen.None, screen.OrNone(s.AgentVersion), screen.None,
			screen.None, screen.OrNone(s.Hostname)}
	}
	return []any{
		h.Name, screen.Truth(s.Ready), screen.Age(now, s.LastHeartbeatTime.Time), Seconds(int64(s.IntervalSeconds)), Latency(s.LatencyMillis),
		screen.Count(s.Missed), screen.OrNone(s.AgentVersion), Seconds(s.UptimeSeconds),
		fmt.Sprint(s.Sequence), screen.OrNone(s.Hostname),
	}
}

// Seconds is a time in Kubernetes' short words.
func Seconds(n int64) string { return duration.HumanDuration(time.Duration(n) * time.Second) }

// Latency is exact while it is short. It is negative when the device's clock is ahead.
func Latency(millis int64) string {
	const long = 10_000
	switch {
	case millis >= long:
		return duration.HumanDuration(time.Duration(millis) * time.Millisecond)
	case millis <= -long:
		return "-" + duration.HumanDuration(time.Duration(-millis)*time.Millisecond)
	}
	return fmt.Sprintf("%dms", millis)
}

// state is how a device's heartbeats come. The first is what a person has to see
// first.
type state int

const (
	// gone: they came, and come no more.
	gone state = iota
	// late: the next one should have come.
	late
	// never: none ever came.
	never
	// punctual: they come in time.
	punctual
)

func stateOf(h *live.Heartbeat, now time.Time) state {
	due := Due(h)
	switch {
	case h.Status.LastHeartbeatTime == nil:
		return never
	case !h.Status.Ready:
		return gone
	case !due.IsZero() && now.After(due):
		return late
	}
	return punctual
}

// Due is when the next heartbeat has to be there, or it is late; zero when nobody knows.
// Half an interval is for the way, and for clocks that differ.
func Due(h *live.Heartbeat) time.Time {
	last, interval := h.Status.LastHeartbeatTime, time.Duration(h.Status.IntervalSeconds)*time.Second
	if last == nil || interval <= 0 {
		return time.Time{}
	}
	return last.Add(interval * 3 / 2)
}

// compare puts late ones first. Those who went last are on top: they are the news.
// Punctual ones keep their places, so that a live screen does not jump about.
func compare(a, b *live.Heartbeat, now time.Time) int {
	x, y := stateOf(a, now), stateOf(b, now)
	switch {
	case x != y:
		return cmp.Compare(x, y)
	case x == gone:
		return b.Status.LastHeartbeatTime.Compare(a.Status.LastHeartbeatTime.Time)
	case x == late:
		return a.Status.LastHeartbeatTime.Compare(b.Status.LastHeartbeatTime.Time)
	}
	return 0
}

func tone(h *live.Heartbeat, now time.Time) screen.Tone {
	return map[state]screen.Tone{gone: screen.Bad, late: screen.Warn, never: screen.Dim, punctual: screen.Plain}[stateOf(h, now)]
}

// summary counts devices by how their heartbeats come.
func summary(s screen.Style, list []*live.Heartbeat, now time.Time) string {
	counts := map[state]int{}
	for _, h := range list {
		counts[stateOf(h, now)]++
	}
	return s.Tally(screen.Plural(len(list), "device"),
		screen.Tally{Count: counts[gone], Tone: screen.Bad, Word: "gone"},
		screen.Tally{Count: counts[late], Tone: screen.Warn, Word: "late"},
		screen.Tally{Count: counts[never], Tone: screen.Dim, Word: "never seen"},
		screen.Tally{Count: counts[punctual], Tone: screen.Good, Word: "in time"},
	)
}
