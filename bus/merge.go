package bus

import (
	"fmt"

	"github.com/nationtech/fleet/contracts"
)

// Desired is what a device is told for one Deployment.
type Desired struct {
	contracts.DesiredState
	// Sequence of the stream at which it was written.
	Sequence uint64
}

// merge puts together what arrives live and what snapshots say. It decides; it
// does no I/O. A snapshot is how things stood at its sequence; what arrived live
// with a higher one is newer, whichever came first. Nothing goes because it is
// missing: a deletion is an entry like any other, and a stream that was lost and
// made anew lacks everything until the operator has written it again.
type merge struct {
	entries map[contracts.DeploymentName]known
	// highest sequence that was seen, and the one of the last live write.
	highest, lastLive uint64
	// complete tells that a whole snapshot was taken in.
	complete bool
}

// known is the newest that was seen of a Deployment; desired is nil when that is
// its deletion.
type known struct {
	desired  *contracts.DesiredState
	sequence uint64
}

// newMerge goes on from what the device knew before.
func newMerge(before map[contracts.DeploymentName]contracts.DesiredState) *merge {
	m := &merge{entries: map[contracts.DeploymentName]known{}}
	for name, d := range before {
		m.entries[name] = known{desired: &d}
	}
	return m
}

// live takes in one write; nil for a deletion. It reports whether the view changed,
// and whether a snapshot should be taken: a sequence that does not grow is of a
// stream that was made anew.
func (m *merge) live(name contracts.DeploymentName, sequence uint64, desired *contracts.DesiredState) (changed, doubtful bool) {
	doubtful = sequence <= m.lastLive
	m.lastLive = sequence
	m.highest = max(m.highest, sequence)
	before := m.entries[name]
	if sequence <= before.sequence {
		return false, doubtful
	}
	m.entries[name] = known{desired, sequence}
	return before.desired != nil || desired != nil, doubtful
}

// entry is one of a snapshot's; desired is nil for one that is deleted or can't be
// read.
type entry struct {
	name     contracts.DeploymentName
	sequence uint64
	desired  *contracts.DesiredState
	deleted  bool
}

// page takes in the page of a snapshot that begins behind after, when asked was
// the highest sequence at the time of asking. A stream that ends before what was
// seen of it was made anew, and its sequences began anew too; again tells to ask
// once more then, for what was written meanwhile was taken for old.
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
		m.highest, m.lastLive = 0, 0
		for name, k := range m.entries {
			m.entries[name] = known{desired: k.desired}
		}
	}
	m.highest = max(m.highest, sequence)
	for _, e := range entries {
		m.highest = max(m.highest, e.sequence)
		before := m.entries[e.name]
		if before.sequence > sequence && before.sequence >= e.sequence {
			continue
		}
		// What can't be read leaves in place what could be.
		if e.desired == nil && !e.deleted {
			continue
		}
		m.entries[e.name] = known{e.desired, e.sequence}
		changed = changed || (before.desired == nil) != e.deleted || e.sequence != before.sequence
	}
	if !more && !m.complete {
		m.complete, changed = true, true
	}
	return changed, again, nil
}

// view is what the device is told, by Deployment.
func (m *merge) view() map[contracts.DeploymentName]Desired {
	out := make(map[contracts.DeploymentName]Desired, len(m.entries))
	for name, k := range m.entries {
		if k.desired != nil {
			out[name] = Desired{DesiredState: *k.desired, Sequence: k.sequence}
		}
	}
	return out
}
