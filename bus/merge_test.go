package bus

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/nationtech/fleet/contracts"
)

// world is a stream of desired state of one device, and what a mirror of it sees.
type world struct {
	sequence uint64
	stored   map[contracts.DeploymentName]known
	// flying are republished writes that the device has not seen yet, in order.
	flying []flight
	merge  *merge
	// before is what the device knew when the stream was last made anew.
	before map[contracts.DeploymentName]string
}

type flight struct {
	name contracts.DeploymentName
	known
}

// TestMergeEndsWithWhatTheStreamHolds plays writes, deletions, losses, snapshots
// that are taken before and come in after others, pages, and streams made anew.
// After one more snapshot the device has exactly what the stream holds, and what
// it knew before of that which the stream has never held; and between, it never goes back from a newer value to an older one of one stream.
func TestMergeEndsWithWhatTheStreamHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{stored: map[contracts.DeploymentName]known{}, merge: newMerge(nil)}
		names := []contracts.DeploymentName{"a", "b", "c", "d"}
		name := rapid.SampledFrom(names)
		t.Repeat(map[string]func(*rapid.T){
			"write":  func(t *rapid.T) { w.write(name.Draw(t, "name"), false) },
			"delete": func(t *rapid.T) { w.write(name.Draw(t, "name"), true) },
			"arrive": func(*rapid.T) { w.arrive() },
			"lose":   func(*rapid.T) { w.flying = w.flying[min(1, len(w.flying)):] },
			"snapshot": func(t *rapid.T) {
				w.snapshot(t, rapid.IntRange(1, 3).Draw(t, "page"), func() {
					for range rapid.IntRange(0, 2).Draw(t, "meanwhile") {
						if rapid.Bool().Draw(t, "write") {
							w.write(name.Draw(t, "name"), rapid.Bool().Draw(t, "delete"))
						} else {
							w.arrive()
						}
					}
				})
			},
			"make the stream anew": func(*rapid.T) {
				w.before = map[contracts.DeploymentName]string{}
				for n, d := range w.merge.view() {
					w.before[n] = d.Revision
				}
				w.sequence, w.stored, w.flying = 0, map[contracts.DeploymentName]known{}, nil
			},
			"": func(t *rapid.T) {
				for n, k := range w.merge.entries {
					if k.sequence > w.merge.highest {
						t.Fatalf("%s is at %d, above the highest %d", n, k.sequence, w.merge.highest)
					}
				}
			},
		})
		for len(w.flying) > 0 {
			w.arrive()
		}
		for range 3 {
			if !w.snapshot(t, 2, func() {}) {
				break
			}
		}
		got := w.merge.view()
		for _, n := range names {
			want, ok := w.stored[n]
			if !ok {
				// Not told through this stream: what an earlier one said stays.
				if have, there := got[n]; there && have.Revision != w.before[n] {
					t.Fatalf("%s: the stream has nothing, the device %+v, and was told %q before", n, have, w.before[n])
				}
				continue
			}
			ok = want.desired != nil
			if have, there := got[n]; there != ok || ok && have.Revision != want.desired.Revision {
				t.Fatalf("%s: the stream has %v, the device %+v", n, want.desired, have)
			}
		}
	})
}

var births int

func (w *world) write(name contracts.DeploymentName, deletion bool) {
	w.sequence++
	births++
	k := known{sequence: w.sequence}
	if !deletion {
		k.desired = &contracts.DesiredState{Deployment: name, Revision: fmt.Sprint(births)}
	}
	w.stored[name] = k
	w.flying = append(w.flying, flight{name, k})
}

func (w *world) arrive() {
	if len(w.flying) == 0 {
		return
	}
	next := w.flying[0]
	w.flying = w.flying[1:]
	w.merge.live(next.name, next.sequence, next.desired)
}

// snapshot takes one page after the other as the responder does; each is read at
// its own time, and meanwhile happens between reading and taking in.
func (w *world) snapshot(t *rapid.T, size int, meanwhile func()) (again bool) {
	asked := w.merge.highest
	var after contracts.DeploymentName
	for {
		sequence := w.sequence
		var names []contracts.DeploymentName
		for n := range w.stored {
			if n > after {
				names = append(names, n)
			}
		}
		slices.Sort(names)
		more := len(names) > size
		names = names[:min(size, len(names))]
		var page []entry
		for _, n := range names {
			k := w.stored[n]
			page = append(page, entry{n, k.sequence, k.desired, k.desired == nil})
		}
		meanwhile()
		_, anew, err := w.merge.page(after, asked, sequence, page, more)
		if err != nil {
			t.Fatal(err)
		}
		if again = again || anew; anew {
			asked = 0
		}
		if !more {
			return again
		}
		after = names[len(names)-1]
	}
}

func TestMergeKeepsWhatCouldBeReadWhenTheNewerCannot(t *testing.T) {
	m := newMerge(nil)
	first := &contracts.DesiredState{Revision: "1"}
	if _, _, err := m.page("", 0, 1, []entry{{name: "app", sequence: 1, desired: first}}, false); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.page("", 1, 2, []entry{{name: "app", sequence: 2}}, false); err != nil {
		t.Fatal(err)
	}
	if got := m.view()["app"]; got.Revision != "1" {
		t.Errorf("it has %+v", got)
	}
}

func TestMergeRefusesSnapshotsThatMakeNoSense(t *testing.T) {
	d := &contracts.DesiredState{}
	for name, c := range map[string]struct {
		entries []entry
		more    bool
	}{
		"more without anything":     {nil, true},
		"not in order":              {[]entry{{"b", 1, d, false}, {"a", 2, d, false}}, false},
		"twice the same":            {[]entry{{"b", 1, d, false}, {"b", 2, d, false}}, false},
		"from before what it is of": {[]entry{{"a", 1, d, false}}, false},
	} {
		if _, _, err := newMerge(nil).page("a", 0, 9, c.entries, c.more); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
