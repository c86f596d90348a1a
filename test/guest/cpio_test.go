package guest

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"testing"
)

// entry is one file as a reader of the format finds it.
type entry struct {
	name, content string
	mode, major   int64
}

// unpack reads an archive as the kernel does.
func unpack(t *testing.T, b []byte) []entry {
	t.Helper()
	var all []entry
	for {
		if len(b) < 110 || string(b[:6]) != "070701" {
			t.Fatalf("no header at %q", b[:min(len(b), 110)])
		}
		field := func(n int) int64 {
			v, err := strconv.ParseInt(string(b[6+8*n:14+8*n]), 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		up := func(n int64) int64 { return (n + 3) / 4 * 4 }
		nameSize, size := field(11), field(6)
		begin := up(110 + nameSize)
		e := entry{name: string(b[110 : 110+nameSize-1]), content: string(b[begin : begin+size]), mode: field(1), major: field(9)}
		if e.name == "TRAILER!!!" {
			return all
		}
		all = append(all, e)
		b = b[up(begin+size):]
	}
}

func TestAnArchiveHoldsWhatWasAdded(t *testing.T) {
	var b bytes.Buffer
	a := &archive{w: &b}
	want := []entry{{name: "dev", mode: 0o40755}, {name: "dev/console", mode: 0o20600, major: 5}}
	a.add("dev", folder|0o755, nil)
	a.device("dev/console", 0o600, 5, 1)
	for n := range 5 { // whatever is missing to the next multiple of four
		e := entry{name: "init" + strings.Repeat("x", n), content: strings.Repeat("y", n), mode: 0o100755}
		a.add(e.name, regular|0o755, []byte(e.content))
		want = append(want, e)
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	got := unpack(t, b.Bytes())
	if len(got) != len(want) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("entry %d is %+v, want %+v", i, got[i], want[i])
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestAnArchiveThatCannotBeWrittenSaysSo(t *testing.T) {
	a := &archive{w: full{}}
	a.add("a", regular, []byte("b"))
	if err := a.close(); err == nil {
		t.Error("no error")
	}
}
