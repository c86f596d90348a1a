package podman

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"testing"
)

func TestFollowedLogIsReadToItsEnd(t *testing.T) {
	first, rest := frame(1, "one\n")+frame(2, "two\n"), frame(1, "three\n")
	socket := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, first)
		if r.URL.Query().Get("follow") == "" {
			_, _ = io.WriteString(w, rest)
		}
	})
	d, err := New(Options{Device: "pi", Socket: socket, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, follow := range []bool{true, false} {
		var out bytes.Buffer
		if err := d.StreamLog(t.Context(), "c1", LogOptions{Follow: follow}, &out); err != nil {
			t.Error(err)
		}
		if want := "one\ntwo\nthree\n"; out.String() != want {
			t.Errorf("followed %v: %q, want %q", follow, out.String(), want)
		}
	}
}
