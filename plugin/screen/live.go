package screen

import (
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"golang.org/x/term"
)

// Live draws one screen over and over in the same place. What was drawn last
// stays when it ends.
type Live struct {
	out   io.Writer
	size  func() (width, height int)
	lines int
	width int
}

// NewLive draws on a terminal. It hides the cursor until Close.
func NewLive(out *os.File) *Live {
	return newLive(out, func() (int, int) {
		width, height, err := term.GetSize(int(out.Fd()))
		if err != nil {
			return 80, 24
		}
		return width, height
	})
}

func newLive(out io.Writer, size func() (int, int)) *Live {
	fmt.Fprint(out, "\x1b[?25l")
	return &Live{out: out, size: size}
}

// Draw replaces what was drawn before with what render makes of the terminal's
// present width and of the lines that there are. What does not fit is cut off at
// the bottom, and the last line says so: render has to begin with what matters
// most when it needs more lines.
func (l *Live) Draw(render func(width, lines int) string) error {
	width, height := l.size()
	// The cursor stands on a line of its own below. Some terminals don't know their
	// height and say 0.
	fits := height - 1
	if height <= 1 {
		fits = math.MaxInt
	}
	lines := strings.Split(strings.TrimRight(render(width, fits), "\n"), "\n")
	if more := len(lines) - fits; more > 0 {
		lines = lines[:fits]
		if fits > 1 {
			lines[fits-1] = Style{}.Fit(fmt.Sprintf("(%s more: the terminal is too short)", Plural(more+1, "line")), width)
		}
	}
	var b strings.Builder
	switch {
	case l.width != 0 && l.width != width:
		// Lines that were drawn for another width have been folded: nobody knows how
		// many there are now.
		b.WriteString("\x1b[2J\x1b[H")
	case l.lines > 0:
		fmt.Fprintf(&b, "\x1b[%dA\r", l.lines)
	}
	for _, line := range lines {
		// To the end of the line and not the whole screen at once: that flickers.
		b.WriteString(line + "\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	l.lines, l.width = len(lines), width
	_, err := io.WriteString(l.out, b.String())
	return err
}

// Close shows the cursor again.
func (l *Live) Close() { fmt.Fprint(l.out, "\x1b[?25h") }
