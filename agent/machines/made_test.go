package machines

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nationtech/fleet/contracts"
)

func TestMadeIsReadAsItWasWritten(t *testing.T) {
	for _, m := range []Made{{}, compile(t).Machines[0].Made, {Format: "1", MaxCPUs: 4, MaxMemory: gib, Arch: "aarch64", Type: "virt-7.2", Console: true, Disks: "d", Interfaces: "i", Seed: "s", Stop: 9}} {
		got, err := ParseMade(m.String())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, got); diff != "" {
			t.Errorf("%s (-written +read):\n%s", m, diff)
		}
	}
}

func FuzzParseMade(f *testing.F) {
	f.Add(Made{}.String())
	f.Add(Made{Format: "1", MaxCPUs: 4, Arch: "x86_64"}.String())
	for _, s := range []string{"", " ", "format=1", strings.Replace(Made{}.String(), "maxCPUs=0", "maxCPUs=x", 1), strings.Replace(Made{}.String(), "=", "==", 1)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMade(s)
		if err != nil {
			return
		}
		if again, err := ParseMade(m.String()); err != nil || again != m {
			t.Fatalf("%q is %+v, which is written as %q and read as %+v: %v", s, m, m, again, err)
		}
	})
}

// TestNames holds names to what libvirt takes and to belonging to one deployment.
func TestNames(t *testing.T) {
	long := strings.Repeat("a", 63)
	for name, tt := range map[string]struct {
		device     contracts.DeviceID
		deployment contracts.DeploymentName
		machine    string
	}{
		"short":               {"pi", "shop", "till"},
		"of usual length":     {"shop-montreal-12", "signage", "windows-till"},
		"a long device":       {contracts.DeviceID(long), "shop", "till"},
		"a long deployment":   {"pi", contracts.DeploymentName(long[:52]), "till"},
		"a long machine":      {"pi", "shop", long[:40]},
		"everything is long":  {contracts.DeviceID(long), contracts.DeploymentName(long[:52]), long[:40]},
		"exactly what fits":   {contracts.DeviceID(long[:20]), "abcd", long[:31]},
		"one more than fits":  {contracts.DeviceID(long[:20]), "abcde", long[:32]},
		"a deployment of hex": {"pi", "0123456789", "till"},
	} {
		t.Run(name, func(t *testing.T) {
			ds := score(func(k *contracts.KVMScore) {
				k.Machines[0].Name, k.Machines[0].Disks[0].Name, k.Networks[0].Name, k.Volumes[0].Name = tt.machine, tt.machine, tt.machine, tt.machine
				k.Machines[0].Disks[1].Volume, k.Machines[0].Interfaces[0].Network = tt.machine, tt.machine
			})
			ds.Deployment = tt.deployment
			d, err := Compile(ds, tt.device)
			if err != nil {
				t.Fatal(err)
			}
			m := d.Machines[0]
			seen := map[string]bool{}
			for kind, name := range map[string]string{"domain": m.Domain, "network": d.Networks[0].LibvirtName, "volume": d.Volumes[0].Volume, "disk": m.Disks[0].Volume, "seed": m.Seed} {
				if len(name) > maxName || !strings.HasPrefix(name, Prefix(tt.device, tt.deployment)) {
					t.Errorf("%s is named %s", kind, name)
				}
				if of := kind == "disk" || kind == "seed"; OfMachine(name) != of {
					t.Errorf("%s %s goes with its machine: %v", kind, name, !of)
				}
				if of := strings.Contains(name, "."); of && seen[name] {
					t.Errorf("two volumes are named %s", name)
				}
				seen[name] = true
			}
		})
	}
	if a, b := Prefix("pi", "shop"), Prefix("pi", "shop-2"); strings.HasPrefix(b, a) {
		t.Errorf("%s begins with %s", b, a)
	}
}

func TestDisksOfTwoImagesHaveTwoNames(t *testing.T) {
	a, b := compile(t), compile(t, first(func(m *contracts.Machine) { m.Disks[0].Image = "debian-13.qcow2" }))
	if a.Machines[0].Disks[0].Volume == b.Machines[0].Disks[0].Volume || a.Machines[0].Seed == b.Machines[0].Seed {
		t.Errorf("%+v and %+v", a.Machines[0], b.Machines[0])
	}
	if a.Machines[0].Disks[1] != b.Machines[0].Disks[1] {
		t.Error("a volume for data is another with another image")
	}
}
