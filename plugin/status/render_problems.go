package status

import (
	"strings"

	"github.com/nationtech/fleet/plugin/rollout"
	"github.com/nationtech/fleet/plugin/screen"
)

// problems is the section that is read first at three in the morning.
func (p *page) problems() {
	r := p.report
	if r.Healthy {
		p.line("")
		switch {
		case r.Devices.Total == 0 && len(r.Deployments) == 0:
			p.line(p.Paint(screen.Dim, "There is no fleet in "+p.scope.String()+"."+p.elsewhere()))
		default:
			p.line(p.Mark(screen.Good) + " " + p.Paint(screen.Good, "Everything is well."))
		}
		return
	}
	p.section("What is wrong", "")
	for _, problem := range r.Problems {
		p.problem(screen.Bad, problem)
	}
}

func (p *page) elsewhere() string {
	if p.scope.All() {
		return ""
	}
	return " -A looks at all namespaces."
}

func (p *page) notices() {
	if len(p.report.Notices) == 0 {
		return
	}
	p.section("Worth knowing", "")
	for _, notice := range p.report.Notices {
		p.problem(screen.Warn, notice)
	}
}

func (p *page) problem(tone screen.Tone, problem Problem) {
	title, text := p.title(problem), problem.Message
	if title == "" {
		p.wrap(p.Mark(tone)+" ", "  ", screen.Plain, text)
	} else {
		p.line(p.Mark(tone) + " " + p.Paint(screen.Bold, title) + "  " + p.Paint(tone, screen.Safe(problem.Reason)) + p.Paint(screen.Dim, p.since(problem.Since)))
		if text != "" {
			p.wrap("  ", "  ", screen.Plain, text)
		}
	}
	p.lines = append(p.lines, rollout.FailureRows(p.Style, "    ", problem.Failures, problem.Failed)...)
	if problem.Kind == KindDevices && problem.Reason == "NotReady" {
		p.gone()
	}
	if problem.Hint != "" {
		for _, hint := range strings.Split(problem.Hint, "\n") {
			p.wrap("  "+p.Mark(screen.Bold)+" ", "    ", screen.Dim, hint)
		}
	}
}

func (p *page) title(problem Problem) string {
	switch problem.Kind {
	case KindDevices:
		return ""
	case KindRead:
		return problem.Name + " could not be read"
	}
	// Flux objects live in a namespace of their own.
	name := problem.Namespace + "/" + problem.Name
	if problem.Kind == "Deployment" {
		name = p.scope.Key(problem.Namespace, problem.Name)
	}
	return problem.Kind + " " + name
}

// gone lists the devices that went last.
func (p *page) gone() {
	d := p.report.Devices
	var rows [][]screen.Cell
	for _, g := range d.Gone {
		seen := "never heard of"
		if g.LastHeartbeat != nil {
			seen = "last heartbeat " + p.ago(g.LastHeartbeat)
		}
		rows = append(rows, []screen.Cell{
			{Text: p.scope.Key(g.Namespace, g.Name), Tone: screen.Bold},
			{Text: seen},
			{Text: screen.Safe(g.Reason), Tone: screen.Dim},
		})
	}
	p.lines = append(p.lines, p.Grid("    ", rows)...)
	if more := d.NotReady - d.Mismatched - len(d.Gone); more > 0 {
		p.line("    " + p.Paint(screen.Dim, p.Ellipsis()+" and "+screen.Count(more)+" more, gone longer"))
	}
}
