package podman

import (
	"strings"
	"testing"
)

func frame(stream byte, text string) string {
	return string([]byte{stream, 0, 0, 0, 0, 0, byte(len(text) >> 8), byte(len(text))}) + text
}

func TestDemultiplex(t *testing.T) {
	whole := frame(1, "out\n") + frame(2, "err\n")
	for _, tt := range []struct{ name, in, want string }{
		{"both streams in order", whole, "out\nerr\n"},
		{"nothing", "", ""},
		{"cut in the middle of a frame", whole[:len(whole)-2], "out\ner"},
		{"cut in the middle of a head", whole[:len(frame(1, "out\n"))+3], "out\n"},
		{"what is not UTF-8", frame(1, "a\xffb"), "a\ufffdb"},
		{"a length that is not there", "\x01\x00\x00\x00\xff\xff\xff\xffabc", "abc"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := demultiplex(strings.NewReader(tt.in))
			if err != nil || got != tt.want {
				t.Errorf("%q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func FuzzDemultiplex(f *testing.F) {
	f.Add([]byte(frame(1, "out\n") + frame(2, "err\n")))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := demultiplex(strings.NewReader(string(in)))
		if err != nil {
			t.Fatal(err)
		}
		if len(got) > 3*len(in) {
			t.Errorf("%d bytes of %d", len(got), len(in))
		}
	})
}
