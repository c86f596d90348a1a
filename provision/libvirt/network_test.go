package libvirt

import (
	"encoding/xml"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func aNetwork() Network {
	return Network{
		Name: "shop", Owner: Owner{Device: "edge-1", Deployment: "shop", Name: "shop"},
		Mode: ModeNAT, CIDR: netip.MustParsePrefix("192.168.150.0/24"), DHCP: true,
		Hosts: []NetworkHost{
			{MAC: MustMAC("52:54:00:00:00:02"), IP: netip.MustParseAddr("192.168.150.20"), Name: "web"},
			{MAC: MustMAC("52:54:00:00:00:01"), IP: netip.MustParseAddr("192.168.150.10")},
		},
	}
}

func TestANetworkIsWrittenAsLibvirtTakesIt(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Network)
	}{
		{"network-nat.xml", func(n *Network) {}},
		{"network-isolated.xml", func(n *Network) { n.Mode, n.Hosts, n.Bridge = ModeIsolated, nil, "shop0" }},
		{"network-isolated-bare.xml", func(n *Network) {
			n.Mode, n.Hosts, n.DHCP, n.CIDR = ModeIsolated, nil, false, netip.Prefix{}
		}},
		{"network-bridge.xml", func(n *Network) {
			*n = Network{Name: "lan", Owner: n.Owner, Mode: ModeBridge, Bridge: "br0"}
		}},
		{"network-small.xml", func(n *Network) { n.CIDR, n.Hosts = netip.MustParsePrefix("10.0.0.8/29"), nil }},
		{"network-large.xml", func(n *Network) { n.CIDR, n.Hosts = netip.MustParsePrefix("10.0.0.0/8"), nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := aNetwork()
			test.change(&n)
			text, err := n.XML()
			if err != nil {
				t.Fatal(err)
			}
			golden(t, test.name, text)
		})
	}
}

func TestANetworkThatCannotBeIsRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Network)
		want   string
	}{
		{"no name", func(n *Network) { n.Name = "" }, "needs a name"},
		{"no owner", func(n *Network) { n.Owner = Owner{} }, "needs an owner"},
		{"an unknown mode", func(n *Network) { n.Mode = "open" }, `"open"`},
		{"a bridge's name too long", func(n *Network) { n.Bridge = "0123456789abcdef" }, "longer than 15"},
		{"a bridge that is a path", func(n *Network) { n.Bridge = "a/b" }, `"a/b"`},
		{"no cidr", func(n *Network) { n.CIDR = netip.Prefix{} }, "needs a cidr"},
		{"an address within a network", func(n *Network) { n.CIDR = netip.MustParsePrefix("192.168.150.7/24") }, "the network is 192.168.150.0/24"},
		{"IPv6", func(n *Network) { n.CIDR = netip.MustParsePrefix("2001:db8::/64") }, "only IPv4"},
		{"a network too small", func(n *Network) { n.CIDR = netip.MustParsePrefix("10.0.0.0/30") }, "/8 to /29"},
		{"a network too large", func(n *Network) { n.CIDR = netip.MustParsePrefix("8.0.0.0/7") }, "/8 to /29"},
		{"hosts without DHCP", func(n *Network) { n.DHCP = false }, "which is off"},
		{"a bridge without a name", func(n *Network) { n.Mode = ModeBridge }, "name of a bridge"},
		{"a bridge with addresses", func(n *Network) { n.Mode, n.Bridge = ModeBridge, "br0" }, "leave out"},
		{"a host elsewhere", func(n *Network) { n.Hosts[0].IP = netip.MustParseAddr("192.168.151.20") }, "not one of a machine"},
		{"a host at the gateway's address", func(n *Network) { n.Hosts[0].IP = netip.MustParseAddr("192.168.150.1") }, "not one of a machine"},
		{"a host at the network's address", func(n *Network) { n.Hosts[0].IP = netip.MustParseAddr("192.168.150.0") }, "not one of a machine"},
		{"a host at the broadcast address", func(n *Network) { n.Hosts[0].IP = netip.MustParseAddr("192.168.150.255") }, "not one of a machine"},
		{"a host without an address", func(n *Network) { n.Hosts[0].IP = netip.Addr{} }, "not one of a machine"},
		{"a host without a card", func(n *Network) { n.Hosts[0].MAC = MAC{} }, "needs a MAC address"},
		{"a card twice", func(n *Network) { n.Hosts[0].MAC = n.Hosts[1].MAC }, "twice"},
		{"an address twice", func(n *Network) { n.Hosts[0].IP = n.Hosts[1].IP }, "twice"},
		{"a host's name with a space", func(n *Network) { n.Hosts[0].Name = "a b" }, `"a b"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := aNetwork()
			test.change(&n)
			text, err := n.XML()
			if err == nil {
				t.Fatalf("it is written:\n%s", text)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error does not say %q: %v", test.want, err)
			}
		})
	}
}

// What libvirt 9.0 says of the network of network-nat.xml.
const natByLibvirt = `<network connections='1'>
  <name>shop</name>
  <uuid>00000000-0000-0000-0000-000000000000</uuid>
  <forward mode='nat'>
    <nat>
      <port start='1024' end='65535'/>
    </nat>
  </forward>
  <bridge name='BRIDGE' stp='on' delay='0'/>
  <mac address='52:54:00:12:34:56'/>
  <ip address='192.168.150.1' prefix='24'>
    <dhcp>
      <range start='192.168.150.2' end='192.168.150.254'/>
      <host mac='52:54:00:00:00:01' ip='192.168.150.10'/>
      <host mac='52:54:00:00:00:02' name='web' ip='192.168.150.20'/>
    </dhcp>
  </ip>
</network>`

func TestANetworkIsComparedWithWhatLibvirtSays(t *testing.T) {
	var is networkXML
	if err := xml.Unmarshal([]byte(strings.ReplaceAll(natByLibvirt, "BRIDGE", aNetwork().bridgeName())), &is); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name                  string
		change                func(*Network)
		otherShape, otherHost bool
	}{
		{"the same", func(n *Network) {}, false, false},
		{"another order of hosts", func(n *Network) { slices.Reverse(n.Hosts) }, false, false},
		{"another version of the owner", func(n *Network) { n.Owner.Hash = "h2" }, false, false},
		{"another name of a host", func(n *Network) { n.Hosts[0].Name = "www" }, false, true},
		{"one host fewer", func(n *Network) { n.Hosts = n.Hosts[:1] }, false, true},
		{"another mode", func(n *Network) { n.Mode = ModeIsolated }, true, false},
		{"another bridge", func(n *Network) { n.Bridge = "shop0" }, true, false},
		{"no DHCP", func(n *Network) { n.DHCP, n.Hosts = false, nil }, true, true},
		{"another cidr", func(n *Network) { n.CIDR = netip.MustParsePrefix("192.168.150.0/25") }, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := aNetwork()
			test.change(&n)
			want, err := n.xml()
			if err != nil {
				t.Fatal(err)
			}
			if (want.shape() != is.shape()) != test.otherShape {
				t.Errorf("want:\n%sis:\n%s", want.shape(), is.shape())
			}
			if slices.Equal(want.hosts(), is.hosts()) == test.otherHost {
				t.Errorf("want %+v, is %+v", want.hosts(), is.hosts())
			}
		})
	}
}

func TestTheUUIDOfANetworkFollowsFromItsOwner(t *testing.T) {
	n := aNetwork()
	other := aNetwork()
	other.Owner.Hash, other.CIDR = "h2", netip.MustParsePrefix("10.0.0.0/24")
	if n.UUID() != other.UUID() {
		t.Error("another version of it has another UUID")
	}
	other.Owner.Device = "edge-2"
	if n.UUID() == other.UUID() {
		t.Error("two devices' networks have the same UUID")
	}
	if len(n.UUID()) != 36 || n.UUID()[14] != '8' {
		t.Errorf("%s is not a UUID of version 8", n.UUID())
	}
	if len(n.bridgeName()) > 15 {
		t.Errorf("bridge %s is too long", n.bridgeName())
	}
}
