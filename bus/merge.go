package bus

import (
	"fmt"
	"maps"

	"github.com/nationtech/fleet/contracts"
)

// Desired is what a device is told for one Deployment.
type Desired struct {
	contracts.DesiredState
	// Sequence of the stream at which it was written.
	Sequence uint64
}

// merge puts together what arrives live and what snapshots say. It decides; it
// does no I/O. What is newer, by the stream's sequence, wins, whichever way and in
// whichever order it came.
type merge struct {
	entries map[contracts.DeploymentName]known
	// highest sequence that was seen.
	highest uint64
	// complete tells that a whole snapshot was taken in.
	complete bool
}

// known is the newest that was seen of a Deployment; desired is nil when that is
// its deletion.
type known struct {
	desired  *contracts.DesiredState
	sequence uint64
}

func newMerge() *merge { return &merge{entries: map[contracts.DeploymentName]known{}} }

// live takes in one write; nil for a deletion. It reports whether the view changed.
func (m *merge) live(name contracts.DeploymentName, sequence uint64, desired *contracts.DesiredState) bool {
	m.highest = max(m.highest, sequence)
	before := m.entries[name]
	if sequence <= before.sequence {
		return false
	}
	m.entries[name] = known{desired, sequence}
	return before.desired != nil || desired != nil
}

// entry is one of a snapshot's; unreadable ones have a nil desired.
type entry struct {
	name     contracts.DeploymentName
	sequence uint64
	desired  *contracts.DesiredState
}

// page takes in the page of a snapshot that begins behind after, when asked was
// the highest sequence at the time of asking. A stream that ends before what was
// seen of it was made anew: its sequences begin anew too, and again tells to ask
// once more, for what was written meanwhile was taken for old.
func (m *merge) page(after contracts.DeploymentName, asked uint64, sequence uint64, entries []entry, more bool) (changed, again bool, err error) {
	if more && len(entries) == 0 {
		return false, false, fmt.Errorf("the snapshot promises more and holds nothing")
	}
	for i, e := range entries {
		if e.name <= after || i > 0 && e.name <= entries[i-1].name {
			return false, false, fmt.Errorf("the snapshot is out of order at deployment %q", e.name)
		}
	}
	if sequence < asked {
		again = true
		m.highest = sequence
		for name, k := range m.entries {
			m.entries[name] = known{desired: k.desired}
		}
	}
	m.highest = max(m.highest, sequence)
	listed := map[contracts.DeploymentName]bool{}
	for _, e := range entries {
		listed[e.name] = true
		// What can't be read leaves in place what could be.
		if before := m.entries[e.name]; e.desired != nil && e.sequence > before.sequence {
			m.entries[e.name] = known{e.desired, e.sequence}
			changed = true
		}
	}
	for name, k := range m.entries {
		covered := name > after && (!more || name <= entries[len(entries)-1].name)
		if covered && !listed[name] && k.sequence <= sequence {
			delete(m.entries, name)
			changed = changed || k.desired != nil
		}
	}
	if !more && !m.complete {
		m.complete, changed = true, true
	}
	return changed, again, nil
}

// view is what the device is told, by Deployment.
func (m *merge) view() map[contracts.DeploymentName]Desired {
	out := make(map[contracts.DeploymentName]Desired, len(m.entries))
	for name, k := range maps.All(m.entries) {
		if k.desired != nil {
			out[name] = Desired{DesiredState: *k.desired, Sequence: k.sequence}
		}
	}
	return out
}
