// Package facts is what a device can say about itself.
package facts

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nationtech/fleet/contracts"
)

// Where Linux tells.
const (
	osRelease = "/etc/os-release"
	bootID    = "/proc/sys/kernel/random/boot_id"
	memInfo   = "/proc/meminfo"
)

// Gather collects what there is to know; stateDir is on the disk whose size
// counts. What can't be found out is left out.
func Gather(stateDir string) contracts.DeviceInfo {
	i := contracts.DeviceInfo{
		OS: operatingSystem(), Arch: runtime.GOARCH, Kernel: kernel(), BootID: BootID(), Addresses: addresses(),
		Capacity: contracts.Capacity{CPUs: runtime.NumCPU(), MemoryBytes: memory(), StorageBytes: storage(stateDir)},
	}
	i.Hostname, _ = os.Hostname() // without one there is none to tell
	return i
}

// BootID changes with each boot; empty when the system does not tell.
func BootID() string {
	data, err := os.ReadFile(bootID)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// operatingSystem is the name as in os-release(5).
func operatingSystem() string {
	name, ok := value(osRelease, "PRETTY_NAME=")
	if !ok {
		return runtime.GOOS
	}
	if text, err := strconv.Unquote(name); err == nil {
		return text
	}
	return name
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func memory() int64 {
	text, ok := value(memInfo, "MemTotal:")
	if !ok {
		return 0
	}
	var kib int64
	if _, err := fmt.Sscanf(text, "%d kB", &kib); err != nil {
		return 0
	}
	return kib << 10
}

func storage(dir string) int64 {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0
	}
	return int64(s.Blocks) * s.Bsize
}

// maxAddresses is how many are told: a device with many pods has many bridges.
const maxAddresses = 16

// addresses are the device's own, without loopback and link-local ones.
func addresses() []string {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var out []string
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			out = append(out, n.IP.String())
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), maxAddresses)]
}

// value finds the line with a prefix and returns the rest of it.
func value(file, prefix string) (string, bool) {
	f, err := os.Open(file)
	if err != nil {
		return "", false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), prefix); ok {
			return strings.TrimSpace(rest), true
		}
	}
	return "", false
}
