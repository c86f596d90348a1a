package fleetview

import (
	"time"

	"github.com/nationtech/fleet/contracts"
)

// Write is one key of desired state that the operator itself has written.
type Write struct {
	Device     contracts.DeviceID
	Deployment contracts.DeploymentName
	Deleted    bool
	// Namespace, Revision and Digest of what was written; empty when it was deleted.
	Namespace, Revision, Digest string
	// Wave, FailedBefore and Number are remembered with it.
	Wave         string
	FailedBefore bool
	Number       int64
	// Issued is the order's number.
	Issued int64
	// SealedTo is the device's key that secrets are sealed to; empty where there are none.
	SealedTo string
}

// Wrote takes in what the operator has just written, ahead of the bus. Sequence is
// at most the one that the writes got and above every one before: what the bus
// plays back with a lower one is older and is ignored.
func (v *View) Wrote(writes []Write, sequence uint64, at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, w := range writes {
		t := told{issued: w.Issued, sequence: sequence}
		if !w.Deleted {
			t = told{exists: true, revision: w.Revision, digest: w.Digest, wave: w.Wave, failedBefore: w.FailedBefore, number: w.Number, at: at.UnixNano(), issued: w.Issued, sealedTo: w.SealedTo, sequence: sequence}
		}
		v.setTold(w.Device, w.Deployment, w.Namespace, t)
	}
}
