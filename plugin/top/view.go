package top

import (
	"fmt"
	"strings"
	"time"

	"github.com/nationtech/fleet/plugin/screen"
)

// part of the screen around the rows.
type part int

// Parts in the order in which they go when there is no room.
const (
	blank part = iota
	hints
	totals
	tabs
	summary
	parts
)

// enough is how many rows there are to be before a part is drawn.
var enough = [parts]int{blank: 4, hints: 4, totals: 4, tabs: 2, summary: 1}

// layout of the screen.
type layout struct {
	// without tells which parts there is no room for.
	without [parts]bool
	// rows is how many lines rows have, their header not counted, and cover how many
	// something has that covers them.
	rows, cover int
}

// layout gives up what matters least until there is room for rows.
func (m *model) layout() layout {
	var l layout
	used := func() int {
		used := 1 // the header of the rows
		for p, lines := range [parts]int{blank: 1, hints: 1, totals: 2, tabs: 1, summary: 1} {
			if !l.without[p] {
				used += lines
			}
		}
		return used
	}
	for p := range parts {
		// What is typed has to be seen.
		l.without[p] = m.height-used() < enough[p] && (p != hints || !m.typing)
	}
	l.rows = max(0, m.height-used())
	l.cover = m.height
	if !l.without[summary] {
		l.cover--
	}
	if !l.without[hints] {
		l.cover--
	}
	return l
}

// View draws the screen.
func (m *model) View() string {
	if m.style.Width <= 0 || m.height <= 0 {
		return ""
	}
	l := m.layout()
	var lines []string
	add := func(p part, text ...string) {
		if !l.without[p] {
			lines = append(lines, text...)
		}
	}
	add(summary, m.summary())
	if cover := m.covering(); cover != nil {
		end := min(len(cover), m.pager.top+l.cover)
		lines = append(lines, cover[m.pager.top:end]...)
		for len(lines) < m.height-1 && !l.without[hints] {
			lines = append(lines, "")
		}
	} else {
		add(totals, m.totals(m.style)...)
		add(blank, "")
		add(tabs, m.tabs(l))
		lines = append(lines, m.rows(l)...)
	}
	add(hints, m.hints(l))
	lines = lines[:min(len(lines), m.height)]
	for i := range lines {
		lines[i] = m.style.Fit(lines[i], m.style.Width)
	}
	return strings.Join(lines, "\n")
}

// summary says whether what is below is true.
func (m *model) summary() string {
	s := m.style
	where := s.Paint(screen.Dim, m.scope.String())
	age := func(since time.Time) string { return screen.Age(m.now, since) }
	switch {
	case !m.connection.lost.IsZero():
		return s.Mark(screen.Bad) + " " + s.Paint(screen.Bad, "connection lost "+age(m.connection.lost)+" ago, trying again") + "  " + where + "  " + screen.Safe(m.connection.err.Error())
	case m.reading():
		return s.Mark(screen.Busy) + " " + s.Paint(screen.Busy, "reading the fleet for "+age(m.rate.begin)) + "  " + where
	}
	rate := fmt.Sprintf("%.1f changes/s", m.rate.perSecond(m.now))
	return s.Mark(screen.Good) + " " + s.Paint(screen.Good, "live") + "  " + rate + "  " + where
}

func (m *model) totals(s screen.Style) []string {
	return []string{m.devices.total(s, deviceStates), m.placements.total(s, phases)}
}

// tabs name the views, and say how the active one is shown.
func (m *model) tabs(l layout) string {
	var names []string
	for _, v := range []view{m.devices, m.placements} {
		if v == m.active {
			names = append(names, m.style.Paint(screen.Bold, "["+v.title()+"]"))
		} else {
			names = append(names, " "+v.title()+" ")
		}
	}
	return strings.Join(names, " ") + "   " + m.active.status(m.style, l.rows)
}

// rows fill what is left.
func (m *model) rows(l layout) []string {
	lines := m.active.lines(m.style, m.now, l.rows)
	if none := m.active.none(m.scope); none != "" && !m.reading() {
		lines = append(lines, "  "+none)
	}
	for len(lines) < l.rows+1 {
		lines = append(lines, "")
	}
	return lines
}

// hints are the keys that do something now.
func (m *model) hints(l layout) string {
	if m.typing {
		return m.style.Paint(screen.Bold, "/") + screen.Safe(m.active.searched()) + m.style.Paint(screen.Bold, "_") + "   " +
			m.style.Paint(screen.Dim, "Enter keeps the filter, Esc clears it")
	}
	keys := []string{"Tab", m.inactive().title(), "/", "Filter", "s", "Sort", "p", "Problems", "Enter", "Detail", "?", "Help", "q", "Quit"}
	if cover := m.covering(); cover != nil {
		keys = []string{"Esc", "Back", "q", "Quit"}
		if len(cover) > l.cover {
			keys = append([]string{"j/k", "Scroll"}, keys...)
		}
	}
	var words []string
	for i := 0; i < len(keys); i += 2 {
		words = append(words, m.style.Paint(screen.Bold, keys[i])+" "+keys[i+1])
	}
	return strings.Join(words, "  ")
}
