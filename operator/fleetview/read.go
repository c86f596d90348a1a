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
	return d.show()
}

func (d *device) show() Device {
	return Device{Info: d.info, InfoError: d.infoErr, Online: d.online, LastHeartbeat: d.last, Interval: d.interval, Counts: d.counts}
}

// Placement is one Deployment on one device.
type Placement struct {
	// Order is the zero Order where the bus has nothing that counts: also when the device
	// has taken another order since.
	Order
	Report
	// ToldAt is when it was told. The report came at ReportedAt, and the phase has lasted
	// since PhaseSince. All by the server's clock.
	ToldAt, ReportedAt, PhaseSince time.Time
	// Online, since OnlineSince, and PublicKey are of the device.
	Online      bool
	OnlineSince time.Time
	PublicKey   string
	// Curve is the device's key that secrets are sealed to, if Vouch has found that its
	// identity vouches for it.
	Curve string
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
	if t := p.told.Value(); t.Told && t.namespace == namespace && !p.superseded() {
		out.Order, out.ToldAt = t, time.Unix(0, p.toldAt)
	}
	if p.report != nothingReported {
		out.Report = p.report.Value()
		out.ReportedAt, out.PhaseSince = time.Unix(0, p.reportedAt), time.Unix(0, p.since)
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
	t, r := p.told.Value(), p.report.Value()
	return (t.issued == 0 || !t.Told && p.superseded()) && r.Phase != "" && r.Phase != contracts.PhaseRemoved
}

// ToldTo lists the Deployments of a namespace that a device was told.
func (v *View) ToldTo(id contracts.DeviceID, namespace string) (names []contracts.DeploymentName) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if d, ok := v.devices[id]; ok {
		for name, p := range d.placements {
			if t := p.told.Value(); t.Told && t.namespace == namespace {
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
			if p.report != nothingReported {
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
