package libvirt

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"regexp"

	rpc "github.com/digitalocean/go-libvirt"
)

// Machine is a virtual machine as it should be: libvirt's domain.
type Machine struct {
	Name  string
	Title string
	Owner Owner
	Arch  Arch
	// Type is the machine type, q35 or virt when empty. Host.MachineType checks it.
	Type string
	// Emulated machines run without KVM: anywhere, and many times slower.
	Emulated bool
	// CPUs and MemoryBytes can be changed while the machine runs, up to their maxima,
	// which are the same when zero.
	CPUs           int
	MaxCPUs        int
	MemoryBytes    int64
	MaxMemoryBytes int64
	Disks          []Disk
	Interfaces     []Interface
	// Kernel, Initrd and Cmdline boot a kernel without a boot loader; files on the host.
	Kernel, Initrd, Cmdline string
	// Console is a serial console, which virtlogd writes down: see ConsoleLog.
	Console bool
	// GuestAgent is the channel that qemu-guest-agent talks through.
	GuestAgent bool
}

// Disk is a volume as a machine's disk.
type Disk struct {
	Pool, Volume string
	// Target is the name of the disk, vda, vdb and so on, which is its place on the bus.
	Target   string
	ReadOnly bool
	// Format is qcow2, which is meant when it is empty, or raw.
	Format string
}

// Interface is a network card: on a network of libvirt's or on a bridge of the host's.
type Interface struct {
	Network string
	Bridge  string
	// MAC is left to libvirt when it is zero, which makes up a new one at each Define.
	MAC MAC
}

// State is what a machine does.
type State string

// The states of a machine. Crashed is for one whose remains are kept; one that crashed and
// is cleared away is shut off, with the reason crashed.
const (
	StateRunning State = "running"
	StatePaused  State = "paused"
	StateShutOff State = "shut off"
	StateCrashed State = "crashed"
	StateOther   State = "other"
)

// MachineStatus is a machine as libvirt knows it.
type MachineStatus struct {
	Name, UUID string
	// Owner is whose it is, as it runs: its Hash is that of what was started, or changed
	// since by SetOwner. Zero for a machine that somebody else made.
	Owner Owner
	// Next is the owner in the definition, which the next start takes.
	Next        Owner
	State       State
	Reason      string
	CPUs        int
	MemoryBytes int64
	// MaxCPUs and MaxMemoryBytes are what CPUs and MemoryBytes can be changed to without
	// a restart.
	MaxCPUs        int
	MaxMemoryBytes int64
	// ID is libvirt's number of a machine that runs, another one after each start; −1 of
	// one that doesn't.
	ID         int32
	Persistent bool
	Autostart  bool
}

// Active reports whether the machine has been started and has not ended, be it paused.
func (s MachineStatus) Active() bool { return s.ID > 0 }

// diskTargets are the names that virtio disks have.
var diskTargets = regexp.MustCompile(`^vd[a-z]$`)

// check refuses a machine that is wrong wherever it runs.
func (m Machine) check() error {
	if err := checkName("machine", m.Name); err != nil {
		return err
	}
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("machine %s: %s", m.Name, fmt.Sprintf(format, args...))
	}
	switch {
	case m.Arch != X86_64 && m.Arch != AArch64:
		return wrong("architecture %q: want x86_64 or aarch64", m.Arch)
	case m.CPUs < 1:
		return wrong("%d CPUs: at least one is needed", m.CPUs)
	case m.MaxCPUs != 0 && m.MaxCPUs < m.CPUs:
		return wrong("%d CPUs are more than its maximum, %d", m.CPUs, m.MaxCPUs)
	case m.MemoryBytes < 1<<20:
		return wrong("%d bytes of memory: at least 1 MiB is needed", m.MemoryBytes)
	case m.MaxMemoryBytes != 0 && m.MaxMemoryBytes < m.MemoryBytes:
		return wrong("%d bytes of memory are more than its maximum, %d", m.MemoryBytes, m.MaxMemoryBytes)
	case m.Kernel == "" && (m.Initrd != "" || m.Cmdline != ""):
		return wrong("an initrd or a command line is for a kernel, and there is none")
	}
	targets := map[string]bool{}
	for _, d := range m.Disks {
		switch {
		case d.Pool == "" || d.Volume == "":
			return wrong("disk %s names no pool or no volume", d.Target)
		case !diskTargets.MatchString(d.Target):
			return wrong("disk target %q: want vda to vdz", d.Target)
		case targets[d.Target]:
			return wrong("two disks are %s", d.Target)
		case d.format() != "qcow2" && d.format() != "raw":
			return wrong("disk %s: format %q: want qcow2 or raw", d.Target, d.Format)
		}
		targets[d.Target] = true
	}
	for i, n := range m.Interfaces {
		if (n.Network == "") == (n.Bridge == "") {
			return wrong("network card %d: name either a network or a bridge", i+1)
		}
	}
	return nil
}

// statusXML is what is read of a machine.
type statusXML struct {
	Name          string      `xml:"name"`
	UUID          string      `xml:"uuid"`
	Memory        quantityXML `xml:"memory"`
	CurrentMemory quantityXML `xml:"currentMemory"`
	VCPU          vcpuXML     `xml:"vcpu"`
}

func parseStatus(text []byte) (MachineStatus, error) {
	var read statusXML
	if err := xml.Unmarshal(text, &read); err != nil {
		return MachineStatus{}, fmt.Errorf("read a machine: %w", err)
	}
	owner, err := ownerOf(text)
	if err != nil {
		return MachineStatus{}, err
	}
	s := MachineStatus{
		Name: read.Name, UUID: read.UUID, Owner: owner, Next: owner, ID: -1,
		CPUs: read.VCPU.Current, MaxCPUs: read.VCPU.Max,
		MemoryBytes: int64(read.CurrentMemory.Value) << 10, MaxMemoryBytes: int64(read.Memory.Value) << 10,
	}
	if s.CPUs == 0 {
		s.CPUs = s.MaxCPUs
	}
	if s.MemoryBytes == 0 {
		s.MemoryBytes = s.MaxMemoryBytes
	}
	return s, nil
}

// Machines are all that libvirt knows, whoever made them.
func (c *Conn) Machines(ctx context.Context) ([]MachineStatus, error) {
	domains, err := call(ctx, c, "list the machines", func() ([]rpc.Domain, error) {
		found, _, err := c.rpc.ConnectListAllDomains(1, rpc.ConnectListDomainsActive|rpc.ConnectListDomainsInactive)
		return found, err
	})
	if err != nil {
		return nil, err
	}
	all := make([]MachineStatus, 0, len(domains))
	for _, d := range domains {
		s, err := c.status(ctx, d)
		if errors.Is(err, ErrNotFound) {
			continue // ended since, and had no definition
		}
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// Machine is the one of that name.
func (c *Conn) Machine(ctx context.Context, name string) (MachineStatus, error) {
	d, err := c.lookup(ctx, name)
	if err != nil {
		return MachineStatus{}, err
	}
	return c.status(ctx, d)
}

func (c *Conn) lookup(ctx context.Context, name string) (rpc.Domain, error) {
	return call(ctx, c, "look for machine "+name, func() (rpc.Domain, error) {
		return c.rpc.DomainLookupByName(name)
	})
}

// status asks all there is to know about d.
func (c *Conn) status(ctx context.Context, d rpc.Domain) (MachineStatus, error) {
	return call(ctx, c, "look at machine "+d.Name, func() (MachineStatus, error) {
		text, err := c.rpc.DomainGetXMLDesc(d, 0)
		if err != nil {
			return MachineStatus{}, err
		}
		s, err := parseStatus([]byte(text))
		if err != nil {
			return MachineStatus{}, err
		}
		state, reason, err := c.rpc.DomainGetState(d, 0)
		if err != nil {
			return MachineStatus{}, err
		}
		s.State, s.Reason = stateOf(rpc.DomainState(state)), reasonOf(rpc.DomainState(state), reason)
		persistent, err := c.rpc.DomainIsPersistent(d)
		if err != nil {
			return MachineStatus{}, err
		}
		autostart, err := c.rpc.DomainGetAutostart(d)
		if err != nil {
			return MachineStatus{}, err
		}
		s.Persistent, s.Autostart = persistent == 1, autostart == 1
		// The number that came with the list may be that of an earlier start.
		if now, err := c.rpc.DomainLookupByUUID(d.UUID); err == nil && now.ID > 0 {
			s.ID = now.ID
		}
		if s.ID < 0 || !s.Persistent {
			return s, nil
		}
		if text, err = c.rpc.DomainGetXMLDesc(d, rpc.DomainXMLInactive); err != nil {
			return MachineStatus{}, err
		}
		s.Next, err = ownerOf([]byte(text))
		return s, err
	})
}

// ours is the machine of that name, ErrNotOurs if it has no owner.
func (c *Conn) ours(ctx context.Context, name string) (rpc.Domain, MachineStatus, error) {
	d, err := c.lookup(ctx, name)
	if err != nil {
		return d, MachineStatus{}, err
	}
	s, err := c.status(ctx, d)
	if err != nil {
		return d, s, err
	}
	if s.Owner.Zero() && s.Next.Zero() {
		return d, s, asKind(ErrNotOurs, "machine %s was not made by fleet: it is left as it is", name)
	}
	return d, s, nil
}
