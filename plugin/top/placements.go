package top

import (
	"cmp"
	"strings"
	"time"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/plugin/placements"
	"github.com/nationtech/fleet/plugin/screen"
)

// Ranks of a placement, worst first.
const (
	rankFailed = iota
	// rankOffline: nobody knows how it is now.
	rankOffline
	// rankMoving: it is not there yet.
	rankMoving
	rankRunning
)

func placementRank(p *live.Placement) int {
	switch state := placements.Of(p); {
	case state == placements.Failed:
		return rankFailed
	case !p.Status.Online:
		return rankOffline
	case state == placements.Running:
		return rankRunning
	}
	return rankMoving
}

// worstPlacement has first what became so last: that is the news. What runs keeps its
// place.
func worstPlacement(a, b *live.Placement) int {
	if c := cmp.Compare(placementRank(a), placementRank(b)); c != 0 || placementRank(a) == rankRunning {
		return c
	}
	return since(b).Compare(since(a))
}

func since(p *live.Placement) time.Time {
	if t := p.Status.SinceTime; t != nil {
		return t.Time
	}
	return time.Time{}
}

func placementKind(scopeKey func(namespace, name string) string) kind[live.Placement] {
	type p = live.Placement
	return kind[p]{
		noun:    "placement",
		heading: "Placements",
		key:     func(p *p) key { return keyOf(p) },
		group:   func(p *p) string { return p.Status.Phase },
		problem: func(p *p) bool { return placementRank(p) <= rankOffline },
		orders: []order[p]{
			{"worst", worstPlacement},
			{"name", func(_, _ *p) int { return 0 }},
			{"phase", func(a, b *p) int { return cmp.Compare(a.Status.Phase, b.Status.Phase) }},
			{"restarts", func(a, b *p) int { return cmp.Compare(b.Status.Restarts, a.Status.Restarts) }},
			{"since", func(a, b *p) int { return since(b).Compare(since(a)) }},
		},
		columns: []column[p]{
			{name: "NAME", width: 21, grow: 29, cell: func(p *p, _ time.Time) (string, screen.Tone) {
				return screen.Safe(scopeKey(p.Namespace, p.Name)), screen.Plain
			}},
			{name: "TOLD", width: 10, spare: 4, cell: func(p *p, _ time.Time) (string, screen.Tone) {
				tone := screen.Plain
				if p.Spec.Revision != p.Status.Revision {
					tone = screen.Busy
				}
				return screen.OrNone(placements.ShortRevision(p, p.Spec.Revision)), tone
			}},
			{name: "REPORTED", width: 10, spare: 6, cell: func(p *p, _ time.Time) (string, screen.Tone) {
				return screen.OrNone(placements.ShortRevision(p, p.Status.Revision)), screen.Plain
			}},
			{name: "PHASE", width: 10, spare: 1, cell: func(p *p, _ time.Time) (string, screen.Tone) {
				return screen.Safe(p.Status.Phase), placements.Tone(p)
			}},
			{name: "REASON", width: 15, grow: 10, spare: 2, cell: func(p *p, _ time.Time) (string, screen.Tone) {
				if p.Status.Reason == "" && !p.Status.Online {
					return "not online", screen.Dim
				}
				return screen.Safe(p.Status.Reason), screen.Plain
			}},
			{name: "RESTARTS", width: 8, spare: 5, right: true, cell: func(p *p, _ time.Time) (string, screen.Tone) {
				if p.Status.Restarts == 0 {
					return "0", screen.Dim
				}
				return screen.Count(p.Status.Restarts), screen.Plain
			}},
			{name: "SINCE", width: 6, spare: 3, cell: func(p *p, now time.Time) (string, screen.Tone) {
				return placements.Since(p.Status.SinceTime, now), screen.Plain
			}},
		},
		text: func(p *p) string {
			return strings.ToLower(strings.Join([]string{
				p.Namespace + "/" + p.Name, p.Status.Phase, p.Status.Reason, p.Spec.Revision, p.Status.Revision, p.Spec.Wave}, "\n"))
		},
		detail: placementDetail,
	}
}

func placementDetail(p *live.Placement, now time.Time) []field {
	told := field{"Told", p.Spec.Revision, screen.Plain}
	if p.Spec.Revision == "" {
		told.value = "to remove it, or nothing yet"
	}
	return []field{
		{"Placement", p.Namespace + "/" + p.Name, screen.Bold},
		{"Device", p.Spec.Device, screen.Plain},
		{"Deployment", p.Spec.Deployment, screen.Plain},
		{"Labels", labelsText(p.Labels), screen.Plain},
		{"Ready", screen.Truth(p.Status.Ready), screen.Plain},
		{"Online", screen.Truth(p.Status.Online), screen.Plain},
		{"Phase", p.Status.Phase, placements.Tone(p)},
		{"Since", moment(now, p.Status.SinceTime), screen.Plain},
		{"Reason", p.Status.Reason, screen.Plain},
		{"Message", p.Status.Message, screen.Plain},
		told,
		{"  at", moment(now, p.Spec.ToldTime), screen.Plain},
		{"  wave", p.Spec.Wave, screen.Plain},
		{"Reported", p.Status.Revision, screen.Plain},
		{"Restarts", screen.Count(p.Status.Restarts), screen.Plain},
		{"Drifts", screen.Count(p.Status.Drifts), screen.Plain},
	}
}
