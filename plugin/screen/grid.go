package screen

import "strings"

// Cell is one field of a grid.
type Cell struct {
	Text string
	Tone Tone
	// Right aligns the text to the right, as numbers want it.
	Right bool
	// Raw is text that is painted already, such as a bar.
	Raw bool
}

// gap is the space between columns, as kubectl leaves it.
const gap = "  "

// Grid aligns rows in columns. The last column is cut to what the width leaves.
func (s Style) Grid(indent string, rows [][]Cell) []string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], Width(cell.Text))
		}
	}
	lines := make([]string, 0, len(rows))
	for _, row := range rows {
		var b strings.Builder
		b.WriteString(indent)
		for i, cell := range row {
			if i > 0 {
				b.WriteString(gap)
			}
			pad := strings.Repeat(" ", widths[i]-Width(cell.Text))
			last := i == len(row)-1
			text := cell.Text
			switch {
			case cell.Right:
				text = pad + text
			case !last:
				text += pad
			}
			if !cell.Raw {
				text = s.Paint(cell.Tone, text)
			}
			b.WriteString(text)
		}
		lines = append(lines, s.Fit(strings.TrimRight(b.String(), " "), s.Width))
	}
	return lines
}
