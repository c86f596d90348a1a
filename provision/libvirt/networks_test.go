package libvirt_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/libvirt/libvirttest"
)

// nat is a network of the test's. Each test has a cidr of its own: they share the host.
func nat(name, cidr string) libvirt.Network {
	return libvirt.Network{
		Name: name, Owner: owner(name), Mode: libvirt.ModeNAT, Bridge: "fltest-" + name,
		CIDR: netip.MustParsePrefix(cidr), DHCP: true,
		Hosts: []libvirt.NetworkHost{{MAC: libvirt.MACFor(name, "web"), IP: netip.MustParsePrefix(cidr).Addr().Next().Next(), Name: "web"}},
	}
}

// bridge is the number of the network's bridge on the host, another one once it has been
// made anew; 0 when it isn't there.
func bridge(n libvirt.Network) int {
	i, err := net.InterfaceByName(n.Bridge)
	if err != nil {
		return 0
	}
	return i.Index
}

func TestANetworkIsMadeChangedAndDeleted(t *testing.T) {
	d := libvirttest.Start(t)
	c, ctx := d.Dial(t), within(t)
	n := nat("shop", "10.249.1.0/24")
	ensure := func(want bool) {
		t.Helper()
		changed, err := c.EnsureNetwork(ctx, n)
		must(t, err)
		if changed != want {
			t.Errorf("changed is %v", changed)
		}
	}
	ensure(true)
	ensure(false)
	first := bridge(n)
	if first == 0 {
		t.Errorf("there is no bridge %s", n.Bridge)
	}
	all, err := c.Networks(ctx)
	must(t, err)
	if len(all) != 1 || all[0] != (libvirt.NetworkStatus{Name: "shop", UUID: n.UUID(), Active: true}) {
		t.Errorf("there are %+v", all)
	}

	// Fixed addresses change while it runs.
	n.Hosts = append(n.Hosts, libvirt.NetworkHost{MAC: libvirt.MACFor("shop", "db"), IP: netip.MustParseAddr("10.249.1.9")})
	ensure(true)
	ensure(false)
	// The address moves from one machine to the other.
	n.Hosts = []libvirt.NetworkHost{{MAC: libvirt.MACFor("shop", "db"), IP: n.Hosts[0].IP}}
	ensure(true)
	ensure(false)
	if bridge(n) != first {
		t.Error("it was stopped for that")
	}
	n.Mode = libvirt.ModeIsolated
	ensure(true)
	ensure(false)
	if now := bridge(n); now == first || now == 0 {
		t.Error("it was not started anew")
	}

	// Stopped by hand, it is started.
	hand := d.Stranger(t)
	found, err := hand.NetworkLookupByName("shop")
	must(t, err)
	must(t, hand.NetworkDestroy(found))
	ensure(true)
	ensure(false)

	other := n
	other.Owner = owner("other")
	_, err = c.EnsureNetwork(ctx, other)
	refused(t, err, libvirt.ErrNotOurs, "shop")
	refused(t, c.DeleteNetwork(ctx, other), libvirt.ErrNotOurs, "shop")
	must(t, c.DeleteNetwork(ctx, n))
	must(t, c.DeleteNetwork(ctx, n))
	if bridge(n) != 0 {
		t.Error("its bridge is left")
	}
}

func TestANetworkThatTheHostReachesAlreadyIsRefused(t *testing.T) {
	d := libvirttest.Start(t)
	c, ctx := d.Dial(t), within(t)
	one := nat("one", "10.249.2.0/24")
	_, err := c.EnsureNetwork(ctx, one)
	must(t, err)
	two := nat("two", "10.249.2.0/24")
	_, err = c.EnsureNetwork(ctx, two)
	refused(t, err, nil, "network two", one.Bridge, "10.249.2.1/24", "another cidr")
	if all, err := c.Networks(ctx); err != nil || len(all) != 1 {
		t.Errorf("there are %+v, %v", all, err)
	}
}

func TestANetworkCanBeABridgeOfTheHosts(t *testing.T) {
	d := libvirttest.Start(t)
	c, ctx := d.Dial(t), within(t)
	n := libvirt.Network{Name: "lan", Owner: owner("lan"), Mode: libvirt.ModeBridge, Bridge: "br-of-host"}
	for _, want := range []bool{true, false} {
		if changed, err := c.EnsureNetwork(ctx, n); err != nil || changed != want {
			t.Errorf("changed is %v, %v", changed, err)
		}
	}
	must(t, c.DeleteNetwork(ctx, n))
}
