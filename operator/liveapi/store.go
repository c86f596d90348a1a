// Package liveapi serves live.fleet.nationtech.io: heartbeats, placements and health, from
// the operator's memory and with Kubernetes' own authentication and authorisation.
// Nothing of it is ever written to etcd.
package liveapi

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
	"unique"

	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/operator/roster"
)

// How many changes are remembered for those who watch.
const (
	heartbeatHistory = 1 << 14
	placementHistory = 1 << 15
)

// A resource version is a number that grows, and in its lowest bits a mark of this
// run of this replica: a version that another one gave out means nothing here. The
// numbers begin with the time, so that one of a later run is higher.
const (
	markBits = 10
	markMask = 1<<markBits - 1
)

// Store joins what the bus shows with the cluster's Devices. It is an Observer of
// both: give it to fleetview.Options and roster.Observe.
type Store struct {
	heartbeats *table[heartbeat]
	placements *table[placement]
	mark       uint64

	mu      sync.Mutex
	devices map[contracts.DeviceID]*device
}

// device is both halves of one, whichever came first.
type device struct {
	meta       *roster.Device
	heartbeat  *fleetview.Heartbeat
	placements []*placed
}

// heartbeat and placement are what a row holds.
type heartbeat struct {
	device *roster.Device
	*fleetview.Heartbeat
}

type placement struct {
	device *roster.Device
	*placed
}

// placed is a Placement without what is the device's. It is never changed. What devices
// were told and what they say is the same for most of them, and kept once.
type placed struct {
	deployment contracts.DeploymentName
	order      unique.Handle[fleetview.Order]
	report     unique.Handle[fleetview.Report]
	// toldAt and since are in nanoseconds since 1970; 0 for never.
	toldAt, since int64
	online        bool
}

func newPlaced(name contracts.DeploymentName, p fleetview.Placement) *placed {
	return &placed{name, unique.Make(p.Order), unique.Make(p.Report), nanoseconds(p.ToldAt), nanoseconds(p.PhaseSince), p.Online}
}

func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// NewStore makes an empty Store.
func NewStore(now time.Time) *Store {
	first := uint64(now.UnixMicro())
	return &Store{
		heartbeats: newTable[heartbeat](first, heartbeatHistory),
		placements: newTable[placement](first, placementHistory),
		mark:       rand.Uint64N(markMask + 1),
		devices:    map[contracts.DeviceID]*device{},
	}
}

func (s *Store) device(id contracts.DeviceID) *device {
	d := s.devices[id]
	if d == nil {
		d = &device{}
		s.devices[id] = d
	}
	return d
}

// Heartbeat takes in how a device is.
func (s *Store) Heartbeat(id contracts.DeviceID, h fleetview.Heartbeat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.device(id)
	d.heartbeat = &h
	if d.meta != nil {
		s.heartbeats.set(heartbeatKey(d.meta), heartbeat{d.meta, &h})
	}
}

// Placement takes in how a Deployment stands on a device.
func (s *Store) Placement(id contracts.DeviceID, name contracts.DeploymentName, p fleetview.Placement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.device(id)
	at := slices.IndexFunc(d.placements, func(o *placed) bool { return o.deployment == name })
	if !p.Told && (p.Phase == "" && !p.Malformed || p.Phase == contracts.PhaseRemoved) {
		if at >= 0 {
			d.placements = slices.Delete(d.placements, at, at+1)
		}
		if d.meta != nil {
			s.placements.remove(placementKey(d.meta, name))
		}
		return
	}
	now := newPlaced(name, p)
	if at >= 0 {
		d.placements[at] = now
	} else {
		d.placements = append(d.placements, now)
	}
	if d.meta != nil {
		s.placements.set(placementKey(d.meta, name), placement{d.meta, now})
	}
}

// Device takes in which Device has an ID; nil is none.
func (s *Store) Device(id contracts.DeviceID, meta *roster.Device) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.device(id)
	before := d.meta
	d.meta = meta
	if before != nil && (meta == nil || meta.Namespace != before.Namespace) {
		s.heartbeats.remove(heartbeatKey(before))
		for _, p := range d.placements {
			s.placements.remove(placementKey(before, p.deployment))
		}
		before = nil
	}
	if meta == nil || before != nil && before.UID == meta.UID && maps.Equal(before.Labels, meta.Labels) {
		return
	}
	h := d.heartbeat
	if h == nil {
		h = &fleetview.Heartbeat{}
	}
	s.heartbeats.set(heartbeatKey(meta), heartbeat{meta, h})
	for _, p := range d.placements {
		s.placements.set(placementKey(meta, p.deployment), placement{meta, p})
	}
}

func heartbeatKey(d *roster.Device) key { return key{d.Namespace, string(d.ID)} }

func placementKey(d *roster.Device, name contracts.DeploymentName) key {
	return key{d.Namespace, string(d.ID) + "." + string(name)}
}
