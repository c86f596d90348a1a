package libvirt

import (
	"os"
	"strings"
	"testing"
)

func TestWhatAHostCanRunStandsInItsCapabilities(t *testing.T) {
	text, err := os.ReadFile("testdata/capabilities.xml")
	if err != nil {
		t.Fatal(err)
	}
	h, err := parseCapabilities(text)
	if err != nil {
		t.Fatal(err)
	}
	if h.Arch != X86_64 || len(h.Guests) != 2 {
		t.Fatalf("the host is %s with %d kinds of machines, want x86_64 with 2", h.Arch, len(h.Guests))
	}
	for _, test := range []struct {
		arch Arch
		kvm  bool
	}{{X86_64, true}, {AArch64, false}} {
		if g, err := h.Guest(test.arch); err != nil || g.KVM != test.kvm {
			t.Errorf("%s: KVM is %v, %v", test.arch, g.KVM, err)
		}
	}
	for _, test := range []struct {
		name    string
		arch    Arch
		want    string
		got     string
		refused []string
	}{
		{"the default of x86_64", X86_64, "", "q35", nil},
		{"the default of aarch64", AArch64, "", "virt", nil},
		{"an alias", X86_64, "pc", "pc", nil},
		{"a certain version", X86_64, "pc-q35-7.2", "pc-q35-7.2", nil},
		{"one of KVM alone", X86_64, "pc-q35-7.1", "pc-q35-7.1", nil},
		{"a typing error", X86_64, "q36", "", []string{`"q36"`, "there is q35, "}},
		{"one of another architecture", AArch64, "q35", "", []string{"aarch64"}},
		{"one in capitals", X86_64, "Q35", "", []string{"there is q35"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := h.MachineType(test.arch, test.want)
			if got != test.got || (err != nil) != (test.refused != nil) {
				t.Fatalf("%q, %v", got, err)
			}
			for _, part := range test.refused {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error does not say %q: %v", part, err)
				}
			}
		})
	}
}

func TestAHostWithoutTheEmulatorNamesThePackage(t *testing.T) {
	_, err := Host{Arch: X86_64}.Guest(AArch64)
	if err == nil || !strings.Contains(err.Error(), "qemu-system-arm") {
		t.Errorf("it does not say which: %v", err)
	}
	if _, err := (Host{}).MachineType(X86_64, ""); err == nil || !strings.Contains(err.Error(), "qemu-system-x86") {
		t.Errorf("it does not say which: %v", err)
	}
}

func TestArchitecturesAreKnownByBothNames(t *testing.T) {
	for in, want := range map[string]Arch{"x86_64": X86_64, "amd64": X86_64, "aarch64": AArch64, "arm64": AArch64, "arm": "", "": ""} {
		if got, err := ParseArch(in); got != want || (err != nil) != (want == "") {
			t.Errorf("%q is read as %q, %v", in, got, err)
		}
	}
}
