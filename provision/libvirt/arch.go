package libvirt

import (
	"fmt"
	"runtime"
)

// Arch is what a machine's processor is, in libvirt's words.
type Arch string

// The architectures of machines.
const (
	X86_64  Arch = "x86_64"
	AArch64 Arch = "aarch64"
)

// ParseArch reads an architecture by libvirt's name or by Go's.
func ParseArch(s string) (Arch, error) {
	switch s {
	case "x86_64", "amd64":
		return X86_64, nil
	case "aarch64", "arm64":
		return AArch64, nil
	}
	return "", fmt.Errorf("architecture %q: want x86_64 or aarch64", s)
}

// HostArch is what this program runs on.
func HostArch() Arch {
	if arch, err := ParseArch(runtime.GOARCH); err == nil {
		return arch
	}
	return Arch(runtime.GOARCH)
}

// defaultType is the machine type that is taken when none is asked for.
func (a Arch) defaultType() string {
	if a == AArch64 {
		return "virt"
	}
	return "q35"
}

// emulatorPackage is what brings the emulator for a on Debian; other distributions name
// theirs after the binary.
func (a Arch) emulatorPackage() string {
	switch a {
	case AArch64:
		return "qemu-system-arm and qemu-efi-aarch64"
	case X86_64:
		return "qemu-system-x86"
	}
	return "qemu-system"
}
