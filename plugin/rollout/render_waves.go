package rollout

import (
	"fmt"
	"strings"
	"time"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/screen"
)

// pending is the state of a wave that has not begun. A rollout has none like it.
const pending = State(v1alpha1.WavePending)

// collapseFrom is how many waves in a row in the same unremarkable state become one
// line.
const collapseFrom = 3

// fewWaves are shown each on a line of its own.
const fewWaves = 6

// SoakLeft is how long the wave still soaks; empty when it does not.
func (r Rollout) SoakLeft(now time.Time) string {
	if r.State != Soaking || r.Wave == nil || r.Wave.Until == nil || now.IsZero() {
		return ""
	}
	// Rounded up: the last second is 1s and not 0s.
	return screen.Age(r.Wave.Until.Add(time.Second-1), now)
}

// waveRows is the table of the waves.
func waveRows(s screen.Style, r Rollout, now time.Time, d Detail) []string {
	groups := group(r, d)
	for _, bar := range []int{20, 10, 0} {
		lines := waveTable(s, r, now, groups, bar)
		if s.Width == 0 || bar == 0 || widest(lines) < s.Width {
			return lines
		}
	}
	return nil
}

func widest(lines []string) int {
	w := 0
	for _, line := range lines {
		w = max(w, screen.Width(line))
	}
	return w
}

// group puts waves together that follow each other in the same state and of which
// there is nothing to say: those that are over and well, and those behind the next.
func group(r Rollout, d Detail) [][]Wave {
	var groups [][]Wave
	run := func(i int) int {
		n := 0
		for i+n < len(r.Waves) && r.unremarkable(i+n) && r.Waves[i+n].Phase == r.Waves[i].Phase {
			n++
		}
		return n
	}
	for i := 0; i < len(r.Waves); {
		n := run(i)
		if d.All || len(r.Waves) <= fewWaves || n < collapseFrom {
			n = 1
		}
		groups = append(groups, r.Waves[i:i+n])
		i += n
	}
	return groups
}

func (r Rollout) unremarkable(i int) bool {
	w := r.Waves[i]
	switch w.Phase {
	case v1alpha1.WaveComplete:
		return w.Failed == 0 && w.Pending == 0
	case v1alpha1.WavePending:
		// The next one, and the one that will wait for somebody, are shown.
		return i != int(r.Wave.Index) && (!w.Manual || w.Approved)
	}
	return false
}

func waveTable(s screen.Style, r Rollout, now time.Time, groups [][]Wave, bar int) []string {
	head := func(text string, right bool) screen.Cell {
		return screen.Cell{Text: text, Tone: screen.Dim, Right: right}
	}
	rows := [][]screen.Cell{{head("  WAVE", false)}}
	if bar > 0 {
		rows[0] = append(rows[0], head("PROGRESS", false))
	}
	rows[0] = append(rows[0], head("DEVICES", true), head("FAILED", true), head("PENDING", true), head("OFFLINE", true), head("PHASE", false))
	for _, g := range groups {
		a, name := sum(g), g[0].Name
		if len(g) > 1 {
			name = fmt.Sprintf("%s %s %s", name, s.Ellipsis(), g[len(g)-1].Name)
		}
		state := State(g[0].Phase)
		row := []screen.Cell{{Text: s.Mark(state.Tone()) + " " + screen.Safe(name), Raw: true}}
		if bar > 0 {
			drawn := a
			if state == pending || state == AwaitingApproval || state == RolledBack {
				// Nobody is on the way yet.
				drawn.Pending = 0
			}
			row = append(row, screen.Cell{Text: s.Bar(bar, a.Matched, Segments(drawn)...), Raw: true})
		}
		rows = append(rows, append(row,
			screen.Cell{Text: screen.Ratio(a.Succeeded, a.Matched), Right: true},
			number(a.Failed, screen.Bad), number(a.Pending, screen.Busy), number(a.Offline, screen.Plain),
			screen.Cell{Text: phaseWords(r, g, now), Tone: state.Tone()},
		))
	}
	return s.Grid("", rows)
}

// phaseWords says where a wave stands, and what it will wait for.
func phaseWords(r Rollout, g []Wave, now time.Time) string {
	w, words := g[0], State(g[0].Phase).Word()
	if len(g) > 1 {
		return fmt.Sprintf("%d waves %s", len(g), words)
	}
	parts := []string{words}
	switch {
	case w.Matched == 0:
		parts = append(parts, "no devices")
	case w.Phase == v1alpha1.WavePending && w.Manual && !w.Approved:
		parts = append(parts, "needs approval")
	case w.Phase == v1alpha1.WavePending && w.Manual:
		parts = append(parts, "approved")
	case w.Phase == v1alpha1.WaveSoaking && r.Wave.Name == w.Name:
		if left := r.SoakLeft(now); left != "" {
			parts = append(parts, left+" left")
		}
	case w.Phase == v1alpha1.WaveProgressing && w.Soak != nil && w.Soak.Duration > 0:
		parts = append(parts, "then soaks "+screen.Duration(w.Soak.Duration))
	}
	return strings.Join(parts, ", ")
}

func number(n int32, tone screen.Tone) screen.Cell {
	if n == 0 {
		tone = screen.Dim
	}
	return screen.Cell{Text: screen.Count(n), Tone: tone, Right: true}
}

func sum(waves []Wave) v1alpha1.Aggregate {
	var a v1alpha1.Aggregate
	for _, w := range waves {
		a.Matched += w.Matched
		a.Updated += w.Updated
		a.Succeeded += w.Succeeded
		a.Failed += w.Failed
		a.Pending += w.Pending
		a.Offline += w.Offline
	}
	return a
}
