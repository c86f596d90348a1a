package top

import (
	"strings"

	"github.com/nationtech/fleet/plugin/screen"
)

// covering are the lines of what covers the rows; nil when nothing does.
func (m *model) covering() []string {
	switch {
	case m.help:
		return m.drawFields(helpFields)
	case m.detail == nil:
		return nil
	}
	fields := m.detail.view.about(m.detail.key, m.now)
	if fields == nil {
		return []string{m.style.Paint(screen.Warn, screen.Safe(m.detail.key.namespace+"/"+m.detail.key.name)+" is gone.")}
	}
	return m.drawFields(fields)
}

// besides is how many columns values have to have to stand beside their names.
const besides = 20

// drawFields draws names and values below each other, values below their names where
// there is little room. What is too long goes on in the next line.
func (m *model) drawFields(fields []field) []string {
	indent := 0
	for _, f := range fields {
		indent = max(indent, screen.Width(f.name)+2)
	}
	below := m.style.Width-indent < besides
	if below {
		indent = 0
	}
	var lines []string
	for _, f := range fields {
		value := screen.Safe(f.value)
		if value == "" {
			value = "-"
		}
		name := m.style.Paint(screen.Dim, f.name)
		if below {
			lines = append(lines, name)
			name = ""
		}
		for _, line := range m.style.Wrap(value, m.style.Width-indent) {
			blank := strings.Repeat(" ", max(0, indent-screen.Width(name)))
			lines = append(lines, name+blank+m.style.Paint(f.tone, line))
			name = ""
		}
	}
	return lines
}

// helpFields are the help.
var helpFields = []field{
	{"Tab", "the other view: devices or placements", screen.Plain},
	{"j k, arrows", "next and previous row", screen.Plain},
	{"PgDn PgUp", "next and previous screen", screen.Plain},
	{"g G", "first and last row; at the first row the cursor stays on top, anywhere else it stays on its object while rows move", screen.Plain},
	{"Enter", "everything about the selected object; Esc goes back", screen.Plain},
	{"/", "filter: only rows with this text in them; Enter keeps it, Esc clears it", screen.Plain},
	{"p", "only rows with a problem, or all again", screen.Plain},
	{"s S", "next order, and the other way round", screen.Plain},
	{"q", "quit, as Ctrl-C does", screen.Plain},
	{"late, gone", "the next heartbeat of a device should have come; three or more are missing", screen.Plain},
	{"not online", "a placement's device is not: this is what it said last", screen.Plain},
	{"RUNNING", "placements of a device that run, of all that it has", screen.Plain},
	{"FAILED", "placements of a device that failed, went back or are degraded", screen.Plain},
	{"TOLD", "the revision that a device was told, REPORTED the one that it speaks of", screen.Plain},
	{"LATENCY", "of the last heartbeat, as far as the device's clock is right", screen.Plain},
	{"worst first", "devices that went last, then with failures, late, never seen; placements that failed last, then not online, then on their way", screen.Plain},
}
