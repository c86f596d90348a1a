package fleetview

import (
	"hash/maphash"
	"time"

	"github.com/nationtech/fleet/contracts"
)

var seed = maphash.MakeSeed()

// Sum tells orders apart by their bytes, within this process.
func Sum(envelope []byte) uint64 { return maphash.Bytes(seed, envelope) }

// OrderOf is what a device is told with a desired state.
func OrderOf(s *contracts.DesiredState) Order {
	o := Order{
		Told: true, namespace: s.Namespace, Revision: s.Revision, Digest: s.Digest, ToldWave: s.Wave,
		FailedBefore: s.FailedBefore, ToldNumber: s.Number, issued: s.Issued,
	}
	if s.Sealed != nil {
		o.SealedTo = s.Sealed.To
	}
	return o
}

// Withdrawn is an order of that number to run nothing.
func Withdrawn(issued int64) Order { return Order{issued: issued} }

// Write is one key of desired state that the operator itself has written.
type Write struct {
	Device     contracts.DeviceID
	Deployment contracts.DeploymentName
	Order      Order
	// Sum of what was written.
	Sum uint64
}

// Wrote takes in what the operator has just written, ahead of the bus. Sequence is
// at most the one that the writes got and above every one before: what the bus
// plays back with a lower one is older and is ignored.
func (v *View) Wrote(writes []Write, sequence uint64, at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, w := range writes {
		v.setTold(w.Device, w.Deployment, told{Order: w.Order, sequence: sequence, sum: w.Sum, at: at.UnixNano()})
	}
}
