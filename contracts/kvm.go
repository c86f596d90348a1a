package contracts

import (
	"fmt"
	"net/netip"
	"regexp"
)

// KVMScore are virtual machines in the form in which a device runs them: references
// resolved, defaults filled in, quantities as numbers. What follows from the device, such
// as its architecture or an address of an interface, the device fills in. The API's form
// is api/v1alpha1.KVMScore.
type KVMScore struct {
	Machines []Machine        `json:"machines"`
	Networks []MachineNetwork `json:"networks,omitempty"`
	Volumes  []MachineVolume  `json:"volumes,omitempty"`
}

// Machine is one virtual machine.
type Machine struct {
	Name string `json:"name"`
	CPUs int    `json:"cpus"`
	// MaxCPUs and MaxMemoryBytes are 0 where nobody has said.
	MaxCPUs        int   `json:"maxCPUs,omitempty"`
	MemoryBytes    int64 `json:"memoryBytes"`
	MaxMemoryBytes int64 `json:"maxMemoryBytes,omitempty"`
	// Arch and Type are empty for the device's own.
	Arch       string             `json:"arch,omitempty"`
	Type       string             `json:"type,omitempty"`
	Disks      []Disk             `json:"disks,omitempty"`
	Interfaces []MachineInterface `json:"interfaces,omitempty"`
	CloudInit  *CloudInit         `json:"cloudInit,omitempty"`
	Console    bool               `json:"console,omitempty"`
	Readiness  *MachineProbe      `json:"readiness,omitempty"`
	// StopSeconds is the time from the request to shut down to the cut of its power.
	StopSeconds int64 `json:"stopSeconds"`
}

// Disk is a disk of a machine; exactly one of Image and Volume is set.
type Disk struct {
	Name string `json:"name"`
	// Image is a volume of the device's pool that the disk begins as, SizeBytes 0 for
	// its size.
	Image     string `json:"image,omitempty"`
	SizeBytes int64  `json:"sizeBytes,omitempty"`
	// Volume is one of the score's.
	Volume   string `json:"volume,omitempty"`
	ReadOnly bool   `json:"readOnly,omitempty"`
}

// MachineInterface is an interface of a machine; exactly one of Network and Bridge is
// set.
type MachineInterface struct {
	Name string `json:"name"`
	// Network is one of the score's, Bridge one of the device.
	Network string `json:"network,omitempty"`
	Bridge  string `json:"bridge,omitempty"`
	// MAC is empty for one that follows from the names.
	MAC string `json:"mac,omitempty"`
}

// CloudInit is what cloud-init sets a machine up with. At most one of UserData and
// SecretUserData is set.
type CloudInit struct {
	UserData       string  `json:"userData,omitempty"`
	SecretUserData *Secret `json:"secretUserData,omitempty"`
	NetworkConfig  string  `json:"networkConfig,omitempty"`
}

// MachineProbe looks whether a machine is well; exactly one of HTTP, TCP and GuestAgent
// is set. Times are in seconds.
type MachineProbe struct {
	HTTP             *HTTPProbe `json:"http,omitempty"`
	TCP              *TCPProbe  `json:"tcp,omitempty"`
	GuestAgent       bool       `json:"guestAgent,omitempty"`
	InitialDelay     int32      `json:"initialDelay,omitempty"`
	Timeout          int32      `json:"timeout"`
	Period           int32      `json:"period"`
	FailureThreshold int32      `json:"failureThreshold"`
}

// MachineNetwork is a network that machines share.
type MachineNetwork struct {
	Name string `json:"name"`
	// Mode is NAT, Isolated or Bridge.
	Mode string `json:"mode"`
	// CIDR is empty for a network in which the device has no address.
	CIDR string `json:"cidr,omitempty"`
	DHCP bool   `json:"dhcp,omitempty"`
	// Bridge is one of the device, of the mode of that name.
	Bridge string `json:"bridge,omitempty"`
}

// Modes of a network.
const (
	NetworkNAT      = "NAT"
	NetworkIsolated = "Isolated"
	NetworkBridge   = "Bridge"
)

// MachineVolume is a disk that outlives machines.
type MachineVolume struct {
	Name      string `json:"name"`
	SizeBytes int64  `json:"sizeBytes"`
}

// Bounds of machines, as the API has them.
const (
	maxMachines      = 8
	maxMachineParts  = 16
	maxMachineName   = 40
	maxMachineCPUs   = 128
	maxMachineMemory = 1 << 50
	maxDiskSize      = 1 << 60
)

// What names of the device's pool and its interfaces may look like: none can lead out
// of the pool, or be taken for something else in a path.
var (
	poolVolume  = regexp.MustCompile(`^[A-Za-z0-9][-._A-Za-z0-9]{0,127}$`)
	bridgeName  = regexp.MustCompile(`^[A-Za-z0-9][-._A-Za-z0-9]{0,14}$`)
	macAddress  = regexp.MustCompile(`^[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}$`)
	machineType = regexp.MustCompile(`^[A-Za-z0-9][-.A-Za-z0-9]{0,63}$`)
)

func (k *KVMScore) validate() error {
	if len(k.Machines) == 0 {
		return fmt.Errorf("field score.kvm.machines is empty")
	}
	if err := firstError(
		atMost("score.kvm.machines", len(k.Machines), maxMachines),
		atMost("score.kvm.networks", len(k.Networks), maxMachines),
		atMost("score.kvm.volumes", len(k.Volumes), maxMachineParts),
	); err != nil {
		return err
	}
	volumes, networks, machines := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for i := range k.Volumes {
		v := &k.Volumes[i]
		if err := firstError(part(v.Name, volumes), size("sizeBytes", v.SizeBytes)); err != nil {
			return fmt.Errorf("volume %q: %w", clip(v.Name), err)
		}
	}
	for i := range k.Networks {
		n := &k.Networks[i]
		if err := firstError(part(n.Name, networks), n.validate()); err != nil {
			return fmt.Errorf("network %q: %w", clip(n.Name), err)
		}
	}
	used := map[string]bool{}
	for i := range k.Machines {
		m := &k.Machines[i]
		if err := firstError(part(m.Name, machines), m.validate(volumes, networks, used)); err != nil {
			return fmt.Errorf("machine %q: %w", clip(m.Name), err)
		}
	}
	return nil
}

// part checks a name and that it is there once.
func part(name string, seen map[string]bool) error {
	if !isDNSLabel(name, maxMachineName) {
		return fmt.Errorf("the name is not a DNS label of at most %d characters", maxMachineName)
	}
	if seen[name] {
		return fmt.Errorf("it is there twice")
	}
	seen[name] = true
	return nil
}

func size(field string, bytes int64) error {
	if bytes < 1 || bytes > maxDiskSize {
		return fmt.Errorf("field %s: %d is not from 1 to %d", field, bytes, int64(maxDiskSize))
	}
	return nil
}

func matches(field, s string, pattern *regexp.Regexp) error {
	if !pattern.MatchString(s) {
		return fmt.Errorf("field %s: %q can't be one", field, clip(s))
	}
	return nil
}

func (n *MachineNetwork) validate() error {
	if err := oneOf("mode", n.Mode, NetworkNAT, NetworkIsolated, NetworkBridge); err != nil {
		return err
	}
	if n.Mode == NetworkBridge {
		if n.CIDR != "" || n.DHCP {
			return fmt.Errorf("fields cidr and dhcp are not of a network of mode %s", n.Mode)
		}
		return matches("bridge", n.Bridge, bridgeName)
	}
	if n.Bridge != "" {
		return fmt.Errorf("field bridge is not of a network of mode %s", n.Mode)
	}
	if n.CIDR == "" {
		if n.DHCP || n.Mode == NetworkNAT {
			return fmt.Errorf("field cidr is missing")
		}
		return nil
	}
	if _, err := netip.ParsePrefix(n.CIDR); err != nil {
		return fmt.Errorf("field cidr: %q is not a range of addresses", clip(n.CIDR))
	}
	return nil
}

func (m *Machine) validate(volumes, networks, used map[string]bool) error {
	if m.CPUs < 1 || m.CPUs > maxMachineCPUs || m.MaxCPUs != 0 && (m.MaxCPUs < m.CPUs || m.MaxCPUs > maxMachineCPUs) {
		return fmt.Errorf("fields cpus and maxCPUs: %d and %d are not from 1 to %d, the first not above the second", m.CPUs, m.MaxCPUs, maxMachineCPUs)
	}
	if m.MemoryBytes < 1 || m.MemoryBytes > maxMachineMemory || m.MaxMemoryBytes != 0 && (m.MaxMemoryBytes < m.MemoryBytes || m.MaxMemoryBytes > maxMachineMemory) {
		return fmt.Errorf("fields memoryBytes and maxMemoryBytes: %d and %d are not from 1 to %d, the first not above the second", m.MemoryBytes, m.MaxMemoryBytes, int64(maxMachineMemory))
	}
	if err := firstError(
		oneOf("arch", m.Arch, "", "x86_64", "aarch64"),
		notNegative("stopSeconds", m.StopSeconds),
		m.CloudInit.validate(), m.Readiness.validate(),
		atMost("disks", len(m.Disks), maxMachines), atMost("interfaces", len(m.Interfaces), maxMachines),
	); err != nil {
		return err
	}
	if m.Type != "" {
		if err := matches("type", m.Type, machineType); err != nil {
			return err
		}
	}
	disks, interfaces := map[string]bool{}, map[string]bool{}
	for i := range m.Disks {
		d := &m.Disks[i]
		if err := firstError(part(d.Name, disks), d.validate(volumes, used)); err != nil {
			return fmt.Errorf("disk %q: %w", clip(d.Name), err)
		}
	}
	for i := range m.Interfaces {
		in := &m.Interfaces[i]
		if err := firstError(part(in.Name, interfaces), in.validate(networks)); err != nil {
			return fmt.Errorf("interface %q: %w", clip(in.Name), err)
		}
	}
	return nil
}

func (d *Disk) validate(volumes, used map[string]bool) error {
	switch {
	case (d.Image == "") == (d.Volume == ""):
		return fmt.Errorf("exactly one of image and volume must be set")
	case d.Image != "":
		if d.SizeBytes != 0 {
			if err := size("sizeBytes", d.SizeBytes); err != nil {
				return err
			}
		}
		return matches("image", d.Image, poolVolume)
	case d.SizeBytes != 0:
		return fmt.Errorf("field sizeBytes is not of a disk with a volume")
	case !volumes[d.Volume]:
		return fmt.Errorf("there is no volume %q", clip(d.Volume))
	case used[d.Volume]:
		return fmt.Errorf("volume %q is another disk already", clip(d.Volume))
	}
	used[d.Volume] = true
	return nil
}

func (i *MachineInterface) validate(networks map[string]bool) error {
	if (i.Network == "") == (i.Bridge == "") {
		return fmt.Errorf("exactly one of network and bridge must be set")
	}
	if i.Network != "" && !networks[i.Network] {
		return fmt.Errorf("there is no network %q", clip(i.Network))
	}
	if i.Bridge != "" {
		if err := matches("bridge", i.Bridge, bridgeName); err != nil {
			return err
		}
	}
	if i.MAC == "" {
		return nil
	}
	return matches("mac", i.MAC, macAddress)
}

func (c *CloudInit) validate() error {
	if c == nil || c.SecretUserData == nil {
		return nil
	}
	if c.UserData != "" {
		return fmt.Errorf("field cloudInit: userData and secretUserData are both set")
	}
	if err := c.SecretUserData.validate(); err != nil {
		return fmt.Errorf("field cloudInit: %w", err)
	}
	return nil
}

func (p *MachineProbe) validate() error {
	if p == nil {
		return nil
	}
	kinds := 0
	for _, set := range []bool{p.HTTP != nil, p.TCP != nil, p.GuestAgent} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		return fmt.Errorf("field readiness: %d of http, tcp and guestAgent are set, exactly one must be", kinds)
	}
	if p.InitialDelay < 0 || p.Timeout < 1 || p.Period < 1 || p.FailureThreshold < 1 {
		return fmt.Errorf("field readiness: timeout, period and failureThreshold must be at least 1, initialDelay at least 0")
	}
	if p.HTTP != nil {
		return port("readiness.http.port", p.HTTP.Port)
	}
	if p.TCP != nil {
		return port("readiness.tcp.port", p.TCP.Port)
	}
	return nil
}

// secrets are what the machines need of DesiredState.Sealed.
func (k *KVMScore) secrets() (all []Secret) {
	for i := range k.Machines {
		if c := k.Machines[i].CloudInit; c != nil && c.SecretUserData != nil {
			all = append(all, *c.SecretUserData)
		}
	}
	return all
}
