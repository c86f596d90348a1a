package libvirt

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// The modes of networks: nat reaches out through the host, isolated reaches the host and
// its own machines, bridge is a bridge that the host has already.
const (
	ModeNAT      = "nat"
	ModeIsolated = "isolated"
	ModeBridge   = "bridge"
)

// maxInterfaceName is how long the kernel lets a bridge's name be.
const maxInterfaceName = 15

// https://libvirt.org/formatnetwork.html
type networkXML struct {
	XMLName xml.Name    `xml:"network"`
	Name    string      `xml:"name"`
	UUID    string      `xml:"uuid"`
	Forward *forwardXML `xml:"forward"`
	Bridge  *bridgeXML  `xml:"bridge"`
	MAC     *addressXML `xml:"mac"`
	IPs     []ipXML     `xml:"ip"`
}

type forwardXML struct {
	Mode string `xml:"mode,attr"`
}

type bridgeXML struct {
	Name  string `xml:"name,attr"`
	STP   string `xml:"stp,attr,omitempty"`
	Delay string `xml:"delay,attr,omitempty"`
}

type ipXML struct {
	Address string   `xml:"address,attr"`
	Prefix  int      `xml:"prefix,attr"`
	DHCP    *dhcpXML `xml:"dhcp"`
}

type dhcpXML struct {
	Ranges []rangeXML    `xml:"range"`
	Hosts  []dhcpHostXML `xml:"host"`
}

type rangeXML struct {
	Start string `xml:"start,attr"`
	End   string `xml:"end,attr"`
}

type dhcpHostXML struct {
	XMLName xml.Name `xml:"host"`
	MAC     string   `xml:"mac,attr,omitempty"`
	Name    string   `xml:"name,attr,omitempty"`
	IP      string   `xml:"ip,attr,omitempty"`
}

// check refuses a network that is wrong on whatever host.
func (n Network) check() error {
	if err := checkName("network", n.Name); err != nil {
		return err
	}
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("network %s: %s", n.Name, fmt.Sprintf(format, args...))
	}
	switch {
	case n.Owner.Zero():
		return wrong("needs an owner")
	case len(n.Bridge) > maxInterfaceName:
		return wrong("bridge %q is longer than %d characters, which is all that the kernel takes", n.Bridge, maxInterfaceName)
	case n.Bridge != "" && !isName(n.Bridge, "._-"):
		return wrong("bridge %q: a name is made of letters, digits, and . _ - behind the first", n.Bridge)
	}
	switch n.Mode {
	case ModeBridge:
		switch {
		case n.Bridge == "":
			return wrong("mode bridge needs the name of a bridge that the host has")
		case n.CIDR.IsValid() || n.DHCP || len(n.Hosts) > 0:
			return wrong("mode bridge has the addresses of the bridge: leave out cidr, DHCP and hosts")
		}
		return nil
	case ModeNAT, ModeIsolated:
	default:
		return wrong("mode %q: want nat, isolated or bridge", n.Mode)
	}
	switch {
	case !n.CIDR.IsValid() && (n.Mode == ModeNAT || n.DHCP || len(n.Hosts) > 0):
		return wrong("needs a cidr, as in 192.168.150.0/24")
	case !n.CIDR.IsValid():
		return nil
	case !n.CIDR.Addr().Is4():
		return wrong("cidr %s: only IPv4 is supported", n.CIDR)
	case n.CIDR != n.CIDR.Masked():
		return wrong("cidr %s is an address within a network: the network is %s", n.CIDR, n.CIDR.Masked())
	case n.CIDR.Bits() < 8 || n.CIDR.Bits() > 29:
		return wrong("cidr %s: want a length from /8 to /29", n.CIDR)
	case len(n.Hosts) > 0 && !n.DHCP:
		return wrong("hosts are for DHCP, which is off")
	}
	return n.checkHosts(wrong)
}

func (n Network) checkHosts(wrong func(string, ...any) error) error {
	seen := map[any]bool{}
	for _, h := range n.Hosts {
		switch {
		case h.MAC == MAC{}:
			return wrong("host %s %s needs a MAC address", h.Name, h.IP)
		case !n.CIDR.Contains(h.IP) || h.IP == n.CIDR.Addr() || h.IP == n.gateway() || h.IP == n.last().Next():
			return wrong("host %s: address %s is not one of a machine in %s", h.MAC, h.IP, n.CIDR)
		case seen[h.MAC] || seen[h.IP]:
			return wrong("host %s %s is there twice", h.MAC, h.IP)
		case h.Name != "" && !isName(h.Name, ".-"):
			return wrong("host %s: %q is not a name of a host", h.MAC, h.Name)
		}
		seen[h.MAC], seen[h.IP] = true, true
	}
	return nil
}

// gateway is the host's own address: the first one.
func (n Network) gateway() netip.Addr { return n.CIDR.Addr().Next() }

// last is the last address that a machine can have.
func (n Network) last() netip.Addr {
	a := n.CIDR.Addr().As4()
	host := uint32(1)<<(32-n.CIDR.Bits()) - 2 // the one behind it is the broadcast address
	for i := range a {
		a[i] |= byte(host >> (8 * (3 - i)))
	}
	return netip.AddrFrom4(a)
}

// bridgeName is what the bridge is called on the host.
func (n Network) bridgeName() string {
	if n.Bridge != "" {
		return n.Bridge
	}
	return "fl-" + strings.ReplaceAll(n.UUID(), "-", "")[:10]
}

// XML is the network as libvirt takes it.
func (n Network) XML() ([]byte, error) {
	x, err := n.xml()
	if err != nil {
		return nil, err
	}
	text, err := xml.MarshalIndent(x, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write network %s: %w", n.Name, err)
	}
	return append(text, '\n'), nil
}

func (n Network) xml() (networkXML, error) {
	if err := n.check(); err != nil {
		return networkXML{}, err
	}
	x := networkXML{Name: n.Name, UUID: n.UUID()}
	if n.Mode == ModeBridge {
		x.Forward = &forwardXML{"bridge"}
		x.Bridge = &bridgeXML{Name: n.Bridge}
		return x, nil
	}
	if n.Mode == ModeNAT {
		x.Forward = &forwardXML{"nat"}
	}
	x.Bridge = &bridgeXML{n.bridgeName(), "on", "0"}
	x.MAC = &addressXML{MACFor("bridge", x.UUID).String()} // libvirt would make up a new one each time
	if !n.CIDR.IsValid() {
		return x, nil
	}
	ip := ipXML{Address: n.gateway().String(), Prefix: n.CIDR.Bits()}
	if n.DHCP {
		ip.DHCP = &dhcpXML{Ranges: []rangeXML{{n.gateway().Next().String(), n.last().String()}}}
		for _, h := range n.Hosts {
			ip.DHCP.Hosts = append(ip.DHCP.Hosts, dhcpHostXML{MAC: h.MAC.String(), Name: h.Name, IP: h.IP.String()})
		}
	}
	x.IPs = []ipXML{ip}
	return x, nil
}

// shape is what makes one network differ from another so that machines on it notice; the
// hosts don't, they can be changed while it runs.
func (x networkXML) shape() string {
	var b strings.Builder
	if x.Forward != nil {
		fmt.Fprintf(&b, "forward %s\n", x.Forward.Mode)
	}
	if x.Bridge != nil {
		fmt.Fprintf(&b, "bridge %s\n", x.Bridge.Name)
	}
	for _, ip := range x.IPs {
		fmt.Fprintf(&b, "ip %s/%d\n", ip.Address, ip.Prefix)
		if ip.DHCP != nil {
			for _, r := range ip.DHCP.Ranges {
				fmt.Fprintf(&b, "range %s-%s\n", r.Start, r.End)
			}
		}
	}
	return b.String()
}

// hosts are the hosts in an order that two networks can be compared by.
func (x networkXML) hosts() []dhcpHostXML {
	var all []dhcpHostXML
	for _, ip := range x.IPs {
		if ip.DHCP != nil {
			all = append(all, ip.DHCP.Hosts...)
		}
	}
	for i := range all {
		all[i].XMLName = xml.Name{}
		all[i].MAC = strings.ToLower(all[i].MAC)
	}
	slices.SortFunc(all, func(a, b dhcpHostXML) int {
		return cmp.Or(cmp.Compare(a.MAC, b.MAC), cmp.Compare(a.IP, b.IP))
	})
	return all
}
