package policy

import (
	"strings"
	"testing"

	"github.com/nationtech/fleet/contracts"
)

func TestWhatMachinesMayReach(t *testing.T) {
	machine := func(name string, interfaces ...contracts.MachineInterface) contracts.Machine {
		return contracts.Machine{Name: name, Interfaces: interfaces}
	}
	networks := []contracts.MachineNetwork{{Name: "inside", Mode: contracts.NetworkNAT, CIDR: "10.20.0.0/24"}, {Name: "lan", Mode: contracts.NetworkBridge, Bridge: "br0"}}
	for name, tt := range map[string]struct {
		allow    KVM
		machines []contracts.Machine
		says     string
		concerns string
	}{
		"a machine without a network is allowed":       {KVM{}, []contracts.Machine{machine("till")}, "", ""},
		"a network of its own is allowed":              {KVM{}, []contracts.Machine{machine("till", contracts.MachineInterface{Network: "inside"})}, "", ""},
		"a bridge is refused":                          {KVM{}, []contracts.Machine{machine("till", contracts.MachineInterface{Bridge: "br0"})}, "machine till: bridge br0 (it would with kvm.allow.bridges: [br0])", "till"},
		"a bridge is allowed":                          {KVM{Bridges: []string{"br0"}}, []contracts.Machine{machine("till", contracts.MachineInterface{Bridge: "br0"})}, "", ""},
		"another bridge is refused":                    {KVM{Bridges: []string{"br1"}}, []contracts.Machine{machine("till", contracts.MachineInterface{Bridge: "br0"})}, "bridge br0", "till"},
		"a bridge by way of a network is refused":      {KVM{}, []contracts.Machine{machine("ok"), machine("till", contracts.MachineInterface{Network: "lan"})}, "machine till: bridge br0", "till"},
		"a network that nobody is in reaches for none": {KVM{}, []contracts.Machine{machine("ok")}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := Device{KVM: tt.allow}.Check(contracts.ReconcileScore{KVM: &contracts.KVMScore{Machines: tt.machines, Networks: networks}})
			switch {
			case r == nil && tt.says == "":
			case r == nil || tt.says == "" || !strings.Contains(r.Error(), tt.says):
				t.Errorf("refused: %v, want %q", r, tt.says)
			case !r.Concerns(tt.concerns) || r.Concerns("ok"):
				t.Errorf("it concerns the wrong machines: %v", r)
			}
		})
	}
}
