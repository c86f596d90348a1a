package describe

import (
	"cmp"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/plugin/placements"
	"github.com/nationtech/fleet/plugin/screen"
)

// deployments is what the device was told and what it says of it.
func (p *page) deployments() {
	if p.missing(partDeployments) {
		p.section(string(partDeployments), p.Paint(screen.Bad, "could not be read, see below"))
		if n := p.Status.Deployments; n != nil {
			p.facts("  ", is("Told", fmt.Sprintf("%s: %s running, %s pending, %s failed, as the operator wrote last",
				screen.Plural(n.Total, "Deployment"), screen.Count(n.Running), screen.Count(n.Pending), screen.Count(n.Failed))))
		}
		return
	}
	detail := ""
	if len(p.placements) > 0 && !p.placements[0].Status.Online {
		detail = p.Paint(screen.Dim, "as the device said last, for its heartbeats do not come")
	}
	p.section(string(partDeployments), detail)
	if len(p.placements) == 0 {
		p.none("It was told nothing.")
		return
	}
	var rows [][]screen.Cell
	for _, l := range p.placements {
		rows = append(rows, []screen.Cell{
			p.marked(tone(l), l.Spec.Deployment), {Text: screen.Safe(l.Status.Phase)}, {Text: screen.OrNone(l.Status.Reason)},
			{Text: screen.OrNone(placements.ShortRevision(l, l.Spec.Revision))}, {Text: screen.OrNone(placements.ShortRevision(l, l.Status.Revision))},
			{Text: screen.Count(l.Status.Restarts)}, {Text: placements.Since(l.Status.SinceTime, p.now)}, {Text: placements.Since(l.Spec.ToldTime, p.now)},
		})
	}
	from := len(p.lines) + 1
	p.table("NAME PHASE REASON TOLD REPORTED RESTARTS SINCE TOLD-SINCE", rows)
	p.messages(from)
}

// messages puts what the device says under the rows that begin at a line.
func (p *page) messages(from int) {
	rows := p.lines[from:]
	p.lines = p.lines[:from:from]
	for i, row := range rows {
		p.lines = append(p.lines, row)
		if message := screen.Safe(p.placements[i].Status.Message); message != "" {
			p.lines = append(p.lines, "      "+p.Paint(tone(p.placements[i]), message))
		}
	}
}

func tone(l *live.Placement) screen.Tone {
	if t := placements.Tone(l); t != screen.Plain {
		return t
	}
	return screen.Good
}

// happened are the last events.
func (p *page) happened() {
	if p.missing(partEvents) {
		p.section(string(partEvents), p.Paint(screen.Bad, "could not be read, see below"))
		return
	}
	detail := ""
	if p.older > 0 {
		detail = p.Paint(screen.Dim, fmt.Sprintf("the last %d, after %s", len(p.events), screen.Plural(p.older, "other")))
	}
	p.section(string(partEvents), detail)
	if len(p.events) == 0 {
		p.none("None.")
		return
	}
	var rows [][]screen.Cell
	for _, e := range p.events {
		tone := screen.Good
		if e.Type != corev1.EventTypeNormal {
			tone = screen.Warn
		}
		rows = append(rows, []screen.Cell{
			p.marked(tone, screen.Safe(e.Type)), {Text: screen.Safe(e.Reason)}, {Text: p.age(e)},
			{Text: screen.Safe(cmp.Or(e.Source.Component, e.ReportingController))}, {Text: screen.Safe(e.Message)},
		})
	}
	p.table("TYPE REASON AGE FROM MESSAGE", rows)
}

// age is when an event happened last, and how often it has.
func (p *page) age(e *corev1.Event) string {
	count := e.Count
	if e.Series != nil {
		count = e.Series.Count
	}
	age := screen.Age(p.now, eventTime(e))
	if count > 1 {
		age += fmt.Sprintf(" (x%s)", screen.Count(count))
	}
	return age
}
