package policy

import (
	"fmt"
	"slices"

	"github.com/nationtech/fleet/contracts"
)

// KVM is what the device's owner allows machines. A machine is bounded by itself: its
// disks are of the device's pool, and networks of its own begin and end on the device.
type KVM struct {
	// Bridges of the device that machines may be on, where they are what any other
	// computer on that network is.
	Bridges []string
}

// Check returns what is refused of a score, or nil when all of it is allowed.
func (k KVM) Check(s *contracts.KVMScore) *Refusal {
	var r Refusal
	bridges := map[string]string{}
	for _, n := range s.Networks {
		bridges[n.Name] = n.Bridge
	}
	for _, m := range s.Machines {
		for _, i := range m.Interfaces {
			bridge := i.Bridge
			if i.Network != "" {
				bridge = bridges[i.Network]
			}
			if bridge != "" && !slices.Contains(k.Bridges, bridge) {
				r.reaches = append(r.reaches, reach{"machine", m.Name, "bridge " + bridge, fmt.Sprintf("kvm.allow.bridges: [%s]", bridge)})
			}
		}
	}
	if len(r.reaches) == 0 {
		return nil
	}
	return &r
}
