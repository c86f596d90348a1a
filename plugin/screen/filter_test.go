package screen

import (
	"bytes"
	"regexp"
	"testing"
	"unicode"
)

func TestFilter(t *testing.T) {
	for name, tt := range map[string]struct{ in, want string }{
		"text is as it is":              {"päth\t1 €\n", "päth\t1 €\n"},
		"colours stay":                  {"\x1b[1;38:5:3mred\x1b[0m", "\x1b[1;38:5:3mred\x1b[0m"},
		"the cursor stays":              {"\x1b[2J\x1b[1A", "^[[2J^[[1A"},
		"the title stays":               {"\x1b]0;x\x07", "^[]0;x^G"},
		"a bare return hides nothing":   {"all well\rno", "all well^Mno"},
		"control characters of UTF-8":   {"a\u009bb\u00a9", "a^[b©"},
		"one escape after another":      {"\x1b\x1b[mx", "^[\x1b[mx"},
		"a colour that never ends":      {"\x1b[" + string(bytes.Repeat([]byte("1"), 40)), "^[[" + string(bytes.Repeat([]byte("1"), 40))},
		"delete and what is below zero": {"\x7f\x00", "^?^@"},
	} {
		t.Run(name, func(t *testing.T) {
			var whole, bytewise bytes.Buffer
			_, _ = NewFilter(&whole).Write([]byte(tt.in))
			f := NewFilter(&bytewise)
			for i := range len(tt.in) {
				_, _ = f.Write([]byte{tt.in[i]})
			}
			if whole.String() != tt.want || bytewise.String() != tt.want {
				t.Errorf("%q becomes %q, and %q byte by byte; want %q", tt.in, &whole, &bytewise, tt.want)
			}
		})
	}
}

func FuzzFilter(f *testing.F) {
	f.Add([]byte("\x1b[31mred\x1b[0m \xc2\x9b \xc2\x1b[m"), 3)
	colour := regexp.MustCompile("\x1b\\[[0-9;:]*m")
	f.Fuzz(func(t *testing.T, data []byte, at int) {
		var b bytes.Buffer
		w := NewFilter(&b)
		at = max(0, min(at, len(data)))
		_, _ = w.Write(data[:at])
		_, _ = w.Write(data[at:])
		rest := colour.ReplaceAll(b.Bytes(), nil)
		for _, r := range string(rest) {
			if unicode.IsControl(r) && r != '\n' && r != '\t' {
				t.Errorf("%q becomes %q", data, &b)
			}
		}
	})
}
