package screen

import (
	"strings"
	"testing"
)

func TestLiveSaysWhatItCutsOff(t *testing.T) {
	for name, c := range map[string]struct {
		height int
		lines  string
		want   []string
	}{
		"what fits is whole":                   {5, "a\nb\nc\nd", []string{"a", "b", "c", "d"}},
		"what is too long says how much":       {4, "a\nb\nc\nd", []string{"a", "b", "(2 lines more: the terminal is too short)"}},
		"a terminal without height has it all": {0, "a\nb\nc\nd", []string{"a", "b", "c", "d"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			live := newLive(&out, func() (int, int) { return 80, c.height })
			out.Reset()
			if err := live.Draw(func(int, int) string { return c.lines + "\n" }); err != nil {
				t.Fatal(err)
			}
			want := strings.Join(c.want, "\x1b[K\n") + "\x1b[K\n\x1b[J"
			if got := out.String(); got != want {
				t.Errorf("drew %q, want %q", got, want)
			}
		})
	}
}
