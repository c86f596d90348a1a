package top

import (
	"maps"
	"slices"
	"time"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
)

// take puts a frame into the tables. Devices show how their placements are, so each of
// those that changes makes a new row of its device.
func (m *model) take(f frame) {
	m.now = f.now
	m.connection = f.connection
	m.rate.add(f.now, f.heartbeats.count+f.placements.count)
	m.readDevices = m.readDevices || f.heartbeats.listed
	m.readPlacements = m.readPlacements || f.placements.listed

	placements := f.placements.objects
	if f.placements.listed {
		placements = andGone(placements, m.placements.rows)
	}
	devices := map[key]*device{}
	for k, p := range placements {
		on := m.place(k, p)
		// Those that changed are made anew below.
		if d := m.devices.rows[on]; d != nil {
			devices[on] = newDevice(d.Heartbeat, m.placed[on], m.watched())
		}
	}
	m.placements.apply(placements)

	heartbeats := f.heartbeats.objects
	if f.heartbeats.listed {
		heartbeats = andGone(heartbeats, m.devices.rows)
	}
	for k, h := range heartbeats {
		devices[k] = nil
		if h != nil {
			devices[k] = newDevice(h, m.placed[k], m.watched())
		}
	}
	if m.now.Sub(m.checked) >= tickInterval {
		m.checked = m.now
		m.overdue(devices)
	}
	m.devices.apply(devices)
}

// overdue adds devices that have become late, which nobody tells of.
func (m *model) overdue(devices map[key]*device) {
	for _, d := range m.devices.sorted {
		if !d.overdue(m.watched()) {
			continue
		}
		if _, changed := devices[keyOf(d.Heartbeat)]; !changed {
			devices[keyOf(d.Heartbeat)] = newDevice(d.Heartbeat, d.placements, m.watched())
		}
	}
}

// watched is until when heartbeats were seen to come: while there is no connection
// nobody gets late.
func (m *model) watched() time.Time {
	if lost := m.connection.lost; !lost.IsZero() {
		return lost
	}
	return m.now
}

// place puts a placement, or takes it away when it is nil, and returns on which device
// that is.
func (m *model) place(k key, p *live.Placement) key {
	before := m.placements.rows[k]
	if before == nil && p == nil {
		return key{}
	}
	of := p
	if of == nil {
		of = before
	}
	on := key{k.namespace, of.Spec.Device}
	// A slice of its own: rows hold the one that there was.
	others := slices.DeleteFunc(slices.Clone(m.placed[on]), func(o *live.Placement) bool { return o.Name == k.name })
	if p != nil {
		others = append(others, p)
	}
	if m.placed[on] = others; len(others) == 0 {
		delete(m.placed, on)
	}
	return on
}

// andGone are the objects of a list, and nil for those that are known and not in it.
func andGone[T, R any](listed map[key]*T, known map[key]*R) map[key]*T {
	all := maps.Clone(listed)
	for k := range known {
		if all[k] == nil {
			all[k] = nil
		}
	}
	return all
}
