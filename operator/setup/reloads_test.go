package setup

import (
	"testing"
	"time"

	"github.com/nationtech/fleet/bus"
)

func TestServersReadAgainWhatHasChanged(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	old, fresh := start.Add(time.Hour), start.Add(2*time.Hour)
	want := bus.Server{CertificateUntil: fresh, Config: "2"}
	a := bus.Server{ID: "A", Name: "nats-0", CertificateUntil: old, Config: "2"}
	b := bus.Server{ID: "B", Name: "nats-1", CertificateUntil: fresh, Config: "1"}
	good := bus.Server{ID: "C", Name: "nats-2", CertificateUntil: fresh, Config: "2"}
	foreign := bus.Server{ID: "D", Name: "elsewhere", CertificateUntil: old}

	type look struct {
		minute  int
		servers []bus.Server
		reload  string
		again   int // minute; 0 for not before something changes
		give    string
	}
	for name, looks := range map[string][]look{
		"nothing has changed":                   {{0, []bus.Server{good}, "", 0, ""}},
		"a server that is not ours":             {{0, []bus.Server{foreign}, "", 0, ""}},
		"after the file has had time to change": {{0, []bus.Server{a}, "", 8, ""}, {7, []bus.Server{a}, "", 8, ""}, {8, []bus.Server{a}, "A", 9, ""}, {9, []bus.Server{good}, "", 0, ""}},
		"one after the other": {
			{0, []bus.Server{a, b, good}, "", 8, ""}, {8, []bus.Server{a, b, good}, "A", 9, ""},
			{9, []bus.Server{{ID: "A", CertificateUntil: fresh, Config: "2"}, b, good}, "B", 10, ""},
			{10, []bus.Server{good}, "", 0, ""},
		},
		"one that never does is given up, and does not hold the others": {
			{0, []bus.Server{a, b}, "", 8, ""}, {8, []bus.Server{a, b}, "A", 9, ""}, {9, []bus.Server{a, b}, "", 24, ""},
			{24, []bus.Server{a, b}, "A", 25, ""}, {56, []bus.Server{a, b}, "A", 57, ""}, {57, []bus.Server{a, b}, "", 120, ""},
			{120, []bus.Server{a, b}, "", 128, "nats-0"}, {128, []bus.Server{a, b}, "B", 129, ""}, {129, []bus.Server{a}, "", 0, ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := reloads{patience: 8 * time.Minute}
			for _, l := range looks {
				got := r.next(l.servers, want, start.Add(time.Duration(l.minute)*time.Minute))
				reload := ""
				if got.reload != nil {
					reload = got.reload.ID
				}
				again := 0
				if !got.again.IsZero() {
					again = int(got.again.Sub(start) / time.Minute)
				}
				if reload != l.reload || again != l.again || got.give != l.give {
					t.Errorf("minute %d: reload %q, again %d, give up %q; want %q, %d, %q", l.minute, reload, again, got.give, l.reload, l.again, l.give)
				}
			}
		})
	}
}

func TestAChangeIsTriedAfresh(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := reloads{patience: time.Minute}
	v := bus.Server{ID: "A", CertificateUntil: start, Config: "1"}
	for n := range 10 {
		r.next([]bus.Server{v}, bus.Server{CertificateUntil: start.Add(time.Hour), Config: "1"}, start.Add(time.Duration(n)*time.Hour))
	}
	again := bus.Server{CertificateUntil: start.Add(2 * time.Hour), Config: "1"}
	if got := r.next([]bus.Server{v}, again, start.Add(20*time.Hour)); got.again.IsZero() {
		t.Error("a server that was given up is not told of the next change")
	}
}
