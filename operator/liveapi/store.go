// Package liveapi serves live.fleet.nationtech.io: heartbeats and placements, from
// the operator's memory and with Kubernetes' own authentication and authorisation.
// Nothing of it is ever written to etcd.
package liveapi

import (
	"maps"
	"math/rand/v2"
	"sync"
	"time"

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
	placements map[contracts.DeploymentName]fleetview.Placement
}

// heartbeat and placement are what a row holds.
type heartbeat struct {
	device *roster.Device
	fleetview.Heartbeat
}

type placement struct {
	device     *roster.Device
	deployment contracts.DeploymentName
	fleetview.Placement
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
		d = &device{placements: map[contracts.DeploymentName]fleetview.Placement{}}
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
		s.heartbeats.set(heartbeatKey(d.meta), heartbeat{d.meta, h})
	}
}

// Placement takes in how a Deployment stands on a device.
func (s *Store) Placement(id contracts.DeviceID, name contracts.DeploymentName, p fleetview.Placement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.device(id)
	if !p.Told && (p.Phase == "" && !p.Malformed || p.Phase == contracts.PhaseRemoved) {
		delete(d.placements, name)
		if d.meta != nil {
			s.placements.remove(placementKey(d.meta, name))
		}
		return
	}
	d.placements[name] = p
	if d.meta != nil {
		s.placements.set(placementKey(d.meta, name), placement{d.meta, name, p})
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
		for name := range d.placements {
			s.placements.remove(placementKey(before, name))
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
	s.heartbeats.set(heartbeatKey(meta), heartbeat{meta, *h})
	for name, p := range d.placements {
		s.placements.set(placementKey(meta, name), placement{meta, name, p})
	}
}

func heartbeatKey(d *roster.Device) key { return key{d.Namespace, string(d.ID)} }

func placementKey(d *roster.Device, name contracts.DeploymentName) key {
	return key{d.Namespace, string(d.ID) + "." + string(name)}
}
