package top

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
)

// TestTableIsAsSortedAnew holds a table that is changed step by step to one that is
// sorted and filtered anew.
func TestTableIsAsSortedAnew(t *testing.T) {
	phaseNames := []string{"Failed", "Running", "Pulling", "Degraded"}
	rapid.Check(t, func(t *rapid.T) {
		table := newTable(placementKind(cli.Scope{}.Key))
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0:
				table.nextOrder()
			case 1:
				table.reverse()
			case 2:
				table.search(rapid.SampledFrom([]string{"", "1", "fail", "nothing"}).Draw(t, "filter"))
			case 3:
				table.toggleProblems()
			default:
				changed := map[key]*live.Placement{}
				for range rapid.IntRange(0, 20).Draw(t, "changes") {
					device := fmt.Sprint(rapid.IntRange(0, 15).Draw(t, "device"))
					p := placed(device, "d", rapid.SampledFrom(phaseNames).Draw(t, "phase"), time.Duration(rapid.IntRange(0, 3).Draw(t, "since"))*time.Second)
					changed[keyOf(p)] = p
					if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
						changed[keyOf(p)] = nil
					}
				}
				table.apply(changed)
			}
			var all, shown []*live.Placement
			counts := map[string]int{}
			for _, row := range table.rows {
				all = append(all, row)
				counts[row.Status.Phase]++
			}
			slices.SortFunc(all, table.compare)
			for _, row := range all {
				if (!table.problems || table.problem(row)) && strings.Contains(table.text(row), table.filter) {
					shown = append(shown, row)
				}
			}
			if !slices.Equal(all, table.sorted) || !slices.Equal(shown, table.shown) {
				t.Fatalf("%d rows and %d shown are not the %d and %d that they should be, or in another order", len(table.sorted), len(table.shown), len(all), len(shown))
			}
			for _, phase := range phaseNames {
				if counts[phase] != table.counts[phase] {
					t.Fatalf("%d are %s, and %d were counted", counts[phase], phase, table.counts[phase])
				}
			}
		}
	})
}

func TestWorstFirst(t *testing.T) {
	m := open(120, 40, fleet())
	var devices, placements []string
	for _, d := range m.devices.sorted {
		devices = append(devices, d.Name)
	}
	for _, p := range m.placements.sorted {
		placements = append(placements, p.Name)
	}
	if got, want := strings.Join(devices, " "), "till-5 till-6 till-2 till-4 till-8 till-7 till-1 till-3"; got != want {
		t.Errorf("devices are %s, want %s", got, want)
	}
	if got, want := strings.Join(placements, " "), "till-2.signage till-4.signage till-8.signage till-6.hello till-5.signage till-7.signage till-3.signage till-1.hello till-1.signage till-2.hello"; got != want {
		t.Errorf("placements are %s, want %s", got, want)
	}
}
