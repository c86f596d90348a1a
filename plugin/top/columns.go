package top

import (
	"slices"
	"strings"
	"time"

	"github.com/nationtech/fleet/plugin/screen"
)

// column of a view.
type column[R any] struct {
	name string
	// width in cells. On a terminal columns do not follow what is in them: they would
	// jump at every change.
	width int
	// right aligns to the right.
	right bool
	// spare tells in which order columns go when there is no room, the highest first;
	// that of the first column is 0, for it stays.
	spare int
	// grow is how much wider it may get where there is room.
	grow int
	cell func(*R, time.Time) (string, screen.Tone)
}

// columnGap is the room between columns, as screen.Grid leaves it.
const columnGap = 2

// fit chooses the columns that fit a width, and how wide each is. What is left over
// goes to those that grow, from the left.
func fit[R any](columns []column[R], width int) ([]column[R], []int) {
	left := func() int {
		sum := width + columnGap
		for _, c := range columns {
			sum -= c.width + columnGap
		}
		return sum
	}
	for left() < 0 {
		most := 0
		for i, c := range columns {
			if c.spare > columns[most].spare {
				most = i
			}
		}
		if columns[most].spare == 0 {
			break
		}
		columns = slices.Concat(columns[:most], columns[most+1:])
	}
	more := left()
	widths := make([]int, len(columns))
	for i, c := range columns {
		grow := max(0, min(more, c.grow))
		widths[i] = c.width + grow
		more -= grow
	}
	if more < 0 {
		widths[0] = max(1, widths[0]+more)
	}
	return columns, widths
}

// draw draws a header and rows, the selected one with a mark; it is -1 for none.
func (t *table[R]) draw(s screen.Style, rows []*R, selected int, now time.Time) []string {
	columns, widths := t.columns, make([]int, len(t.columns))
	if s.Width > 0 {
		columns, widths = fit(t.columns, s.Width)
	}
	mark := screen.Style{Unicode: s.Unicode}.Mark(screen.Bold) + " "
	grid := make([][]screen.Cell, len(rows)+1)
	for i := range grid {
		grid[i] = make([]screen.Cell, len(columns))
		for j, c := range columns {
			text, tone := c.name, screen.Bold
			if i > 0 {
				text, tone = c.cell(rows[i-1], now)
			}
			switch {
			case j > 0 || selected < 0:
			case i == selected+1:
				text, tone = mark+text, screen.Bold
			default:
				text = "  " + text
			}
			text = s.Fit(text, widths[j])
			if blank := widths[j] - screen.Width(text); i == 0 && blank > 0 {
				// The header makes the grid as wide as it always is.
				if c.right {
					text = strings.Repeat(" ", blank) + text
				} else {
					text += strings.Repeat(" ", blank)
				}
			}
			grid[i][j] = screen.Cell{Text: text, Tone: tone, Right: c.right}
		}
	}
	return s.Grid("", grid)
}
