package preflight

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nationtech/fleet/provision/libvirt"
)

func TestJudge(t *testing.T) {
	works, fails := true, false
	well := func(change func(*Facts)) Facts {
		f := Facts{Host: "h", Version: "9.0.0", DevKVM: true, Tried: &works, Dnsmasq: true, KVM: true, Pool: libvirt.PoolStatus{Name: "harmony-fleet", Path: "/p", Available: 20 << 30}}
		change(&f)
		return f
	}
	setup := "kubectl fleet host setup"
	for name, tt := range map[string]struct {
		facts Facts
		level Level
		// what is found, with its remedy, beside what is well.
		what, remedy string
		count        int
	}{
		"all is well":                               {well(func(*Facts) {}), Good, "", "", 5},
		"libvirt does not answer":                   {well(func(f *Facts) { f.Libvirt = errors.New("nobody listens") }), Bad, "libvirt", setup, 3},
		"no dnsmasq":                                {well(func(f *Facts) { f.Dnsmasq = false }), Bad, "dnsmasq", setup, 5},
		"no emulator":                               {well(func(f *Facts) { f.Emulator = errors.New("install qemu-system-arm") }), Bad, "emulator", setup, 5},
		"no KVM only makes machines slow":           {well(func(f *Facts) { f.DevKVM = false }), Warn, "KVM", "modprobe", 5},
		"KVM that was tried and is of no use":       {well(func(f *Facts) { f.Tried = &fails }), Warn, "KVM", "what the host itself runs on", 5},
		"KVM that nobody has tried is no complaint": {well(func(f *Facts) { f.Tried = nil }), Good, "", "", 5},
		"a pool that is too full":                   {well(func(f *Facts) { f.Pool.Available = 1 << 30 }), Bad, "storage pool", "--pool", 5},
		"a pool that is to be made":                 {well(func(f *Facts) { f.NoPool, f.Pool.Available = true, 0 }), Good, "", "", 5},
		"a pool that can't be looked at":            {well(func(f *Facts) { f.PoolError = errors.New("x") }), Bad, "storage pool", "", 5},
		"no agent":                                  {well(func(f *Facts) { f.Agent = errors.New("x") }), Bad, "agent", "", 6},
		"no image":                                  {well(func(f *Facts) { f.Image = errors.New("x") }), Bad, "image", "", 6},
	} {
		t.Run(name, func(t *testing.T) {
			all := Judge(tt.facts, Want{Arch: libvirt.X86_64, Bytes: 10 << 30, Setup: setup})
			if got := Worst(all); got != tt.level || len(all) != tt.count {
				t.Errorf("%s with %d findings, want %s with %d: %+v", got, len(all), tt.level, tt.count, all)
			}
			var bad []Finding
			for _, f := range all {
				if f.Level != Good {
					bad = append(bad, f)
				}
			}
			if tt.what == "" && len(bad) > 0 || tt.what != "" && !slices.ContainsFunc(bad, func(f Finding) bool { return f.What == tt.what && strings.Contains(f.Remedy, tt.remedy) }) {
				t.Errorf("%+v", bad)
			}
		})
	}
	if all := Judge(Facts{}, Want{OtherNetwork: true}); slices.ContainsFunc(all, func(f Finding) bool { return f.What == "dnsmasq" && f.Level == Bad }) {
		t.Errorf("on somebody else's network dnsmasq is missed: %+v", all)
	}
	everything := Facts{Libvirt: errors.New("x"), Image: errors.New("y"), Agent: errors.New("z")}
	if all := Judge(everything, Want{Setup: setup}); len(all) != 5 {
		t.Errorf("what is wrong is not said all at once: %+v", all)
	}
}
