package screen

import "strings"

// Tally is how many there are of a sort.
type Tally struct {
	Count int
	Tone  Tone
	Word  string
}

// Tally sums up in a line: all of it, and then each sort of which there are any.
func (s Style) Tally(all string, tallies ...Tally) string {
	parts := []string{s.Paint(Bold, all)}
	for _, t := range tallies {
		if t.Count > 0 {
			parts = append(parts, s.Mark(t.Tone)+" "+s.Paint(t.Tone, Count(t.Count)+" "+t.Word))
		}
	}
	return strings.Join(parts, "   ")
}
