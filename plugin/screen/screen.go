// Package screen draws for people: colours, marks, bars, columns and ages that
// look right on a terminal and stay plain text everywhere else.
//
// What is drawn depends on a Style alone, so that a whole screen can be compared
// with a golden file.
package screen

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/muesli/termenv"
	"golang.org/x/term"
)

// Style says what the place that is drawn to can show.
type Style struct {
	// Width is the number of columns; 0 is without limit, as in a file.
	Width int
	// Color allows colours.
	Color bool
	// Unicode allows characters beyond ASCII.
	Unicode bool
	// Terminal tells that a person is watching: lines can be drawn over.
	Terminal bool
}

// ColorMode is the value of the flag --color.
type ColorMode string

// Modes of colour. ColorAuto is colour on a terminal, unless NO_COLOR is set or
// TERM is dumb.
const (
	ColorAuto   ColorMode = "auto"
	ColorAlways ColorMode = "always"
	ColorNever  ColorMode = "never"
)

// ColorModes are the values that --color takes.
func ColorModes() []string {
	return []string{string(ColorAuto), string(ColorAlways), string(ColorNever)}
}

// String is the mode as it is written on the command line.
func (m *ColorMode) String() string { return string(*m) }

// Set takes the mode from the command line.
func (m *ColorMode) Set(s string) error {
	for _, known := range ColorModes() {
		if s == known {
			*m = ColorMode(s)
			return nil
		}
	}
	return fmt.Errorf("must be one of %s", strings.Join(ColorModes(), ", "))
}

// Type names the value in the help of a flag.
func (m *ColorMode) Type() string { return "when" }

// Detect finds out what out can show.
func Detect(out io.Writer, mode ColorMode, getenv func(string) string) Style {
	s := Style{Unicode: speaksUnicode(getenv)}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		s.Terminal = true
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			s.Width = width
		}
	}
	switch mode {
	case ColorAlways:
		s.Color = true
	case ColorNever:
	default:
		// https://no-color.org: any value that is not empty.
		s.Color = s.Terminal && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
	}
	return s
}

// speaksUnicode goes by the locale, terminal or not: whoever set it to UTF-8
// reads files and pipes as UTF-8 too. Windows has no such variables and shows
// Unicode.
func speaksUnicode(getenv func(string) string) bool {
	if getenv("TERM") == "dumb" {
		return false
	}
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToUpper(getenv(name)); v != "" {
			return strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
		}
	}
	return runtime.GOOS == "windows"
}

// Tone is what a piece of text means; each has one colour.
type Tone int

// Tones, from nothing special to what has to be seen first.
const (
	Plain Tone = iota
	Dim
	Bold
	Good
	Busy
	Warn
	Bad
)

// ANSI's own sixteen colours, so that the terminal's theme decides what they
// look like.
var toneColors = map[Tone]termenv.ANSIColor{
	Good: termenv.ANSIGreen, Busy: termenv.ANSICyan, Warn: termenv.ANSIYellow, Bad: termenv.ANSIRed,
}

// Paint gives text the colour of its tone. Text must have its padding already.
func (s Style) Paint(tone Tone, text string) string {
	if !s.Color || tone == Plain || text == "" {
		return text
	}
	styled := termenv.ANSI.String(text)
	switch tone {
	case Dim:
		styled = styled.Faint()
	case Bold:
		styled = styled.Bold()
	default:
		styled = styled.Foreground(toneColors[tone])
	}
	return styled.String()
}

// Mark is the sign that stands before a line of a tone.
func (s Style) Mark(tone Tone) string {
	mark := map[Tone][2]string{
		Plain: {"·", "."},
		Dim:   {"○", "o"},
		Bold:  {"►", ">"},
		Good:  {"✔", "+"},
		Busy:  {"◎", "~"},
		Warn:  {"▲", "!"},
		Bad:   {"✘", "x"},
	}[tone]
	if s.Unicode {
		return s.Paint(tone, mark[0])
	}
	return s.Paint(tone, mark[1])
}
