package top

import (
	"fmt"
	"time"

	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
)

// title is the name of the view.
func (t *table[R]) title() string { return t.heading }

// total sums up all rows, whether they are shown or not.
func (t *table[R]) total(s screen.Style, states []state) string {
	var tallies []screen.Tally
	for _, state := range states {
		tallies = append(tallies, screen.Tally{Count: t.counts[state.name], Tone: state.tone, Word: state.name})
	}
	return s.Tally(screen.Plural(len(t.rows), t.noun), tallies...)
}

// status says which rows are shown, and in which order.
func (t *table[R]) status(s screen.Style, room int) string {
	words := "by " + t.orders[t.order].name
	if t.order == 0 {
		words = "worst first"
	}
	if t.reversed {
		words += ", reversed"
	}
	if len(t.shown) > 0 {
		first, end := t.window(room)
		words += fmt.Sprintf("  %s-%s of %s", screen.Count(first+1), screen.Count(end), screen.Count(len(t.shown)))
	}
	words = s.Paint(screen.Dim, words)
	if t.problems {
		words += "  " + s.Paint(screen.Warn, "only problems")
	}
	if t.filter != "" {
		words += "  " + s.Paint(screen.Warn, "filter: "+screen.Safe(t.filter))
	}
	return words
}

// lines are a header, and the rows that there is room for.
func (t *table[R]) lines(s screen.Style, now time.Time, room int) []string {
	first, end := t.window(room)
	return t.draw(s, t.shown[first:end], t.selected()-first, now)
}

// all are a header, and every row.
func (t *table[R]) all(s screen.Style, now time.Time) []string {
	return t.draw(s, t.shown, -1, now)
}

// none says why no row is shown; it is empty when there are some.
func (t *table[R]) none(scope cli.Scope) string {
	switch {
	case len(t.shown) > 0:
		return ""
	case len(t.rows) == 0:
		return fmt.Sprintf("No %ss in %s.", t.noun, scope)
	case t.filter != "":
		return fmt.Sprintf("No %s with %q in it (Esc shows all).", t.noun, screen.Safe(t.filter))
	}
	return fmt.Sprintf("No %s has a problem (p shows all).", t.noun)
}
