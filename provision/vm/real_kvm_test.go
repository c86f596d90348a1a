package vm_test

import (
	"slices"
	"testing"

	"github.com/nationtech/fleet/provision/libvirt/libvirttest"
	"github.com/nationtech/fleet/provision/topology"
	"github.com/nationtech/fleet/provision/vm"
)

// tryKVM boots nothing, so that there is no sign of life. With a KVM that libvirt claims the
// machine is started, and given up after a while; where there is none, libvirt refuses it at
// once. Either way it ends up emulated, and that is remembered.
func tryKVM(t *testing.T, d *libvirttest.Daemon, h *topology.KVMHost) {
	facts, err := d.Dial(t).Host(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	guest, err := facts.Guest(facts.Arch)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("libvirt claims KVM: %v", guest.KVM)
	s := spec(t, d, "till-7")
	s.Emulate = false
	tried := vm.TriedIn(t.TempDir())
	var warned, doing []string
	talk := vm.Talk{
		Warn:  func(format string, _ ...any) { warned = append(warned, format) },
		Doing: func(format string, _ ...any) { doing = append(doing, format) },
	}
	created, err := vm.CreateOnTrial(t.Context(), h, s, vm.Options{Talk: talk, Tried: tried})
	if err != nil {
		t.Fatal(err)
	}
	if !created.Emulated || created.Why == "" || len(warned) != 1 || !slices.Contains(doing, "trying KVM") {
		t.Errorf("%+v, warned %q, doing %q", created, warned, doing)
	}
	if machines, err := vm.List(t.Context(), h); err != nil || len(machines) != 1 || machines[0].State != "running" {
		t.Errorf("%+v, %v", machines, err)
	}
	if works := tried.Of(t.Context(), h); works == nil || *works {
		t.Errorf("remembered %v", works)
	}
	s = spec(t, d, "till-8")
	s.Emulate, doing = false, nil
	created, err = vm.Create(t.Context(), h, s, vm.Options{Talk: talk, Tried: tried})
	if err != nil || !created.Emulated || slices.Contains(doing, "trying KVM") {
		t.Errorf("the next is tried again: %+v, %v, %q", created, err, doing)
	}
}
