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
	case Stalled, Halted, RollingBack, RolledBack:
		return screen.Bad
	case Paused, Suspended, NoDevices, AwaitingApproval:
		return screen.Warn
	case pending:
		return screen.Plain
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
	case AwaitingApproval:
		return "awaiting approval"
	case RollingBack:
		return "rolling back"
	case RolledBack:
		return "rolled back"
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

// Detail is how much of a rollout is drawn.
type Detail struct {
	// Wide has names in full, and when what was.
	Wide bool
	// All shows every wave, also where several are in the same state.
	All bool
}

// room is how much of what can be cut is drawn.
type room struct {
	failures, log int
	facts         bool
}

// rooms are the steps in which a screen gets shorter. The log of a device is the
// first to go: the reason says most of it.
var rooms = []room{{10, 8, true}, {10, 5, true}, {5, 3, true}, {3, 0, true}, {3, 0, false}, {1, 0, false}}

// Render draws the whole screen of one rollout.
func Render(s screen.Style, r Rollout, now time.Time, d Detail) string {
	return render(s, r, now, d, rooms[0])
}

// RenderWithin draws the screen for a place of so many lines, as long as it may be.
func RenderWithin(s screen.Style, r Rollout, now time.Time, d Detail, lines int) string {
	text := ""
	for _, room := range rooms {
		if text = render(s, r, now, d, room); strings.Count(text, "\n") <= lines {
			break
		}
	}
	return text
}

func render(s screen.Style, r Rollout, now time.Time, d Detail, room room) string {
	var lines []string
	add := func(format string, args ...any) {
		lines = append(lines, s.Fit(fmt.Sprintf(format, args...), s.Width))
	}
	title := fmt.Sprintf("%s %s", s.Mark(r.State.Tone()), s.Paint(screen.Bold, r.Namespace+"/"+r.Name))
	state := s.Paint(r.State.Tone(), r.State.Word())
	if r.Since != nil {
		state += s.Paint(screen.Dim, " for "+screen.Age(now, r.Since.Time))
	}
	if left := r.SoakLeft(now); left != "" {
		state += s.Paint(r.State.Tone(), ", "+left+" left")
	}
	add("%s  %s", title, state)
	add("")
	add("  %s  %s", s.Bar(barWidth(s), r.Devices.Matched, Segments(r.Devices)...), progress(r.Devices))
	add("  %s", legend(s, r.Devices))
	switch {
	case d.Wide:
		lines = append(append(lines, ""), allFacts(s, r, now)...)
	case room.facts:
		lines = append(append(lines, ""), facts(s, r)...)
	}
	if r.inWaves() && len(r.Waves) > 0 {
		lines = append(append(lines, ""), waveRows(s, r, now, d)...)
	}
	if r.Why != "" {
		add("")
		lines = append(lines, s.Marked(s.Mark(r.State.Tone())+" ", r.State.Tone(), r.Why)...)
	}
	for _, next := range r.Next {
		lines = append(lines, s.Marked(s.Mark(screen.Bold)+" ", screen.Plain, next)...)
	}
	if len(r.Failures) > 0 {
		add("")
		lines = append(lines, FailureRows(s, "  ", r.Failures[:min(len(r.Failures), room.failures)], r.Devices.Failed)...)
		if log := screen.SafeLines(r.Failures[0].Log); len(log) > 0 && room.log > 0 {
			add("")
			add("  %s", s.Paint(screen.Dim, "The end of the log of "+screen.Safe(r.Failures[0].Device)+":"))
			for _, line := range log[max(0, len(log)-room.log):] {
				add("    %s", line)
			}
		}
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
	rules := fmt.Sprintf("maxUnavailable %s, successThreshold %s, onFailure %s", r.Rules.MaxUnavailable, r.Rules.SuccessThreshold, r.Rules.OnFailure)
	if r.Rules.ProgressDeadline != nil {
		rules += ", progressDeadline " + screen.Duration(r.Rules.ProgressDeadline.Duration)
	}
	fact("Rules", rules)
	return s.Grid("  ", rows)
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
	if r.inWaves() && r.State != Complete {
		counts = fmt.Sprintf("wave %s (%d of %d): ", r.Wave.Name, r.Wave.Index, r.Wave.Of) + counts
	}
	name := fmt.Sprintf("deployment %q", r.Name)
	switch r.State {
	case Complete:
		return fmt.Sprintf("%s successfully rolled out: %s", name, counts)
	case Stalled, Halted, RollingBack, RolledBack:
		return fmt.Sprintf("%s %s: %s: %s", name, r.State.Word(), counts, screen.Safe(r.Why))
	case Progressing:
		return fmt.Sprintf("Waiting for %s rollout to finish: %s...", name, counts)
	case Soaking, AwaitingApproval:
		return fmt.Sprintf("Waiting for %s rollout to finish: %s: %s", name, counts, screen.Safe(r.Why))
	}
	return fmt.Sprintf("Waiting for %s rollout to finish: %s", name, screen.Safe(r.Why))
}

func orUnknown(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}
