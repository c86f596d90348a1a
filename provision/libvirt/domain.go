package libvirt

import (
	"encoding/xml"
	"fmt"
	"path"
	"strings"
)

// consoleLogDir is where virtlogd writes; its own log of each machine is there too.
const consoleLogDir = "/var/log/libvirt/qemu"

// XML is the machine as libvirt takes it. A machine that can't be is an error; what only
// the host can refuse, libvirt does.
func (m Machine) XML() ([]byte, error) { return m.xml("") }

// xml is XML with the UUID of the machine that it redefines.
func (m Machine) xml(uuid string) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	maxCPUs, maxMemory := max(m.MaxCPUs, m.CPUs), max(m.MaxMemoryBytes, m.MemoryBytes)
	d := domainXML{
		Type: "kvm", Name: m.Name, UUID: uuid, Title: m.Title,
		Memory:        quantityXML{"KiB", kib(maxMemory)},
		CurrentMemory: quantityXML{"KiB", kib(m.MemoryBytes)},
		VCPU:          vcpuXML{Placement: "static", Current: m.CPUs, Max: maxCPUs},
		OS: osXML{
			Type:   osTypeXML{m.Arch, m.machineType(), "hvm"},
			Kernel: m.Kernel, Initrd: m.Initrd, Cmdline: m.Cmdline,
		},
		CPU:   cpuXML{Mode: "host-passthrough", Check: "none"},
		Clock: clockXML{"utc"},
		// A machine that switches itself off stays off and says so by an event; the one
		// who wants it running starts it.
		OnPoweroff: "destroy", OnReboot: "restart", OnCrash: "destroy",
		Devices: domainDevices{
			// Without this libvirt adds one, which costs memory and boot time.
			Controllers: []controllerXML{{"usb", "none"}},
			Balloon:     balloonXML{"virtio", &statsXML{10}},
			RNG:         rngXML{"virtio", rngBackendXML{"random", "/dev/urandom"}},
		},
	}
	if !m.Owner.Zero() {
		d.Metadata = &metadataXML{ownerXML{Owner: m.Owner}}
	}
	if m.Emulated {
		d.Type = "qemu"
		d.CPU = cpuXML{Mode: "maximum", Check: "none"}
	}
	switch m.Arch {
	case X86_64:
		d.Features = featuresXML{ACPI: &struct{}{}, APIC: &struct{}{}}
	case AArch64:
		d.Features = featuresXML{ACPI: &struct{}{}, GIC: &gicXML{"3"}}
		if m.Emulated {
			// The largest one would have pointer authentication, which is slow to emulate.
			d.CPU = cpuXML{Mode: "custom", Match: "exact", Check: "none",
				Model: &cpuModelXML{"forbid", "cortex-a57"}}
		}
		if m.Kernel == "" {
			d.OS.Firmware = "efi" // there is no other that boots from a disk
			// Debian's first choice would boot only what Microsoft has signed.
			d.OS.Features = &firmwareXML{[]featureXML{{"no", "enrolled-keys"}, {"no", "secure-boot"}}}
		} else {
			d.Features.ACPI = nil // libvirt refuses it without UEFI
		}
	}
	if m.Kernel == "" {
		d.OS.Boot = &devXML{"hd"}
	}
	m.addDevices(&d.Devices)
	text, err := xml.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write machine %s: %w", m.Name, err)
	}
	return append(text, '\n'), nil
}

func (m Machine) addDevices(d *domainDevices) {
	for _, disk := range m.Disks {
		x := diskXML{
			Type: "volume", Device: "disk",
			Driver: diskDriverXML{"qemu", disk.format(), "unmap"},
			Source: volumeRefXML{disk.Pool, disk.Volume},
			Target: diskTargetXML{disk.Target, "virtio"},
		}
		if disk.ReadOnly {
			x.ReadOnly, x.Driver.Discard = &struct{}{}, ""
		}
		d.Disks = append(d.Disks, x)
	}
	for _, i := range m.Interfaces {
		x := interfaceXML{Type: "network", Source: netSourceXML{Network: i.Network}, Model: netModelXML{"virtio"}}
		if i.Bridge != "" {
			x.Type, x.Source = "bridge", netSourceXML{Bridge: i.Bridge}
		}
		if i.MAC != (MAC{}) {
			x.MAC = &addressXML{i.MAC.String()}
		}
		d.Interfaces = append(d.Interfaces, x)
	}
	if m.Console {
		log := &logXML{consoleLog(m.Name), "on"}
		d.Serials = []serialXML{{"pty", log, serialTargetXML{"0"}}}
	}
	if m.GuestAgent {
		d.Channels = []channelXML{{"unix", channelTargetXML{"virtio", "org.qemu.guest_agent.0"}}}
	}
}

// kib is bytes in libvirt's unit, rounded up.
func kib(bytes int64) uint64 { return (uint64(bytes) + 1023) >> 10 }

func consoleLog(name string) string { return path.Join(consoleLogDir, name+"-console.log") }

func (m Machine) machineType() string {
	if m.Type == "" {
		return m.Arch.defaultType()
	}
	return m.Type
}

func (d Disk) format() string {
	if d.Format == "" {
		return "qcow2"
	}
	return d.Format
}

// checkName refuses what libvirt or the file system of the host would, or would take for
// something else.
func checkName(what, name string) error {
	longest := maxName
	if what == "volume" {
		longest = maxVolumeName
	}
	switch {
	case name == "":
		return fmt.Errorf("a %s needs a name", what)
	case len(name) > longest:
		return fmt.Errorf("the name of %s %s… is longer than %d characters", what, name[:20], longest)
	case !isName(name, "._-+"):
		return fmt.Errorf("%s %q: a name is made of letters, digits, and . _ - + behind the first", what, name)
	case strings.Contains(name, ".."):
		return fmt.Errorf("%s %q: a name has no two dots in a row", what, name)
	}
	return nil
}

const (
	// maxName leaves space for what is put around a machine's name in the names of files
	// and sockets: a socket's path may not be longer than 107 characters.
	maxName = 63
	// maxVolumeName leaves space for what is put behind it: a file's name may not be longer
	// than 255.
	maxVolumeName = 200
)
