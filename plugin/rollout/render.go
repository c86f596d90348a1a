package rollout

import (
	"fmt"
	"strings"
	"time"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/screen"
)

// Tone is how a state is shown.
func (s State) Tone() screen.Tone {
	switch s {
	case Complete:
		return screen.Good
	case Stalled:
		return screen.Bad
	case Paused, Suspended, NoDevices:
		return screen.Warn
	}
	return screen.Busy
}

// Word is the state as it stands in a sentence.
func (s State) Word() string {
	switch s {
	case NoDevices:
		return "no devices"
	case Waiting:
		return "waiting for the operator"
	}
	return strings.ToLower(string(s))
}

// Segments are the parts of a rollout's bar.
func Segments(a v1alpha1.Aggregate) []screen.Segment {
	return []screen.Segment{
		{Count: a.Succeeded, Tone: screen.Good},
		{Count: a.Failed, Tone: screen.Bad},
		{Count: a.Pending, Tone: screen.Busy},
		{Count: a.Offline, Tone: screen.Dim},
	}
}

// ShortRevision is a revision without the Deployment's name before it.
func (r Rollout) ShortRevision(revision string) string {
	return strings.TrimPrefix(revision, r.Name+"-")
}

// ShortCommit is a commit as people read it to each other.
func ShortCommit(commit string) string {
	if len(commit) > 7 {
		return commit[:7]
	}
	return commit
}

// Render draws the whole screen of one rollout.
func Render(s screen.Style, r Rollout, now time.Time) string {
	return render(s, r, now, facts(s, r))
}

// RenderWide is Render with names in full, and when what was.
func RenderWide(s screen.Style, r Rollout, now time.Time) string {
	return render(s, r, now, allFacts(s, r, now))
}

func render(s screen.Style, r Rollout, now time.Time, facts []string) string {
	var lines []string
	add := func(format string, args ...any) {
		lines = append(lines, s.Fit(fmt.Sprintf(format, args...), s.Width))
	}
	title := fmt.Sprintf("%s %s", s.Mark(r.State.Tone()), s.Paint(screen.Bold, r.Namespace+"/"+r.Name))
	state := s.Paint(r.State.Tone(), r.State.Word())
	if r.Since != nil {
		state += s.Paint(screen.Dim, " for "+screen.Age(now, r.Since.Time))
	}
	add("%s  %s", title, state)
	add("")
	add("  %s  %s", s.Bar(barWidth(s), r.Devices.Matched, Segments(r.Devices)...), progress(r.Devices))
	add("  %s", legend(s, r.Devices))
	add("")
	lines = append(lines, facts...)
	if why := r.Why(); why != "" {
		add("")
		for i, line := range s.Wrap(screen.Safe(why), max(0, s.Width-4)) {
			lead := "  "
			if i == 0 {
				lead = s.Mark(r.State.Tone()) + " "
			}
			lines = append(lines, lead+s.Paint(r.State.Tone(), line))
		}
	}
	if len(r.Failures) > 0 {
		add("")
		lines = append(lines, FailureRows(s, "  ", r.Failures, r.Devices.Failed)...)
	}
	return strings.Join(lines, "\n") + "\n"
}

func barWidth(s screen.Style) int {
	if s.Width == 0 {
		return 40
	}
	return min(60, max(10, s.Width-30))
}

func progress(a v1alpha1.Aggregate) string {
	percent := 0
	if a.Matched > 0 {
		percent = int(int64(a.Succeeded) * 100 / int64(a.Matched))
	}
	return fmt.Sprintf("%s/%s  %d%%", screen.Count(a.Succeeded), screen.Count(a.Matched), percent)
}

// legend names every part of the bar, so that it needs no colours.
func legend(s screen.Style, a v1alpha1.Aggregate) string {
	part := func(tone screen.Tone, n int32, word string) string {
		text := screen.Count(n) + " " + word
		if n == 0 {
			return s.Paint(screen.Dim, text)
		}
		return s.Bar(1, 1, screen.Segment{Count: 1, Tone: tone}) + " " + s.Paint(tone, text)
	}
	return strings.Join([]string{
		part(screen.Good, a.Succeeded, "succeeded"),
		part(screen.Bad, a.Failed, "failed"),
		part(screen.Busy, a.Pending, "pending"),
		part(screen.Dim, a.Offline, "offline"),
	}, "  ")
}

func facts(s screen.Style, r Rollout) []string {
	var rows [][]screen.Cell
	fact := func(name, value string) {
		rows = append(rows, []screen.Cell{{Text: name, Tone: screen.Dim}, {Text: value}})
	}
	revision := r.ShortRevision(r.UpdateRevision)
	switch {
	case revision == "":
		revision = "none yet"
	case r.CurrentRevision != "" && r.CurrentRevision != r.UpdateRevision:
		revision += "  (from " + r.ShortRevision(r.CurrentRevision) + ")"
	}
	fact("Revision", revision)
	if r.Source != nil && r.Source.Commit != "" {
		commit := ShortCommit(r.Source.Commit)
		if r.Source.Kustomization != "" {
			commit += "  by Kustomization " + r.Source.Kustomization
		}
		fact("Commit", screen.Safe(commit))
	}
	if r.Wave != nil && r.Wave.Of > 1 {
		fact("Wave", fmt.Sprintf("%s  (%d of %d)", r.Wave.Name, r.Wave.Index, r.Wave.Of))
	}
	fact("Told", screen.Count(r.Devices.Updated)+" of "+screen.Plural(r.Devices.Matched, "device"))
	return s.Grid("  ", rows)
}

func allFacts(s screen.Style, r Rollout, now time.Time) []string {
	var rows [][]screen.Cell
	fact := func(name, value string) {
		rows = append(rows, []screen.Cell{{Text: name, Tone: screen.Dim}, {Text: screen.Safe(value)}})
	}
	fact("Revision", orUnknown(r.UpdateRevision))
	fact("From", orUnknown(r.CurrentRevision))
	if r.Source != nil {
		fact("Commit", orUnknown(r.Source.Commit))
		fact("Source", orUnknown(r.Source.Revision))
		fact("By", "Kustomization "+orUnknown(r.Source.Kustomization))
	}
	generation := fmt.Sprintf("%d, answered %d", r.Generation, r.ObservedGeneration)
	if r.ChangedAt != nil {
		generation += ", written " + screen.Ago(now, r.ChangedAt.Time)
	}
	fact("Generation", generation)
	if r.Wave != nil {
		fact("Wave", fmt.Sprintf("%s (%d of %d), %s for %s", r.Wave.Name, r.Wave.Index, r.Wave.Of, r.Wave.Phase, screen.Age(now, r.Wave.Since.Time)))
	}
	fact("Told", screen.Count(r.Devices.Updated)+" of "+screen.Plural(r.Devices.Matched, "device"))
	return s.Grid("  ", rows)
}

// Why says why a rollout does not go on, or what it waits for; "" when it is
// complete.
func (r Rollout) Why() string {
	switch r.State {
	case Complete:
		if r.Devices.Offline > 0 {
			return fmt.Sprintf("%s offline: they get the revision when they return.", screen.Plural(r.Devices.Offline, "device"))
		}
		return ""
	case Waiting:
		return r.Message + " Is fleet-operator running? kubectl fleet version shows it."
	case Suspended:
		return "spec.suspend is true: the operator does nothing for this Deployment until it is false."
	case Paused:
		return "spec.paused is true: nobody is told anything new until it is false."
	}
	if r.Reason == "" {
		return r.Message
	}
	return r.Reason + ": " + r.Message
}

// FailureRows lists failing devices; failed is how many there are in all.
func FailureRows(s screen.Style, indent string, failures []v1alpha1.Failure, failed int32) []string {
	rows := make([][]screen.Cell, 0, len(failures))
	for _, f := range failures {
		rows = append(rows, []screen.Cell{
			{Text: screen.Safe(f.Device), Tone: screen.Bold},
			{Text: screen.Safe(f.Reason), Tone: screen.Bad},
			{Text: screen.Safe(f.Message)},
		})
	}
	lines := s.Grid(indent, rows)
	if more := failed - int32(len(failures)); more > 0 {
		lines = append(lines, indent+s.Paint(screen.Dim, s.Ellipsis()+" and "+screen.Count(more)+" more"))
	}
	return lines
}

// Line is one line of progress for a log, in the words of `kubectl rollout
// status`.
func Line(r Rollout) string {
	a := r.Devices
	counts := fmt.Sprintf("%d of %d devices run revision %s", a.Succeeded, a.Matched, orUnknown(r.ShortRevision(r.UpdateRevision)))
	var rest []string
	for _, part := range []struct {
		n    int32
		word string
	}{{a.Failed, "failed"}, {a.Pending, "pending"}, {a.Offline, "offline"}} {
		if part.n > 0 {
			rest = append(rest, fmt.Sprintf("%d %s", part.n, part.word))
		}
	}
	if len(rest) > 0 {
		counts += " (" + strings.Join(rest, ", ") + ")"
	}
	name := fmt.Sprintf("deployment %q", r.Name)
	switch r.State {
	case Complete:
		return fmt.Sprintf("%s successfully rolled out: %s", name, counts)
	case Stalled:
		return fmt.Sprintf("%s stalled: %s: %s", name, counts, screen.Safe(r.Why()))
	case Progressing:
		return fmt.Sprintf("Waiting for %s rollout to finish: %s...", name, counts)
	}
	return fmt.Sprintf("Waiting for %s rollout to finish: %s", name, screen.Safe(r.Why()))
}

func orUnknown(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}
