package screen

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/charmbracelet/x/ansi"
	"k8s.io/apimachinery/pkg/util/duration"
)

// Safe makes text that came from elsewhere harmless for a terminal and puts it
// on one line. Devices write messages, and a device may be hostile.
func Safe(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, strings.Join(strings.Fields(text), " "))
}

// None stands where there is nothing, as in kubectl.
const None = "<none>"

// OrNone is Safe for a cell of a table, which must not be empty.
func OrNone(text string) string { return cmp.Or(Safe(text), None) }

// Truth is a bool as Kubernetes' conditions have it.
func Truth(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

// Width is the number of columns that text takes, colours not counted.
func Width(text string) int { return ansi.StringWidth(text) }

// Fit cuts text to width columns; 0 is without limit.
func (s Style) Fit(text string, width int) string {
	if width <= 0 || Width(text) <= width {
		return text
	}
	return ansi.Truncate(text, width, s.Ellipsis())
}

// Ellipsis stands for what was left out.
func (s Style) Ellipsis() string {
	if s.Unicode {
		return "…"
	}
	return "..."
}

// Wrap breaks text into lines of at most width columns, at words where it can;
// 0 is without limit.
func (s Style) Wrap(text string, width int) []string {
	if width <= 0 {
		return []string{text}
	}
	return strings.Split(ansi.Wrap(text, max(width, 8), ""), "\n")
}

// Marked is a text behind a lead, such as a mark, with further lines below its first.
func (s Style) Marked(lead string, tone Tone, text string) []string {
	width := 0
	if s.Width > 0 {
		width = s.Width - Width(lead)
	}
	var lines []string
	for i, line := range s.Wrap(Safe(text), width) {
		if i > 0 {
			lead = "  "
		}
		lines = append(lines, lead+s.Paint(tone, line))
	}
	return lines
}

// Note writes a text behind the mark of a tone.
func (s Style) Note(out io.Writer, tone Tone, text string) {
	for _, line := range s.Marked(s.Mark(tone)+" ", Plain, text) {
		fmt.Fprintln(out, line)
	}
}

// Duration writes d without the units that are zero at its end: 10m, 1h30m.
func Duration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Age is the time from then to now in Kubernetes' short words: 12s, 5m30s, 3h.
// A device's or server's clock that runs ahead gives 0s.
func Age(now, then time.Time) string {
	if then.IsZero() {
		return "never"
	}
	return duration.HumanDuration(max(0, now.Sub(then)))
}

// Ago is Age with the word after it.
func Ago(now, then time.Time) string {
	if then.IsZero() {
		return "never"
	}
	return Age(now, then) + " ago"
}

// Count writes n with thousands apart, as large fleets need it.
func Count[N int | int32 | int64](n N) string {
	digits := fmt.Sprint(n)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	var parts []string
	for len(digits) > 3 {
		parts = append([]string{digits[len(digits)-3:]}, parts...)
		digits = digits[:len(digits)-3]
	}
	return sign + strings.Join(append([]string{digits}, parts...), ",")
}

// Plural is a count with its noun: 1 device, 1,200 devices.
func Plural[N int | int32 | int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return Count(n) + " " + noun + "s"
}

// Ratio is part/whole.
func Ratio[N int | int32 | int64](part, whole N) string {
	return Count(part) + "/" + Count(whole)
}

// SafeLines is Safe for text of several lines, such as a log; blank lines are left
// out, and what stands in front of a line stays.
func SafeLines(text string) []string {
	var lines []string
	for line := range strings.Lines(strings.ReplaceAll(text, "\r", "\n")) {
		line = strings.TrimRight(strings.ReplaceAll(line, "\t", "    "), " \n")
		if line == "" {
			continue
		}
		lines = append(lines, strings.Map(func(r rune) rune {
			if unicode.IsPrint(r) {
				return r
			}
			return '?'
		}, line))
	}
	return lines
}
