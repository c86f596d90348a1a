package fleetview

import "github.com/nationtech/fleet/contracts"

// Devices puts into out what is known of each device, as Device returns it. It is for who
// asks for many: that the lock is taken once lets the processor wait for the memory of
// several at the same time.
func (v *View) Devices(ids []contracts.DeviceID, out []Device) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for i, id := range ids {
		if d, ok := v.devices[id]; ok {
			out[i] = d.show()
		} else {
			out[i] = Device{}
		}
	}
}
