package repo

import (
	"fmt"
	"io"
	"strings"

	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/plugin/preview"
	"github.com/nationtech/fleet/plugin/screen"
)

// maxDevices is how many devices are named in a line, unless all are wanted.
const maxDevices = 10

// signs stand before an object, as before a line of its difference.
var signs = map[gitops.Change]struct {
	sign string
	tone screen.Tone
}{gitops.Added: {"+", screen.Good}, gitops.Changed: {"~", screen.Warn}, gitops.Removed: {"-", screen.Bad}}

// printDiff prints for people.
func printDiff(out io.Writer, style screen.Style, diff Diff, all bool) error {
	var text strings.Builder
	for _, overlay := range diff.Overlays {
		if len(overlay.Objects) == 0 {
			continue
		}
		fmt.Fprintln(&text, style.Paint(screen.Bold, "overlay "+screen.Safe(overlay.Name)))
		for _, object := range overlay.Objects {
			s := signs[object.Change]
			fmt.Fprintln(&text, "\n"+style.Paint(s.tone, s.sign+" "+screen.Safe(object.String())))
			for _, line := range screen.SafeLines(object.Diff) {
				fmt.Fprintln(&text, style.Paint(lineTone(line), line))
			}
		}
		fmt.Fprintln(&text, "\n"+style.Paint(screen.Bold, "devices"))
		for _, line := range devicesPart(style, overlay, all) {
			fmt.Fprintln(&text, "  "+line)
		}
		text.WriteString("\n")
	}
	fmt.Fprintln(&text, diffSummary(diff))
	_, err := io.WriteString(out, text.String())
	return err
}

func lineTone(line string) screen.Tone {
	switch line[0] {
	case '+':
		return screen.Good
	case '-':
		return screen.Bad
	case '@':
		return screen.Busy
	}
	return screen.Plain
}

// diffSummary is the difference in a line.
func diffSummary(diff Diff) string {
	what := "cluster → " + diff.To
	if diff.From != "cluster" {
		what = diff.From + " → " + diff.To
	}
	if !diff.Differs() {
		return screen.Safe(what) + ": no difference"
	}
	return fmt.Sprintf("%s: %s added, %d changed, %d removed; %s", screen.Safe(what), count(diff.Added, "object"), diff.Changed, diff.Removed, reached(diff.Devices))
}

func reached(devices int) string {
	if devices == 0 {
		return "no device changes"
	}
	if devices == 1 {
		return "1 device changes"
	}
	return screen.Plural(devices, "device") + " change"
}

// devicesPart says which devices the overlay's change reaches.
func devicesPart(style screen.Style, overlay OverlayDiff, all bool) []string {
	if len(overlay.Deployments) == 0 {
		return []string{"no device changes"}
	}
	var lines []string
	for _, d := range overlay.Deployments {
		lines = append(lines, style.Paint(screen.Bold, screen.Safe(nameOf(d)))+"  "+screen.Safe(becauseWords(d)))
		if len(d.Devices()) == 0 {
			lines = append(lines, "  no device changes")
			continue
		}
		var rows [][]screen.Cell
		for _, line := range devicesLines(d, all) {
			rows = append(rows, []screen.Cell{{Text: screen.Safe(line.what), Tone: screen.Dim}, {Text: screen.Safe(line.devices)}, {Text: screen.Safe(line.condition), Tone: screen.Dim}})
		}
		whole := style
		whole.Width = 0
		lines = append(lines, whole.Grid("  ", rows)...)
	}
	return lines
}

func nameOf(d preview.Deployment) string {
	if d.Namespace == "" {
		return d.Name
	}
	return d.Namespace + "/" + d.Name
}

// becauseWords say what changes: the revision, and why.
func becauseWords(d preview.Deployment) string {
	var words []string
	switch {
	case d.Restarts && d.From != "" && d.To != "":
		words = append(words, d.From+" → "+d.To)
	case d.Restarts:
		words = append(words, "a new revision")
	case d.To != "":
		words = append(words, d.To)
	}
	if len(d.Because) > 0 {
		words = append(words, "("+strings.Join(d.Because, ", ")+")")
	}
	if d.Suspended {
		words = append(words, "when it is no longer suspended")
	} else if d.Paused {
		words = append(words, "when it is no longer paused")
	}
	return strings.Join(words, " ")
}

// devicesLine is some devices of a Deployment for whom the same holds.
type devicesLine struct{ what, devices, condition string }

func devicesLines(d preview.Deployment, all bool) []devicesLine {
	var lines []devicesLine
	for _, w := range d.Waves {
		var conditions []string
		if w.AwaitsApproval {
			conditions = append(conditions, "after approval")
		}
		if w.Soak != nil {
			conditions = append(conditions, "soaks for "+screen.Duration(w.Soak.Duration))
		}
		lines = append(lines, devicesLine{fmt.Sprintf("wave %d of %d, %s", w.Number, w.Of, w.Name), deviceNames(w.Devices, all), strings.Join(conditions, ", ")})
	}
	for _, more := range []devicesLine{
		{"offline", deviceNames(d.Offline, all), "told when they are reachable"},
		{"held", deviceNames(d.Held, all), "told when they are held no longer"},
		{"first time", deviceNames(d.New, all), ""},
		{"withdrawn", deviceNames(d.Removed, all), ""},
	} {
		if more.devices != "" {
			lines = append(lines, more)
		}
	}
	return lines
}

// deviceNames are devices in words, collapsed when they are many: 12 devices: a, b, …
func deviceNames(devices []string, all bool) string {
	if len(devices) == 0 {
		return ""
	}
	shown, more := devices, ""
	if !all && len(devices) > maxDevices {
		shown, more = devices[:maxDevices], ", …"
	}
	return screen.Plural(len(devices), "device") + ": " + strings.Join(shown, ", ") + more
}
