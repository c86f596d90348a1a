// Package preflight says what a host lacks for machines, and how to get it: all at once, so
// that nobody has to mend one thing to hear of the next.
package preflight

import (
	"fmt"

	"github.com/nationtech/fleet/provision/cloudimage"
	"github.com/nationtech/fleet/provision/libvirt"
)

// Level is how bad a finding is.
type Level string

// Levels. Of Bad ones no machine can be made.
const (
	Good Level = "good"
	Warn Level = "warn"
	Bad  Level = "bad"
)

// Finding is one thing that was looked at.
type Finding struct {
	Level Level `json:"level"`
	// What was looked at, how it is, and what to do about it.
	What    string `json:"what"`
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
}

// Want is what the machines will be.
type Want struct {
	Arch libvirt.Arch
	// Bytes is what their disks may come to take in the pool; 0 where that is not known.
	Bytes uint64
	// OtherNetwork has them on a network that somebody else looks after, and that may give
	// addresses in another way.
	OtherNetwork bool
	// Setup is the command that prepares the host.
	Setup string
	// Image and Agent look for what is on this machine. One that is nil is left out.
	Image, Agent func() error
}

// Facts are what was found.
type Facts struct {
	Host string
	// Libvirt is why it does not answer, and Version what it is otherwise.
	Libvirt error
	Version string
	// DevKVM reports whether /dev/kvm is there; Tried is what is known of it since the host
	// was booted.
	DevKVM  bool
	Tried   *bool
	Dnsmasq bool
	// Emulator is why machines of the architecture can't run, KVM whether libvirt claims it
	// for them.
	Emulator error
	KVM      bool
	// Pool is the storage pool; NoPool reports that there is none yet, and PoolError why it
	// could not be looked at.
	Pool      libvirt.PoolStatus
	NoPool    bool
	PoolError error
	// Image and Agent are what is wrong with them.
	Image, Agent error
}

// Judge says of each thing how it is. What could not be looked at since libvirt does not
// answer is left out.
func Judge(f Facts, w Want) []Finding {
	var all []Finding
	add := func(level Level, what, remedy, format string, args ...any) {
		all = append(all, Finding{Level: level, What: what, Message: fmt.Sprintf(format, args...), Remedy: remedy})
	}
	if f.Libvirt != nil {
		add(Bad, "libvirt", w.Setup, "%v", f.Libvirt)
	} else {
		add(Good, "libvirt", "", "version %s answers on %s", f.Version, f.Host)
	}
	switch {
	case !f.DevKVM:
		add(Warn, "KVM", "enable virtualisation in the host's firmware, or nested virtualisation where the host is itself a machine; then: modprobe kvm_intel, or kvm_amd",
			"there is no /dev/kvm: machines are emulated, many times slower")
	case f.Tried != nil && !*f.Tried:
		add(Warn, "KVM", "look what the host itself runs on; its next boot has KVM tried again", "/dev/kvm is there and has not booted a machine: machines are emulated, many times slower")
	case f.Tried == nil:
		add(Good, "KVM", "", "/dev/kvm is there; the first machine shows whether it works")
	default:
		add(Good, "KVM", "", "it has booted a machine since the host was started")
	}
	switch {
	case f.Dnsmasq:
		add(Good, "dnsmasq", "", "it is there, and gives machines addresses")
	case w.OtherNetwork:
		add(Good, "dnsmasq", "", "it is not installed, and not needed for a network that is not fleet's")
	default:
		add(Bad, "dnsmasq", w.Setup, "it is not installed: machines on a network of fleet's would have no addresses")
	}
	if f.Libvirt == nil {
		all = append(all, judgeLibvirt(f, w)...)
	}
	if f.Image != nil {
		add(Bad, "image", "", "%v", f.Image)
	}
	if f.Agent != nil {
		add(Bad, "agent", "", "%v", f.Agent)
	}
	return all
}

// judgeLibvirt judges what only libvirt knows.
func judgeLibvirt(f Facts, w Want) []Finding {
	var all []Finding
	add := func(level Level, what, remedy, format string, args ...any) {
		all = append(all, Finding{Level: level, What: what, Message: fmt.Sprintf(format, args...), Remedy: remedy})
	}
	switch {
	case f.Emulator != nil:
		add(Bad, "emulator", w.Setup, "%v", f.Emulator)
	default:
		add(Good, "emulator", "", "machines of %s can run", w.Arch)
	}
	switch {
	case f.PoolError != nil:
		add(Bad, "storage pool", "", "%v", f.PoolError)
	case f.NoPool:
		add(Good, "storage pool", "", "%s is not there yet; the first machine makes it", f.Pool.Name)
	case w.Bytes > f.Pool.Available:
		add(Bad, "storage pool", "make room there, or name another pool with --pool or HARMONY_FLEET_POOL_NAME",
			"%s in %s has %s left, and %s are needed", f.Pool.Name, f.Pool.Path, cloudimage.Bytes(f.Pool.Available), cloudimage.Bytes(w.Bytes))
	default:
		add(Good, "storage pool", "", "%s in %s has %s left", f.Pool.Name, f.Pool.Path, cloudimage.Bytes(f.Pool.Available))
	}
	return all
}

// Worst is the worst level of all.
func Worst(all []Finding) Level {
	worst := Good
	for _, f := range all {
		if f.Level == Bad || f.Level == Warn && worst == Good {
			worst = f.Level
		}
	}
	return worst
}
