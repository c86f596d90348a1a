package fleetview

import (
	"bytes"
	"iter"
	"runtime"
	"sync"

	"github.com/nationtech/fleet/contracts"
)

// vouched is what was found out last of a device's curve key.
type vouched struct {
	curve    *contracts.CurveKey
	identity string
	ok       bool
}

// isOf reports whether it was found out of what the device says now.
func (c vouched) isOf(info *contracts.DeviceInfo) bool {
	return info.Curve != nil && c.curve != nil && c.identity == info.PublicKey && c.curve.Key == info.Curve.Key && bytes.Equal(c.curve.Signature, info.Curve.Signature)
}

// key is the curve key that the device's identity vouches for; empty for none, and as
// long as that was not found out.
func (c vouched) key(info *contracts.DeviceInfo) string {
	if c.ok && c.isOf(info) {
		return info.Curve.Key
	}
	return ""
}

// Vouch finds out for which of the devices their identity vouches for their curve key.
// It is not done for every device as soon as that speaks: it takes longer than all the
// rest of reading what a fleet says, and most devices are told no secrets.
func (v *View) Vouch(ids iter.Seq[contracts.DeviceID]) {
	type found struct {
		id contracts.DeviceID
		vouched
	}
	var open []found
	v.mu.RLock()
	for id := range ids {
		if d := v.devices[id]; d != nil && d.info != nil && d.info.Curve != nil && !d.vouched.isOf(d.info) {
			open = append(open, found{id, vouched{curve: d.info.Curve, identity: d.info.PublicKey}})
		}
	}
	v.mu.RUnlock()
	if len(open) == 0 {
		return
	}
	var group sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), len(open))
	for w := range workers {
		group.Go(func() {
			for i := w; i < len(open); i += workers {
				open[i].ok = open[i].curve.Verify(open[i].id, open[i].identity) == nil
			}
		})
	}
	group.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, f := range open {
		if d := v.devices[f.id]; d != nil {
			d.vouched = f.vouched
		}
	}
}
