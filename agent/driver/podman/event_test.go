package podman

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// serve is a podman that answers as told, on a socket.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "podman.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Second}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) }) // it ends with Close
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
	return "unix://" + path
}

func TestWatchAsksEverMoreSlowlyForEventsThatItDoesNotGet(t *testing.T) {
	const event = `{"Action":"died","Actor":{"ID":"c1","Attributes":{"fleet.nationtech.io/deployment":"web"}}}`
	tests := map[string]struct {
		answer func(http.ResponseWriter)
		slow   bool
		warns  int
	}{
		"podman refuses":                 {func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) }, true, 1},
		"the stream ends at once":        {func(w http.ResponseWriter) { w.WriteHeader(http.StatusOK) }, true, 1},
		"the stream ends after an event": {func(w http.ResponseWriter) { _, _ = io.WriteString(w, event) }, false, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := make(chan time.Time, 100)
			socket := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				asked <- time.Now()
				tt.answer(w)
			})
			var log bytes.Buffer
			d, err := New(Options{Device: "pi", Socket: socket, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var watching sync.WaitGroup
			events := make(chan Event, 100)
			watching.Go(func() { d.Watch(ctx, func(e Event) { events <- e }) })
			first := <-asked
			var last time.Time
			for range 3 {
				last = <-asked
			}
			cancel()
			watching.Wait()
			if least := 7 * firstPause; tt.slow && last.Sub(first) < least {
				t.Errorf("asked four times in %s, want at least %s", last.Sub(first), least)
			}
			if n := strings.Count(log.String(), "level=WARN"); n != tt.warns {
				t.Errorf("%d warnings, want %d:\n%s", n, tt.warns, log.String())
			}
			close(events)
			told := 0
			for e := range events {
				if e.Container == "c1" && e.Deployment == "web" {
					told++
				}
			}
			if !tt.slow && told < 3 {
				t.Errorf("%d events came through, want 3 at least", told)
			}
		})
	}
}
