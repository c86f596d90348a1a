package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/flux"
	"github.com/nationtech/fleet/plugin/rollout"
	"github.com/nationtech/fleet/plugin/screen"
)

// collapseAbove is how many rows in the same good state are shown one by one.
const collapseAbove = 5

// Detail is how much of a report is drawn.
type Detail struct {
	// All shows rows in the same good state one by one, however many there are.
	All bool
	// Wide shows columns that there is no room for on most terminals.
	Wide bool
}

// Render draws the screen. What is wrong stands near its end, where a terminal
// leaves the eye.
func Render(s screen.Style, r Report, d Detail) string {
	return draw(s, r, d, (*page).way, (*page).problems)
}

// RenderWithin draws the screen for a place of so many lines, the rest of which is
// cut off. What is wrong comes first when it would be cut off otherwise.
func RenderWithin(s screen.Style, r Report, d Detail, lines int) string {
	usual := Render(s, r, d)
	if r.Healthy || strings.Count(usual, "\n") <= lines {
		return usual
	}
	return draw(s, r, d, (*page).problems, (*page).way)
}

func draw(s screen.Style, r Report, d Detail, parts ...func(*page)) string {
	p := &page{Style: s, report: r, Detail: d, scope: cli.Scope{Namespace: r.Namespace, Selector: r.Selector}}
	for _, part := range parts {
		part(p)
	}
	p.notices()
	for _, note := range r.Footnotes {
		p.wrap("# ", "  ", screen.Dim, note)
	}
	return strings.Join(p.lines, "\n") + "\n"
}

// way is the way from Git to the devices.
func (p *page) way() {
	p.sources()
	p.deployments()
	p.devices()
}

// page is a screen that is being drawn.
type page struct {
	screen.Style
	Detail
	report Report
	scope  cli.Scope
	lines  []string
}

func (p *page) line(text string) { p.lines = append(p.lines, p.Fit(text, p.Width)) }

// section begins a part of the screen, with a free line before it.
func (p *page) section(title, detail string) {
	if len(p.lines) > 0 {
		p.line("")
	}
	title = p.Paint(screen.Bold, title)
	if detail != "" {
		title += "  " + detail
	}
	p.line(title)
}

// wrap writes text behind a lead, further lines behind an indent of its width.
func (p *page) wrap(lead, indent string, tone screen.Tone, text string) {
	width := 0
	if p.Width > 0 {
		width = p.Width - screen.Width(lead)
	}
	for i, line := range p.Style.Wrap(screen.Safe(text), width) {
		if i > 0 {
			lead = indent
		}
		p.line(lead + p.Paint(tone, line))
	}
}

func (p *page) ago(t *metav1.Time) string {
	if t == nil {
		return ""
	}
	return screen.Ago(p.report.Time.Time, t.Time)
}

func (p *page) since(t *metav1.Time) string {
	if t == nil {
		return ""
	}
	return " for " + screen.Age(p.report.Time.Time, t.Time)
}

func (p *page) sources() {
	if len(p.report.Sources) == 0 {
		return
	}
	p.section("From Git", "")
	for _, s := range p.report.Sources {
		detail := []string{s.Ref}
		if s.Commit != "" {
			detail = append(detail, p.Paint(screen.Bold, rollout.ShortCommit(s.Commit)))
		}
		if s.FetchedAt != nil {
			detail = append(detail, p.Paint(screen.Dim, "fetched "+p.ago(s.FetchedAt)))
		}
		name := s.Namespace + "/" + s.Name
		if s.Kind != "GitRepository" {
			name = s.Kind + " " + name
		}
		p.fluxLine("", name, s.Suspended, s.Condition, detail)
		p.kustomizations(s)
	}
}

// kustomizations shows what is not well, and what is well as one line when it is
// much.
func (p *page) kustomizations(s Source) {
	var well []Kustomization
	for _, k := range s.Kustomizations {
		if k.Condition.Status == metav1.ConditionTrue && !k.Suspended && !k.Behind {
			well = append(well, k)
		}
	}
	collapse := !p.All && len(well) > collapseAbove
	for _, k := range s.Kustomizations {
		isWell := k.Condition.Status == metav1.ConditionTrue && !k.Suspended && !k.Behind
		if collapse && isWell {
			continue
		}
		var detail []string
		switch {
		case k.Applied == "":
			detail = append(detail, "nothing applied yet")
		case k.Behind:
			detail = append(detail, "applied "+p.Paint(screen.Warn, shown(k.Commit, k.Applied)+" (behind)"), p.Paint(screen.Dim, p.ago(k.AppliedAt)))
		default:
			detail = append(detail, "applied "+p.Paint(screen.Bold, shown(k.Commit, k.Applied)), p.Paint(screen.Dim, p.ago(k.AppliedAt)))
		}
		p.fluxLine("  ", k.Namespace+"/"+k.Name, k.Suspended, k.Condition, detail)
	}
	if collapse {
		p.line(fmt.Sprintf("  %s %s applied %s", p.Mark(screen.Good), screen.Plural(len(well), "Kustomization"), p.Paint(screen.Bold, shown(s.Commit, s.Revision))))
	}
}

func shown(commit, revision string) string {
	return cmp.Or(rollout.ShortCommit(commit), revision)
}

func (p *page) fluxLine(indent, name string, suspended bool, c flux.Condition, detail []string) {
	tone := screen.Busy
	var state string
	switch {
	case suspended:
		tone, state = screen.Warn, "suspended"
	case c.Status == metav1.ConditionTrue:
		tone = screen.Good
	case c.Status == metav1.ConditionFalse:
		tone, state = screen.Bad, c.Reason
	default:
		state = "in progress"
	}
	parts := append([]string{indent + p.Mark(tone) + " " + name}, detail...)
	if state != "" {
		parts = append(parts, p.Paint(tone, screen.Safe(state)))
	}
	kept := parts[:0]
	for _, part := range parts {
		if part != "" {
			kept = append(kept, part)
		}
	}
	p.line(strings.Join(kept, "  "))
}

func (p *page) deployments() {
	if p.unread("Deployments") {
		return
	}
	if len(p.report.Deployments) == 0 {
		p.section("Deployments", "")
		p.line(p.Paint(screen.Dim, "none in "+p.scope.String()))
		return
	}
	var complete, total int32
	var done []Deployment
	for _, d := range p.report.Deployments {
		total++
		if p.unremarkable(d) {
			done = append(done, d)
		}
		if d.State == rollout.Complete {
			complete++
		}
	}
	collapse := !p.All && len(done) > collapseAbove
	p.section("Deployments", p.Paint(screen.Dim, fmt.Sprintf("%s complete", screen.Ratio(complete, total))))
	var shown []Deployment
	for _, d := range p.report.Deployments {
		if !collapse || !p.unremarkable(d) {
			shown = append(shown, d)
		}
	}
	p.table(shown)
	if collapse {
		var devices int64
		for _, d := range done {
			devices += int64(d.Devices.Matched)
		}
		more := screen.Plural(len(done), "Deployment")
		if len(shown) > 0 {
			more += " more"
		}
		p.line(fmt.Sprintf("%s %s complete on every device (%s)", p.Mark(screen.Good), more, screen.Count(devices)))
	}
}

// unremarkable reports whether there is nothing to say of a Deployment.
func (p *page) unremarkable(d Deployment) bool {
	return d.State == rollout.Complete && d.Devices.Failed == 0 && d.Devices.Offline == 0 && !d.Behind
}

// table lays the Deployments out in as many columns as the width has room for:
// first the revision goes, then the commit, then the bar.
func (p *page) table(list []Deployment) {
	if len(list) == 0 {
		return
	}
	const bar = 16
	layouts := []layout{{bar, true, true}, {bar, true, false}, {bar, false, false}, {0, false, false}}
	if p.Wide {
		layouts = layouts[:1]
	}
	for _, layout := range layouts {
		lines := p.Grid("", p.rows(list, layout))
		if p.Wide || p.Width == 0 || layout.bar == 0 || fits(lines, p.Width) {
			p.lines = append(p.lines, lines...)
			return
		}
	}
}

type layout struct {
	bar              int
	commit, revision bool
}

// fits reports whether a grid was not cut.
func fits(lines []string, width int) bool {
	for _, line := range lines {
		if screen.Width(line) >= width {
			return false
		}
	}
	return true
}

func (p *page) rows(list []Deployment, l layout) [][]screen.Cell {
	head := func(text string, right bool) screen.Cell {
		return screen.Cell{Text: text, Tone: screen.Dim, Right: right}
	}
	header := []screen.Cell{head("  NAME", false)}
	if l.bar > 0 {
		header = append(header, head("PROGRESS", false))
	}
	header = append(header, head("DEVICES", true), head("FAILED", true), head("PENDING", true), head("OFFLINE", true))
	if l.revision {
		header = append(header, head("REVISION", false))
	}
	if l.commit {
		header = append(header, head("COMMIT", false))
	}
	waves := p.Wide || slices.ContainsFunc(list, inWaves)
	if waves {
		header = append(header, head("WAVE", false))
	}
	if p.Wide {
		header = append(header, head("KUSTOMIZATION", false))
	}
	header = append(header, head("STATE", false))
	if p.Wide {
		header = append(header, head("MESSAGE", false))
	}
	rows := [][]screen.Cell{header}
	for _, d := range list {
		row := []screen.Cell{{Text: p.Mark(d.State.Tone()) + " " + p.scope.Key(d.Namespace, d.Name), Raw: true}}
		if l.bar > 0 {
			row = append(row, screen.Cell{Text: p.Bar(l.bar, d.Devices.Matched, rollout.Segments(d.Devices)...), Raw: true})
		}
		row = append(row,
			screen.Cell{Text: screen.Ratio(d.Devices.Succeeded, d.Devices.Matched), Right: true},
			count(d.Devices.Failed, screen.Bad), count(d.Devices.Pending, screen.Busy), count(d.Devices.Offline, screen.Plain),
		)
		if l.revision {
			row = append(row, screen.Cell{Text: d.ShortRevision(d.UpdateRevision)})
		}
		if l.commit {
			row = append(row, commitCell(d))
		}
		if waves {
			row = append(row, p.waveCell(d))
		}
		if p.Wide {
			row = append(row, kustomizationCell(d))
		}
		row = append(row, p.stateCell(d))
		if p.Wide {
			row = append(row, screen.Cell{Text: screen.Safe(d.Message)})
		}
		rows = append(rows, row)
	}
	return rows
}

// inWaves reports whether it matters which wave a rollout is in.
func inWaves(d Deployment) bool {
	return d.Wave != nil && d.Wave.Of > 1 && d.State != rollout.Complete
}

func (p *page) waveCell(d Deployment) screen.Cell {
	if d.Wave == nil || !p.Wide && !inWaves(d) {
		return screen.Cell{Text: "-", Tone: screen.Dim}
	}
	return screen.Cell{Text: fmt.Sprintf("%s (%d of %d)", screen.Safe(d.Wave.Name), d.Wave.Index, d.Wave.Of)}
}

func kustomizationCell(d Deployment) screen.Cell {
	if d.Source == nil || d.Source.Kustomization == "" {
		return screen.Cell{Text: "-", Tone: screen.Dim}
	}
	return screen.Cell{Text: screen.Safe(d.Source.Kustomization)}
}

func count(n int32, tone screen.Tone) screen.Cell {
	if n == 0 {
		tone = screen.Dim
	}
	return screen.Cell{Text: screen.Count(n), Tone: tone, Right: true}
}

func commitCell(d Deployment) screen.Cell {
	switch {
	case d.Source == nil || d.Source.Commit == "":
		return screen.Cell{Text: "-", Tone: screen.Dim}
	case d.Behind:
		return screen.Cell{Text: rollout.ShortCommit(d.Source.Commit) + " (behind)", Tone: screen.Warn}
	}
	return screen.Cell{Text: rollout.ShortCommit(d.Source.Commit)}
}

func (p *page) stateCell(d Deployment) screen.Cell {
	text := d.State.Word()
	switch left := d.SoakLeft(p.report.Time.Time); {
	case left != "":
		text += ", " + left + " left"
	case d.State != rollout.Complete:
		text += p.since(d.Since)
	}
	return screen.Cell{Text: text, Tone: d.State.Tone()}
}

func (p *page) devices() {
	if p.unread("Devices") {
		return
	}
	d := p.report.Devices
	if d.Total == 0 {
		p.section("Devices", "")
		p.line(p.Paint(screen.Dim, "none in "+p.scope.String()))
		return
	}
	p.section("Devices", p.Paint(screen.Dim, screen.Count(d.Total)))
	var parts []string
	for _, part := range []struct {
		n    int
		tone screen.Tone
		word string
	}{
		{d.Ready, screen.Good, "ready"},
		{d.NotReady, screen.Bad, "not ready"},
		{d.Duplicate, screen.Bad, "refused"},
		{d.NeverSeen, screen.Dim, "never seen"},
		{d.Pending, screen.Warn, "pending approval"},
		{d.ShutOut, screen.Dim, "shut out"},
		{d.Cordoned, screen.Plain, "cordoned"},
	} {
		if part.n > 0 || part.word == "ready" {
			parts = append(parts, p.Mark(part.tone)+" "+p.Paint(part.tone, screen.Count(part.n)+" "+part.word))
		}
	}
	p.line(strings.Join(parts, "   "))
}

func (p *page) unread(what string) bool {
	for _, problem := range p.report.Problems {
		if problem.Kind == KindRead && problem.Name == what {
			p.section(what, p.Paint(screen.Bad, "could not be read, see below"))
			return true
		}
	}
	return false
}
