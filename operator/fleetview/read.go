package fleetview

import (
	"iter"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/nationtech/fleet/contracts"
)

// Device is what the bus shows of a device.
type Device struct {
	// Info is what it says about itself; nil when it has said nothing, or nothing
	// that can be read. It is shared: don't change it. Its Time is left out.
	Info *contracts.DeviceInfo
	// InfoError says why its information can't be read; empty when it can.
	InfoError string
	// Online tells that its heartbeats arrive.
	Online bool
	// LastHeartbeat is when the last heartbeat reached the server; zero for never.
	LastHeartbeat time.Time
	// Interval between its heartbeats; zero before the first.
	Interval time.Duration
	// Counts of what it was told.
	Counts Counts
}

// Device returns what is known of a device; the zero Device when it is nothing.
func (v *View) Device(id contracts.DeviceID) Device {
	v.mu.RLock()
	defer v.mu.RUnlock()
	d, ok := v.devices[id]
	if !ok {
		return Device{}
	}
	return Device{Info: d.info, InfoError: d.infoErr, Online: d.online, LastHeartbeat: d.last, Interval: d.interval, Counts: d.counts}
}

// Placement is one Deployment on one device.
type Placement struct {
	// Told tells that the device was told something for this Deployment: Revision
	// and Digest, at ToldAt, in the wave ToldWave. FailedBefore is what was remembered
	// with it, ToldNumber the revision's number. It was not told what the bus has where
	// it has taken another order since.
	Told             bool
	Revision, Digest string
	ToldAt           time.Time
	ToldWave         string
	FailedBefore     bool
	ToldNumber       int64
	// Phase is empty when the device has reported nothing. ReportedRevision and
	// ReportedDigest are what the report speaks of. It came at ReportedAt, and the
	// phase has lasted since PhaseSince; both by the server's clock.
	Phase                            contracts.Phase
	ReportedRevision, ReportedDigest string
	ReportedAt, PhaseSince           time.Time
	Reason, Message, Log             string
	Restarts, Drifts                 int64
	// Malformed tells that the last report can't be read; Message says why.
	Malformed bool
	// Online, since OnlineSince, and PublicKey are of the device.
	Online      bool
	OnlineSince time.Time
	PublicKey   string
	// SealedTo is the key that the secrets are sealed to that the device was told; empty
	// where there are none. Curve is the device's key for that, if Vouch has found that
	// its identity vouches for it.
	SealedTo, Curve string
}

// Placements returns, for each of the devices, how the Deployment stands on it. A
// key that was told on behalf of another namespace is not told by this one. The
// view does not change during the loop and must not be called in it.
func (v *View) Placements(key types.NamespacedName, ids iter.Seq[contracts.DeviceID]) iter.Seq[Placement] {
	return func(yield func(Placement) bool) {
		v.mu.RLock()
		defer v.mu.RUnlock()
		for id := range ids {
			var out Placement
			if d, ok := v.devices[id]; ok {
				out.Online, out.OnlineSince = d.online, d.since
				if d.info != nil {
					out.PublicKey = d.info.PublicKey
					out.Curve = d.vouched.key(d.info)
				}
				if p, ok := d.placements[contracts.DeploymentName(key.Name)]; ok {
					p.show(key.Namespace, &out)
				}
			}
			if !yield(out) {
				return
			}
		}
	}
}

func (p *placement) show(namespace string, out *Placement) {
	if p.told.exists && p.namespace == namespace && !p.superseded() {
		out.Told, out.Revision, out.Digest = true, p.told.revision, p.told.digest
		out.ToldAt, out.ToldWave, out.FailedBefore, out.ToldNumber = time.Unix(0, p.told.at), p.told.wave, p.told.failedBefore, p.told.number
		out.SealedTo = p.told.sealedTo
	}
	if r := p.report; r != nil {
		out.Phase, out.Reason, out.Message, out.Log, out.Malformed = r.phase, r.reason, r.message, r.log, r.malformed
		out.ReportedRevision, out.ReportedDigest = r.revision, r.digest
		out.ReportedAt, out.PhaseSince = time.Unix(0, r.at), time.Unix(0, r.since)
		out.Restarts, out.Drifts = r.restarts, r.drifts
	}
}

// ToldCount is how many devices were told something for a Deployment.
func (v *View) ToldCount(key types.NamespacedName) int {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return len(v.told[key])
}

// ToldDevices lists the devices that were told something for a Deployment.
func (v *View) ToldDevices(key types.NamespacedName) []contracts.DeviceID {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return slices.Collect(maps.Keys(v.told[key]))
}

// ToldDeployments lists the Deployments that any device was told something for.
func (v *View) ToldDeployments() []types.NamespacedName {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return slices.Collect(maps.Keys(v.told))
}

// Untold lists the Deployments that a device says it has and that it was, as far as
// is known, never told of nor told to remove: the stream that said so was lost.
func (v *View) Untold(id contracts.DeviceID) (names []contracts.DeploymentName) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if d, ok := v.devices[id]; ok {
		for name, p := range d.placements {
			if p.untold() {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

func (p *placement) untold() bool {
	return (p.told.issued == 0 || !p.told.exists && p.superseded()) && p.report != nil && !p.report.malformed && p.report.phase != contracts.PhaseRemoved
}

// ToldTo lists the Deployments of a namespace that a device was told.
func (v *View) ToldTo(id contracts.DeviceID, namespace string) (names []contracts.DeploymentName) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if d, ok := v.devices[id]; ok {
		for name, p := range d.placements {
			if p.told.exists && p.namespace == namespace {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// ReportedBy lists the Deployments that a device has reported.
func (v *View) ReportedBy(id contracts.DeviceID) (names []contracts.DeploymentName) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if d, ok := v.devices[id]; ok {
		for name, p := range d.placements {
			if p.report != nil {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// Totals counts the whole fleet.
func (v *View) Totals() Totals {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.totals
}
