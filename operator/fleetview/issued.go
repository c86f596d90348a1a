package fleetview

import (
	"slices"

	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/coalesce"
)

// maxReported bounds the number that a device may say it has been given, so that a
// hostile one can't use up those that are left.
const maxReported = 1 << 52

// Key is what one device is told for one Deployment.
type Key struct {
	Device     contracts.DeviceID
	Deployment contracts.DeploymentName
}

// NextIssued gives a number for orders, which is above every one that was seen on the
// bus, told or reported, and every one that was given before. As long as the clock
// does not go back it is the time in microseconds, so that it grows even where the
// bus has lost everything.
func (v *View) NextIssued() int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.issued = max(v.issued+1, v.clock.Now().UnixMicro())
	return v.issued
}

// Outdated collects the orders that have to be given again, unchanged: they are signed
// with a key that the operator had before, or the device says that it was given the same
// with a higher number, which the bus has lost.
func (v *View) Outdated() *coalesce.Set[Key] { return v.outdated }

// Stale reports whether an order is older than what the device says that it was given,
// and same whether that has the same content as far as the device says.
func (v *View) Stale(k Key, o contracts.Order) (stale, same bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	d := v.devices[k.Device]
	if d == nil {
		return false, false
	}
	p := d.placements[k.Deployment]
	if p == nil {
		return false, false
	}
	r := p.report.Value()
	if r.issued <= o.Issued {
		return false, false
	}
	return true, o.Desired != nil && r.ReportedRevision == o.Desired.Revision && r.ReportedDigest == o.Desired.Digest
}

// superseded reports whether the device has been given another order than the bus has, and
// a newer one: the bus has lost that, or somebody has put an old one in its place.
func (p *placement) superseded() bool {
	t, r := p.told.Value(), p.report.Value()
	return r.issued > t.issued && (!t.Told || r.ReportedRevision != t.Revision || r.ReportedDigest != t.Digest)
}

// signed notes with which key an order is signed, and reports whether it counts.
func (v *View) signed(k Key, key string, issued int64) bool {
	if key == v.signer {
		v.issued = max(v.issued, issued)
		return true
	}
	if !slices.Contains(v.previous, key) {
		return false
	}
	v.issued = max(v.issued, issued)
	v.outdated.Add(k)
	return true
}

// outrun notes that a device was given a newer order than the bus has.
func (v *View) outrun(k Key, p *placement) {
	told, reported := p.told.Value().issued, p.report.Value().issued
	if told == 0 || reported <= told {
		return
	}
	v.issued = max(v.issued, reported)
	if p.superseded() {
		v.devicesChanged.Add(k.Device)
		return
	}
	v.outdated.Add(k)
}
