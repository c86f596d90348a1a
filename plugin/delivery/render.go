package delivery

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nationtech/fleet/plugin/rollout"
	"github.com/nationtech/fleet/plugin/screen"
)

// renderTrace draws a block for each origin.
func renderTrace(out io.Writer, s screen.Style, t Trace, now time.Time) error {
	var b strings.Builder
	for i, o := range t.Origins {
		if i > 0 {
			b.WriteString("\n")
		}
		title := t.Namespace + "/" + o.Deployment
		if t.Name != o.Deployment {
			title += " on " + t.Name
		}
		b.WriteString(s.Paint(screen.Bold, screen.Safe(title)) + "\n\n")
		b.WriteString(strings.Join(s.Grid("  ", facts(o)), "\n") + "\n")
		if len(o.Steps) > 0 {
			b.WriteString("\n" + strings.Join(s.Grid("  ", steps(o.Steps, now)), "\n") + "\n")
		}
	}
	if len(t.Origins) == 0 {
		fmt.Fprintf(&b, "%s %s/%s runs nothing yet.\n", t.Kind, t.Namespace, t.Name)
	}
	if _, err := io.WriteString(out, b.String()); err != nil {
		return err
	}
	for i, note := range t.Notes {
		if i == 0 {
			fmt.Fprintln(out)
		}
		s.Note(out, screen.Dim, note)
	}
	return nil
}

// facts are a grid of what is known of an origin.
func facts(o Origin) [][]screen.Cell {
	var rows [][]screen.Cell
	fact := func(name, value string) {
		if value = screen.Safe(value); value != "" {
			rows = append(rows, []screen.Cell{{Text: name, Tone: screen.Dim}, {Text: value}})
		}
	}
	revision := o.Revision
	if o.Number > 0 {
		revision += fmt.Sprintf(" (%d)", o.Number)
	}
	if o.Is != "" {
		revision += "  " + o.Is
	}
	fact("Revision", revision)
	fact("Commit", strings.TrimSpace(rollout.ShortCommit(o.Commit.Hash)+"  "+o.Commit.Subject))
	if o.Commit.Author != "" {
		fact("Author", fmt.Sprintf("%s <%s>", o.Commit.Author, o.Commit.Email))
	}
	fact("Overlay", o.Path)
	fact("Kustomization", o.Kustomization)
	fact("Source", strings.TrimSpace(o.Source+"  "+o.Ref+"  "+o.URL))
	return rows
}

// steps are a grid of when each happened, and how long after the first.
func steps(all []Step, now time.Time) [][]screen.Cell {
	var rows [][]screen.Cell
	for _, step := range all {
		after := ""
		if d := step.Time.Sub(all[0].Time.Time); d > 0 {
			after = "+" + screen.Age(step.Time.Time, all[0].Time.Time)
		}
		rows = append(rows, []screen.Cell{
			{Text: step.Time.UTC().Format(time.RFC3339), Tone: screen.Dim}, {Text: after, Right: true}, {Text: screen.Safe(step.What)}, {Text: screen.Ago(now, step.Time.Time), Tone: screen.Dim},
		})
	}
	return rows
}
