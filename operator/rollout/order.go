package rollout

import "github.com/nationtech/fleet/contracts"

// Order is where a device stands in the order in which the devices of a
// Deployment are told: by a hash of both, so that it is the same after a restart,
// adding a device moves no other, and no device is the first of every Deployment.
// Devices with the same hash are ordered by their ID.
func Order(namespace, deployment string, device contracts.DeviceID) uint64 {
	// FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/) and the finaliser of
	// splitmix64, because FNV alone leaves names that differ in their last
	// character next to each other.
	h := uint64(14695981039346656037)
	add := func(s string) {
		for i := 0; i < len(s); i++ {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
		h = (h ^ '/') * 1099511628211
	}
	add(namespace)
	add(deployment)
	add(string(device))
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
