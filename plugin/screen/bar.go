package screen

import "strings"

// Segment is a part of a bar.
type Segment struct {
	Count int32
	Tone  Tone
}

// Glyphs by tone. They differ from each other, so that a bar can be read without
// colours too.
var barGlyphs = map[Tone][2]string{
	Good: {"█", "#"},
	Busy: {"▒", "~"},
	Bad:  {"╳", "x"},
	Dim:  {"·", "."},
	// What is left over.
	Plain: {"░", "-"},
}

// Bar draws segments as parts of total, width cells wide. Nothing that exists is
// rounded away, and a bar is full only when everything is there.
func (s Style) Bar(width int, total int32, segments ...Segment) string {
	if width <= 0 {
		return ""
	}
	var b strings.Builder
	used := 0
	for i, cells := range share(width, total, segments) {
		b.WriteString(s.cells(segments[i].Tone, cells))
		used += cells
	}
	b.WriteString(s.cells(Plain, width-used))
	return b.String()
}

func (s Style) cells(tone Tone, n int) string {
	glyph := barGlyphs[tone][1]
	if s.Unicode {
		glyph = barGlyphs[tone][0]
	}
	paint := tone
	if tone == Plain {
		paint = Dim
	}
	return s.Paint(paint, strings.Repeat(glyph, n))
}

// share gives each segment its cells: at least one when it counts anything, and
// what that takes too many is taken from the widest.
func share(width int, total int32, segments []Segment) []int {
	cells := make([]int, len(segments))
	if total <= 0 {
		return cells
	}
	sum, counted := 0, int64(0)
	for i, seg := range segments {
		if seg.Count <= 0 {
			continue
		}
		counted += int64(seg.Count)
		cells[i] = max(1, int(int64(width)*int64(seg.Count)/int64(total)))
		sum += cells[i]
	}
	limit := width
	if counted < int64(total) && width > 1 {
		limit = width - 1
	}
	for ; sum > limit; sum-- {
		widest := 0
		for i := range cells {
			if cells[i] > cells[widest] {
				widest = i
			}
		}
		cells[widest]--
	}
	if counted >= int64(total) {
		// Rounding down left cells over that belong to somebody.
		for ; sum < width; sum++ {
			largest := 0
			for i := range segments {
				if segments[i].Count > segments[largest].Count {
					largest = i
				}
			}
			cells[largest]++
		}
	}
	return cells
}
