package libvirt

import (
	"context"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
)

// Host is what runs machines.
type Host struct {
	Arch        Arch
	CPUs        int
	MemoryBytes int64
	Guests      []Guest
}

// Guest is a kind of machine that a host can run.
type Guest struct {
	Arch         Arch
	MachineTypes []string
	// KVM is what libvirt claims from what it finds in /dev; only a boot proves it.
	KVM bool
}

// Version is libvirt's, as in 9.0.0.
func (c *Conn) Version(ctx context.Context) (string, error) {
	n, err := call(ctx, c, "ask libvirt's version", c.rpc.ConnectGetLibVersion)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d.%d.%d", n/1000000, n/1000%1000, n%1000), nil
}

// Host says what the host is and what it can run.
func (c *Conn) Host(ctx context.Context) (Host, error) {
	text, err := call(ctx, c, "ask for the host's capabilities", c.rpc.ConnectGetCapabilities)
	if err != nil {
		return Host{}, err
	}
	h, err := parseCapabilities([]byte(text))
	if err != nil {
		return Host{}, err
	}
	type node struct {
		kib  uint64
		cpus int32
	}
	n, err := call(ctx, c, "ask for the host's memory", func() (node, error) {
		_, kib, cpus, _, _, _, _, _, err := c.rpc.NodeGetInfo()
		return node{kib, cpus}, err
	})
	if err != nil {
		return Host{}, err
	}
	h.CPUs, h.MemoryBytes = int(n.cpus), int64(n.kib)<<10
	return h, nil
}

// capabilitiesXML is what is read of libvirt's capabilities.
// https://libvirt.org/formatcaps.html
type capabilitiesXML struct {
	Arch   string `xml:"host>cpu>arch"`
	Guests []struct {
		OSType string `xml:"os_type"`
		Arch   struct {
			Name     string   `xml:"name,attr"`
			Machines []string `xml:"machine"`
			Domains  []struct {
				Type     string   `xml:"type,attr"`
				Machines []string `xml:"machine"`
			} `xml:"domain"`
		} `xml:"arch"`
	} `xml:"guest"`
}

func parseCapabilities(text []byte) (Host, error) {
	var read capabilitiesXML
	if err := xml.Unmarshal(text, &read); err != nil {
		return Host{}, fmt.Errorf("read the host's capabilities: %w", err)
	}
	h := Host{Arch: Arch(read.Arch)}
	for _, g := range read.Guests {
		arch, err := ParseArch(g.Arch.Name)
		if err != nil || g.OSType != "hvm" {
			continue // not one that machines can be of
		}
		guest := Guest{Arch: arch, MachineTypes: g.Arch.Machines}
		for _, d := range g.Arch.Domains {
			guest.KVM = guest.KVM || d.Type == "kvm"
			guest.MachineTypes = append(guest.MachineTypes, d.Machines...)
		}
		slices.Sort(guest.MachineTypes)
		guest.MachineTypes = slices.Compact(guest.MachineTypes)
		h.Guests = append(h.Guests, guest)
	}
	return h, nil
}

// Guest is what the host can run of one architecture. The error says which package the
// emulator comes in.
func (h Host) Guest(a Arch) (Guest, error) {
	for _, g := range h.Guests {
		if g.Arch == a {
			return g, nil
		}
	}
	return Guest{}, fmt.Errorf("this host has no emulator for machines of architecture %s: install %s", a, a.emulatorPackage())
}

// MachineType is the machine type that is meant by want, q35 or virt by default. One that
// the host doesn't have is an error that lists those that come near.
func (h Host) MachineType(a Arch, want string) (string, error) {
	g, err := h.Guest(a)
	if err != nil {
		return "", err
	}
	if want == "" {
		want = a.defaultType()
	}
	if slices.Contains(g.MachineTypes, want) {
		return want, nil
	}
	return "", fmt.Errorf("machine type %q is unknown for %s on this host: there is %s",
		want, a, strings.Join(near(want, g.MachineTypes), ", "))
}

// nearCount is how many alternatives an error names: enough to find a typing error in,
// few enough to read.
const nearCount = 5

// near are the names that come nearest to want, the nearest first.
func near(want string, names []string) []string {
	ordered := slices.Clone(names)
	want = strings.ToLower(want)
	slices.SortStableFunc(ordered, func(a, b string) int {
		return distance(want, strings.ToLower(a)) - distance(want, strings.ToLower(b))
	})
	return ordered[:min(nearCount, len(ordered))]
}

// distance is how many letters have to be changed, added or left out to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
