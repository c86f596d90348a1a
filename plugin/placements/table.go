package placements

import (
	"cmp"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/plugin/screen"
)

// phaseColumn is where PHASE is among the columns.
const phaseColumn = 1

func columns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		{Name: "Name", Type: "string", Format: "name"},
		{Name: "Phase", Type: "string"},
		{Name: "Reason", Type: "string"},
		{Name: "Told", Type: "string"},
		{Name: "Reported", Type: "string"},
		{Name: "Restarts", Type: "string"},
		{Name: "Since", Type: "string"},
		{Name: "Online", Type: "string"},
		{Name: "Wave", Type: "string", Priority: 1},
		{Name: "Told-Since", Type: "string", Priority: 1},
		{Name: "Drifts", Type: "string", Priority: 1},
		{Name: "Message", Type: "string", Priority: 1},
	}
}

func cells(p *live.Placement, now time.Time) []any {
	return []any{
		p.Name, screen.Safe(p.Status.Phase), screen.OrNone(p.Status.Reason),
		screen.OrNone(ShortRevision(p, p.Spec.Revision)), screen.OrNone(ShortRevision(p, p.Status.Revision)),
		screen.Count(p.Status.Restarts), Since(p.Status.SinceTime, now), screen.Truth(p.Status.Online),
		screen.OrNone(p.Spec.Wave), Since(p.Spec.ToldTime, now), screen.Count(p.Status.Drifts), screen.OrNone(p.Status.Message),
	}
}

// Since is the age of a moment that may not have come yet.
func Since(t *metav1.MicroTime, now time.Time) string {
	if t == nil {
		return screen.None
	}
	return screen.Age(now, t.Time)
}

// Compare puts what fails first, and then what is on its way.
func Compare(a, b *live.Placement) int { return cmp.Compare(rank(a), rank(b)) }

// rank has what a device said before it went between what is on its way and what is
// well.
func rank(p *live.Placement) int {
	state := Of(p)
	if state == Running && p.Status.Online {
		return int(Running) + 1
	}
	return int(state)
}

// summary counts placements by state.
func summary(s screen.Style, list []*live.Placement, _ time.Time) string {
	var failed, pending, offline, running int
	for _, p := range list {
		switch state := Of(p); {
		case state == Failed:
			failed++
		case !p.Status.Online:
			offline++
		case state == Running:
			running++
		default:
			pending++
		}
	}
	return s.Tally(screen.Plural(len(list), "placement"),
		screen.Tally{Count: failed, Tone: screen.Bad, Word: "failed"},
		screen.Tally{Count: pending, Tone: screen.Busy, Word: "pending"},
		screen.Tally{Count: offline, Tone: screen.Dim, Word: "offline"},
		screen.Tally{Count: running, Tone: screen.Good, Word: "running"},
	)
}
