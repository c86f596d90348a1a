package top

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test ./plugin/top -update writes it anew); got:\n%s\nwant:\n%s", path, got, want)
	}
}

// TestScreens holds whole screens to golden files.
func TestScreens(t *testing.T) {
	lost := fleet()
	lost.connection = connection{now.Add(-12 * time.Second), errors.New("the fleet is not in view yet: the operator is still reading the buckets")}
	for _, c := range []struct {
		file          string
		width, height int
		frame         frame
		keys          string
		change        func(*model)
	}{
		{file: "devices.txt", width: 80, height: 24, frame: fleet()},
		{file: "devices-wide.txt", width: 120, height: 20, frame: fleet(), keys: "jj"},
		{file: "devices-narrow.txt", width: 40, height: 12, frame: fleet()},
		{file: "devices-tiny.txt", width: 10, height: 3, frame: fleet()},
		{file: "devices-ascii.txt", width: 80, height: 18, frame: fleet(), change: func(m *model) { m.style.Unicode = false }},
		{file: "devices-color.txt", width: 80, height: 18, frame: fleet(), keys: "j", change: func(m *model) { m.style.Color = true }},
		{file: "devices-everywhere.txt", width: 80, height: 16, frame: fleet(), change: func(m *model) {
			scope := cli.Scope{Selector: "site=mtl"}
			m.scope, m.devices.kind = scope, deviceKind(scope.Key)
		}},
		{file: "placements.txt", width: 80, height: 24, frame: fleet(), keys: "<tab>"},
		{file: "placements-wide.txt", width: 120, height: 20, frame: fleet(), keys: "<tab>"},
		{file: "problems.txt", width: 80, height: 18, frame: fleet(), keys: "<tab>ps"},
		{file: "filter-typing.txt", width: 80, height: 14, frame: fleet(), keys: "<tab>/IMAGE"},
		{file: "filter-nothing.txt", width: 80, height: 14, frame: fleet(), keys: "/no-such<enter>"},
		{file: "detail-device.txt", width: 80, height: 24, frame: fleet(), keys: "/till-2<enter><enter>"},
		{file: "detail-never.txt", width: 80, height: 16, frame: fleet(), keys: "/till-7<enter><enter>"},
		{file: "detail-placement.txt", width: 60, height: 30, frame: fleet(), keys: "<tab><enter>"},
		{file: "detail-narrow.txt", width: 24, height: 12, frame: fleet(), keys: "<tab><enter><pgdown><pgdown>"},
		{file: "detail-hostile.txt", width: 80, height: 20, frame: fleet(), keys: "<tab>/evil<enter><enter>"},
		{file: "help.txt", width: 80, height: 24, frame: fleet(), keys: "?"},
		{file: "lost.txt", width: 80, height: 12, frame: lost},
		{file: "reading.txt", width: 80, height: 12, frame: frame{now: now}},
		{file: "empty.txt", width: 80, height: 12, frame: full(now, nil, nil)},
	} {
		t.Run(c.file, func(t *testing.T) {
			m := open(c.width, c.height)
			if c.change != nil {
				c.change(m)
			}
			m.Update(c.frame)
			press(m, c.keys)
			checkScreen(t, m)
			golden(t, c.file, m.View()+"\n")
		})
	}
}

func TestSnapshotIsTheSameWithoutTerminal(t *testing.T) {
	m := newModel(screen.Style{Unicode: true}, cli.Scope{Namespace: "shops"}, "worst", now)
	m.Update(fleet())
	golden(t, "snapshot.txt", m.snapshot())
	m.Update(full(now, nil, nil))
	golden(t, "snapshot-empty.txt", m.snapshot())
}

// checkScreen fails where a line is too long, there are too many, or something is drawn
// that is neither text nor a colour.
func checkScreen(t interface {
	Helper()
	Fatalf(string, ...any)
}, m *model) {
	t.Helper()
	view := m.View()
	lines := strings.Split(view, "\n")
	if len(lines) > m.height {
		t.Fatalf("%d lines on a screen of %dx%d:\n%s", len(lines), m.style.Width, m.height, view)
	}
	for _, line := range lines {
		if width := screen.Width(line); width > m.style.Width {
			t.Fatalf("a line of %d columns on a screen of %dx%d: %q", width, m.style.Width, m.height, line)
		}
		if plain := colours.ReplaceAllString(line, ""); screen.SafeLines(plain + ".")[0] != plain+"." {
			t.Fatalf("this is not harmless: %q", line)
		}
	}
}
