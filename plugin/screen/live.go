package screen

import (
	"fmt"
	"io"
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
// present width. What does not fit the height is cut off at the bottom: the top
// of a screen says what matters most.
func (l *Live) Draw(render func(width int) string) error {
	width, height := l.size()
	lines := strings.Split(strings.TrimRight(render(width), "\n"), "\n")
	if height > 1 && len(lines) > height-1 {
		lines = lines[:height-1]
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
