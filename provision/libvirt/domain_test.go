package libvirt

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", path, diff)
	}
}

// aMachine has one of everything.
func aMachine() Machine {
	return Machine{
		Name: "shop-web", Title: "web of deployment shop",
		Owner: Owner{Device: "edge-1", Deployment: "shop", Name: "web", Hash: "h1"},
		Arch:  X86_64, Type: "q35",
		CPUs: 2, MaxCPUs: 4, MemoryBytes: 512 << 20, MaxMemoryBytes: 1 << 30,
		Disks: []Disk{
			{Pool: "harmony-fleet", Volume: "shop-web.qcow2", Target: "vda"},
			{Pool: "harmony-fleet", Volume: "shop-web-seed", Target: "vdb", ReadOnly: true, Format: "raw"},
		},
		Interfaces: []Interface{
			{Network: "shop", MAC: MustMAC("52:54:00:ab:cd:ef")},
			{Bridge: "br0"},
		},
		Console: true, GuestAgent: true,
	}
}

func TestAMachineIsWrittenAsLibvirtTakesIt(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Machine)
	}{
		{"x86_64-q35-kvm.xml", func(m *Machine) {}},
		{"x86_64-q35-emulated.xml", func(m *Machine) { m.Emulated = true }},
		{"x86_64-pc-kvm.xml", func(m *Machine) { m.Type = "pc" }},
		{"x86_64-kernel-emulated.xml", func(m *Machine) {
			*m = Machine{
				Name: "tiny", Owner: m.Owner, Arch: X86_64, Emulated: true, CPUs: 1, MemoryBytes: 64<<20 + 1,
				Kernel: "/var/lib/fleet/vmlinuz", Initrd: "/var/lib/fleet/initrd", Cmdline: `console=ttyS0 quiet "a b"`,
			}
		}},
		{"aarch64-virt-kvm.xml", func(m *Machine) { m.Arch, m.Type = AArch64, "" }},
		{"aarch64-virt-emulated.xml", func(m *Machine) { m.Arch, m.Type, m.Emulated = AArch64, "virt", true }},
		{"aarch64-kernel-emulated.xml", func(m *Machine) {
			*m = Machine{
				Name: "tiny", Owner: m.Owner, Arch: AArch64, Emulated: true, CPUs: 1, MemoryBytes: 64 << 20,
				Kernel: "/vmlinuz", Initrd: "/initrd",
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := aMachine()
			test.change(&m)
			text, err := m.XML()
			if err != nil {
				t.Fatal(err)
			}
			golden(t, test.name, text)
			is, err := parseStatus(text)
			if err != nil {
				t.Fatal(err)
			}
			if is.Name != m.Name || is.Owner != m.Owner || is.CPUs != m.CPUs || is.MemoryBytes < m.MemoryBytes {
				t.Errorf("it is read back as %+v", is)
			}
		})
	}
}

func TestAMachineThatCannotBeIsRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Machine)
		want   string
	}{
		{"no name", func(m *Machine) { m.Name = "" }, "needs a name"},
		{"a name that is a path", func(m *Machine) { m.Name = "a/b" }, `"a/b"`},
		{"a name that goes up", func(m *Machine) { m.Name = "a..b" }, "two dots"},
		{"a name that is an option", func(m *Machine) { m.Name = "-a" }, `"-a"`},
		{"a name with a line break", func(m *Machine) { m.Name = "a\nb" }, `"a\nb"`},
		{"a name too long", func(m *Machine) { m.Name = strings.Repeat("a", 64) }, "longer than 63"},
		{"an unknown architecture", func(m *Machine) { m.Arch = "riscv64" }, `"riscv64"`},
		{"no CPU", func(m *Machine) { m.CPUs = 0 }, "0 CPUs"},
		{"more CPUs than the maximum", func(m *Machine) { m.CPUs = 5 }, "maximum, 4"},
		{"no memory", func(m *Machine) { m.MemoryBytes = 0 }, "0 bytes of memory"},
		{"negative memory", func(m *Machine) { m.MemoryBytes = -1 }, "-1 bytes of memory"},
		{"more memory than the maximum", func(m *Machine) { m.MemoryBytes = 2 << 30 }, "maximum"},
		{"an initrd without a kernel", func(m *Machine) { m.Initrd = "/initrd" }, "there is none"},
		{"two disks at one place", func(m *Machine) { m.Disks[1].Target = "vda" }, "two disks are vda"},
		{"a disk at no place", func(m *Machine) { m.Disks[1].Target = "sda" }, "vda to vdz"},
		{"a disk of no volume", func(m *Machine) { m.Disks[0].Volume = "" }, "no volume"},
		{"a disk of an unknown format", func(m *Machine) { m.Disks[0].Format = "vmdk" }, `"vmdk"`},
		{"a network card on nothing", func(m *Machine) { m.Interfaces[1].Bridge = "" }, "card 2"},
		{"a network card on both", func(m *Machine) { m.Interfaces[0].Bridge = "br0" }, "card 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := aMachine()
			test.change(&m)
			text, err := m.XML()
			if err == nil {
				t.Fatalf("it is written:\n%s", text)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error does not say %q: %v", test.want, err)
			}
		})
	}
}
