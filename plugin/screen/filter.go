package screen

import (
	"bytes"
	"fmt"
	"io"
)

// longestSequence is how long a colour may be, in bytes.
const longestSequence = 32

// Filter shows on a terminal what a device wrote: lines, tabs and colours as they
// are, and every other control character as ^X, so that it can't move the cursor, set
// the title or answer for the person.
type Filter struct {
	out io.Writer
	// held is the beginning of what may become a colour, or a control character in
	// UTF-8.
	held []byte
}

// NewFilter writes to out.
func NewFilter(out io.Writer) *Filter { return &Filter{out: out} }

// Write filters p. What p ends in the middle of is shown with what follows.
func (f *Filter) Write(p []byte) (int, error) {
	var b bytes.Buffer
	for _, c := range p {
		f.take(&b, c)
	}
	if _, err := f.out.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *Filter) take(b *bytes.Buffer, c byte) {
	switch n := len(f.held); {
	case n == 0:
		f.begin(b, c)
	case f.held[0] == 0xc2:
		// U+0080 to U+009F are control characters of eight bits.
		f.held = f.held[:0]
		if c >= 0x80 && c < 0xa0 {
			fmt.Fprintf(b, "^%c", c-0x40)
			return
		}
		b.WriteByte(0xc2)
		f.begin(b, c)
	case n == 1 && c == '[', n > 1 && n < longestSequence && (c >= '0' && c <= '9' || c == ';' || c == ':'):
		f.held = append(f.held, c)
	case n > 1 && c == 'm':
		b.Write(f.held)
		b.WriteByte('m')
		f.held = f.held[:0]
	default:
		b.WriteString("^[")
		b.Write(f.held[1:])
		f.held = f.held[:0]
		f.begin(b, c)
	}
}

func (f *Filter) begin(b *bytes.Buffer, c byte) {
	switch {
	case c == '\x1b' || c == 0xc2:
		f.held = append(f.held, c)
	case c == '\n' || c == '\t' || c >= ' ' && c != 0x7f:
		b.WriteByte(c)
	default:
		fmt.Fprintf(b, "^%c", c^0x40)
	}
}
