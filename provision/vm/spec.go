// Package vm makes machines on KVM hosts, and looks after them.
//
// Each is a domain of libvirt with a disk that is a copy on write of an image, a seed for
// cloud-init, and, where it is to join a fleet, a disk with the agent. What fails leaves
// neither domain nor volume.
package vm

import (
	"errors"
	"fmt"

	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/provision/cloudimage"
	"github.com/nationtech/fleet/provision/libvirt"
)

// Spec is a machine as it should be made.
type Spec struct {
	// Name is that of the machine, its host name and its device ID.
	Name string
	Arch libvirt.Arch
	// Type is the machine type; empty is the usual one of the architecture.
	Type        string
	CPUs        int
	MemoryBytes int64
	// DiskBytes is the size of its disk; 0 is that of the image.
	DiskBytes uint64
	Image     cloudimage.Disk
	// Seed is the disk for cloud-init, and Agent the one with the agent, which may be nil.
	Seed, Agent []byte
	Pool        Pool
	Network     Network
	// Emulate does not try KVM.
	Emulate bool
}

// Options are what a machine is made with.
type Options struct {
	Talk Talk
	// Tried remembers on which hosts KVM works; nil tries each time.
	Tried *Tried
}

// Talk is told how it goes on. Each may be nil.
type Talk struct {
	// Doing is what is begun, Done what has ended well, and Warn what a person should know.
	Doing, Done, Warn func(format string, args ...any)
}

func say(to func(string, ...any), format string, args ...any) {
	if to != nil {
		to(format, args...)
	}
}

// leastMemory is less than any system with an agent needs.
const leastMemory = 128 << 20

// Check says all that is wrong with it whatever the host.
func (s Spec) Check() error {
	var wrong []error
	if _, err := contracts.ParseDeviceID(s.Name); err != nil {
		wrong = append(wrong, fmt.Errorf("machine %q: its name is its device ID: %w", s.Name, err))
	}
	if s.CPUs < 1 {
		wrong = append(wrong, fmt.Errorf("machine %s: %d processors: it needs one at least", s.Name, s.CPUs))
	}
	if s.MemoryBytes < leastMemory {
		wrong = append(wrong, fmt.Errorf("machine %s: %s of memory are not enough: it needs %s at least", s.Name, cloudimage.Bytes(s.MemoryBytes), cloudimage.Bytes(int64(leastMemory))))
	}
	if s.DiskBytes != 0 && s.DiskBytes < s.Image.Capacity {
		wrong = append(wrong, fmt.Errorf("machine %s: a disk of %s is smaller than its image, which has %s", s.Name, cloudimage.Bytes(s.DiskBytes), cloudimage.Bytes(s.Image.Capacity)))
	}
	return errors.Join(wrong...)
}

// ownerName marks the domains of this package among those that the agent makes.
const ownerName = "vm"

func owner(name string) libvirt.Owner { return libvirt.Owner{Device: name, Name: ownerName} }

// isOurs reports whether a machine was made by this package.
func isOurs(m libvirt.MachineStatus) bool { return ours(m.Owner) || ours(m.Next) }

func ours(o libvirt.Owner) bool { return o.Name == ownerName && o.Deployment == "" && o.Device != "" }

// MAC is the hardware address of a machine. It follows from the name, so that a machine
// that is made again has its old address.
func MAC(name string) libvirt.MAC { return libvirt.MACFor(ownerName, name) }

// volumes are the names of a machine's volumes: its own disk, the seed and the agent's.
func volumes(name string) (disk, seed, agent string) {
	return "vm-" + name + "-disk.qcow2", "vm-" + name + "-seed.iso", "vm-" + name + "-agent.iso"
}

// imageVolume is the name of an image's volume, which many machines share. It follows from
// what is in it.
func imageVolume(d cloudimage.Disk) string {
	return "image-" + d.Sum.Hex[:min(16, len(d.Sum.Hex))] + "." + d.Format
}

// machine is the domain of a spec.
func (s Spec) machine(machineType string, emulated bool) libvirt.Machine {
	disk, seed, agent := volumes(s.Name)
	m := libvirt.Machine{
		Name: s.Name, Title: "fleet: " + s.Name, Owner: owner(s.Name),
		Arch: s.Arch, Type: machineType, Emulated: emulated,
		CPUs: s.CPUs, MemoryBytes: s.MemoryBytes,
		Disks: []libvirt.Disk{
			{Pool: s.Pool.Name, Volume: disk, Target: "vda", Format: cloudimage.QCOW2},
			// Not as a CD-ROM: the kernels of cloud images have no driver for its bus.
			{Pool: s.Pool.Name, Volume: seed, Target: "vdb", Format: cloudimage.Raw, ReadOnly: true},
		},
		Interfaces: []libvirt.Interface{{Network: s.Network.Name, MAC: MAC(s.Name)}},
		Console:    true, GuestAgent: true,
	}
	if s.Agent != nil {
		m.Disks = append(m.Disks, libvirt.Disk{Pool: s.Pool.Name, Volume: agent, Target: "vdc", Format: cloudimage.Raw, ReadOnly: true})
	}
	return m
}
