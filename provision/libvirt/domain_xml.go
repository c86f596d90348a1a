package libvirt

import "encoding/xml"

// https://libvirt.org/formatdomain.html: what of it a Machine needs, in the order in which
// libvirt writes it.
type domainXML struct {
	XMLName       xml.Name      `xml:"domain"`
	Type          string        `xml:"type,attr"`
	Name          string        `xml:"name"`
	UUID          string        `xml:"uuid,omitempty"`
	Title         string        `xml:"title,omitempty"`
	Metadata      *metadataXML  `xml:"metadata"`
	Memory        quantityXML   `xml:"memory"`
	CurrentMemory quantityXML   `xml:"currentMemory"`
	VCPU          vcpuXML       `xml:"vcpu"`
	OS            osXML         `xml:"os"`
	Features      featuresXML   `xml:"features"`
	CPU           cpuXML        `xml:"cpu"`
	Clock         clockXML      `xml:"clock"`
	OnPoweroff    string        `xml:"on_poweroff"`
	OnReboot      string        `xml:"on_reboot"`
	OnCrash       string        `xml:"on_crash"`
	Devices       domainDevices `xml:"devices"`
}

type metadataXML struct {
	Owner ownerXML
}

type quantityXML struct {
	Unit  string `xml:"unit,attr,omitempty"`
	Value uint64 `xml:",chardata"`
}

type vcpuXML struct {
	Placement string `xml:"placement,attr,omitempty"`
	Current   int    `xml:"current,attr,omitempty"`
	Max       int    `xml:",chardata"`
}

type osXML struct {
	Firmware string       `xml:"firmware,attr,omitempty"`
	Type     osTypeXML    `xml:"type"`
	Features *firmwareXML `xml:"firmware"`
	Kernel   string       `xml:"kernel,omitempty"`
	Initrd   string       `xml:"initrd,omitempty"`
	Cmdline  string       `xml:"cmdline,omitempty"`
	Boot     *devXML      `xml:"boot"`
}

type firmwareXML struct {
	Features []featureXML `xml:"feature"`
}

type featureXML struct {
	Enabled string `xml:"enabled,attr"`
	Name    string `xml:"name,attr"`
}

type osTypeXML struct {
	Arch    Arch   `xml:"arch,attr"`
	Machine string `xml:"machine,attr"`
	Value   string `xml:",chardata"`
}

type devXML struct {
	Dev string `xml:"dev,attr"`
}

type featuresXML struct {
	ACPI *struct{} `xml:"acpi"`
	APIC *struct{} `xml:"apic"`
	GIC  *gicXML   `xml:"gic"`
}

type gicXML struct {
	Version string `xml:"version,attr"`
}

type cpuXML struct {
	Mode  string       `xml:"mode,attr"`
	Match string       `xml:"match,attr,omitempty"`
	Check string       `xml:"check,attr"`
	Model *cpuModelXML `xml:"model"`
}

type cpuModelXML struct {
	Fallback string `xml:"fallback,attr"`
	Value    string `xml:",chardata"`
}

type clockXML struct {
	Offset string `xml:"offset,attr"`
}

type domainDevices struct {
	Disks       []diskXML       `xml:"disk"`
	Controllers []controllerXML `xml:"controller"`
	Interfaces  []interfaceXML  `xml:"interface"`
	Serials     []serialXML     `xml:"serial"`
	Channels    []channelXML    `xml:"channel"`
	Balloon     balloonXML      `xml:"memballoon"`
	RNG         rngXML          `xml:"rng"`
}

type diskXML struct {
	Type     string        `xml:"type,attr"`
	Device   string        `xml:"device,attr"`
	Driver   diskDriverXML `xml:"driver"`
	Source   volumeRefXML  `xml:"source"`
	Target   diskTargetXML `xml:"target"`
	ReadOnly *struct{}     `xml:"readonly"`
}

type diskDriverXML struct {
	Name    string `xml:"name,attr"`
	Type    string `xml:"type,attr"`
	Discard string `xml:"discard,attr,omitempty"`
}

type volumeRefXML struct {
	Pool   string `xml:"pool,attr"`
	Volume string `xml:"volume,attr"`
}

type diskTargetXML struct {
	Dev string `xml:"dev,attr"`
	Bus string `xml:"bus,attr"`
}

type controllerXML struct {
	Type  string `xml:"type,attr"`
	Model string `xml:"model,attr"`
}

type interfaceXML struct {
	Type   string       `xml:"type,attr"`
	MAC    *addressXML  `xml:"mac"`
	Source netSourceXML `xml:"source"`
	Model  netModelXML  `xml:"model"`
}

type addressXML struct {
	Address string `xml:"address,attr"`
}

type netSourceXML struct {
	Network string `xml:"network,attr,omitempty"`
	Bridge  string `xml:"bridge,attr,omitempty"`
}

type netModelXML struct {
	Type string `xml:"type,attr"`
}

type serialXML struct {
	Type   string          `xml:"type,attr"`
	Log    *logXML         `xml:"log"`
	Target serialTargetXML `xml:"target"`
}

type serialTargetXML struct {
	Port string `xml:"port,attr"`
}

type logXML struct {
	File   string `xml:"file,attr"`
	Append string `xml:"append,attr"`
}

type channelXML struct {
	Type   string           `xml:"type,attr"`
	Target channelTargetXML `xml:"target"`
}

type channelTargetXML struct {
	Type string `xml:"type,attr"`
	Name string `xml:"name,attr"`
}

type balloonXML struct {
	Model string    `xml:"model,attr"`
	Stats *statsXML `xml:"stats"`
}

type statsXML struct {
	Period int `xml:"period,attr"`
}

type rngXML struct {
	Model   string        `xml:"model,attr"`
	Backend rngBackendXML `xml:"backend"`
}

type rngBackendXML struct {
	Model string `xml:"model,attr"`
	Value string `xml:",chardata"`
}
