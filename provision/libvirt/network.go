package libvirt

import (
	"context"
	"crypto/sha256"
	"encoding/xml"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	rpc "github.com/digitalocean/go-libvirt"
)

// Network is a network of machines.
type Network struct {
	Name  string
	Owner Owner
	// Mode is ModeNAT, ModeIsolated or ModeBridge.
	Mode string
	// Bridge is the bridge's name on the host; in the first two modes one is made up.
	Bridge string
	// CIDR is the network's addresses, of which the host has the first.
	CIDR netip.Prefix
	// DHCP gives machines addresses, and Hosts certain ones always the same.
	DHCP  bool
	Hosts []NetworkHost
}

// NetworkHost is a machine whose address is fixed.
type NetworkHost struct {
	MAC  MAC
	IP   netip.Addr
	Name string
}

// NetworkStatus is a network as libvirt knows it.
type NetworkStatus struct {
	Name, UUID string
	Active     bool
}

// UUID is what follows from the owner, of whatever version. It says whose the network is:
// libvirt keeps metadata on networks only since 9.7.
func (n Network) UUID() string {
	sum := sha256.Sum256([]byte(strings.Join([]string{
		ownerNamespace, "network", n.Owner.Device, n.Owner.Deployment, n.Owner.Name,
	}, "\x00")))
	u := rpc.UUID(sum[:16])
	u[6] = u[6]&0x0f | 0x80 // version 8: made up by whoever made it
	u[8] = u[8]&0x3f | 0x80
	return uuidString(u)
}

func uuidString(u rpc.UUID) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// Networks are all that libvirt knows, whoever made them.
func (c *Conn) Networks(ctx context.Context) ([]NetworkStatus, error) {
	return call(ctx, c, "list the networks", func() ([]NetworkStatus, error) {
		found, _, err := c.rpc.ConnectListAllNetworks(1, rpc.ConnectListNetworksActive|rpc.ConnectListNetworksInactive)
		if err != nil {
			return nil, err
		}
		all := make([]NetworkStatus, 0, len(found))
		for _, n := range found {
			active, err := c.rpc.NetworkIsActive(n)
			if saidCode(err, rpc.ErrNoNetwork) {
				continue // deleted since
			}
			if err != nil {
				return nil, err
			}
			all = append(all, NetworkStatus{Name: n.Name, UUID: uuidString(n.UUID), Active: active == 1})
		}
		return all, nil
	})
}

// EnsureNetwork makes the network, or makes it what n says, and starts it. Fixed addresses
// change while machines go on; for anything else it is stopped and started, which cuts off
// the machines on it until they are started anew. A network of that name that has another
// owner is left alone: ErrNotOurs.
func (c *Conn) EnsureNetwork(ctx context.Context, n Network) (changed bool, err error) {
	want, err := n.xml()
	if err != nil {
		return false, err
	}
	net, err := c.ourNetwork(ctx, n)
	if errors.Is(err, ErrNotFound) {
		return true, c.makeNetwork(ctx, want)
	}
	if err != nil {
		return false, err
	}
	defined, err := c.networkXML(ctx, net, uint32(rpc.NetworkXMLInactive))
	if err != nil {
		return false, err
	}
	active, err := call(ctx, c, "look at network "+n.Name, func() (int32, error) { return c.rpc.NetworkIsActive(net) })
	if err != nil {
		return false, err
	}
	runs := networkXML{}
	if active == 1 {
		if runs, err = c.networkXML(ctx, net, 0); err != nil {
			return false, err
		}
	}
	if want.shape() != defined.shape() || !slices.Equal(want.hosts(), defined.hosts()) {
		if _, err := c.defineNetwork(ctx, want); err != nil {
			return false, err
		}
		changed = true
	}
	switch {
	case active == 1 && runs.shape() != want.shape():
		if err := c.stopNetwork(ctx, net); err != nil {
			return changed, err
		}
		active = 0
	case active == 1:
		moved, err := c.updateHosts(ctx, net, runs.hosts(), want.hosts())
		if changed = changed || moved; err != nil {
			return changed, err
		}
	}
	if active == 0 {
		changed = true
		if err := c.startNetwork(ctx, net, want); err != nil {
			return changed, err
		}
	}
	return changed, c.autostartNetwork(ctx, net)
}

// ourNetwork is the network of n's name, ErrNotOurs if it isn't n's owner's.
func (c *Conn) ourNetwork(ctx context.Context, n Network) (rpc.Network, error) {
	net, err := call(ctx, c, "look for network "+n.Name, func() (rpc.Network, error) {
		return c.rpc.NetworkLookupByName(n.Name)
	})
	if err == nil && uuidString(net.UUID) != n.UUID() {
		err = asKind(ErrNotOurs, "network %s exists and is not %s: choose another name", n.Name, n.Owner)
	}
	return net, err
}

func (c *Conn) networkXML(ctx context.Context, net rpc.Network, flags uint32) (networkXML, error) {
	var is networkXML
	text, err := call(ctx, c, "look at network "+net.Name, func() (string, error) {
		return c.rpc.NetworkGetXMLDesc(net, flags)
	})
	if err != nil {
		return is, err
	}
	if err := xml.Unmarshal([]byte(text), &is); err != nil {
		return is, fmt.Errorf("read network %s: %w", net.Name, err)
	}
	return is, nil
}

// makeNetwork makes a network that is not there, and leaves nothing of one that can't be
// started.
func (c *Conn) makeNetwork(ctx context.Context, want networkXML) error {
	net, err := c.defineNetwork(ctx, want)
	if err != nil {
		return err
	}
	err = c.startNetwork(ctx, net, want)
	if err == nil {
		err = c.autostartNetwork(ctx, net)
	}
	if err != nil {
		return errors.Join(err, c.cleanUp(ctx, "forget network "+net.Name, func() error {
			_ = c.rpc.NetworkDestroy(net)
			return c.rpc.NetworkUndefine(net)
		}))
	}
	return nil
}

func (c *Conn) defineNetwork(ctx context.Context, want networkXML) (rpc.Network, error) {
	text, err := xml.Marshal(want)
	if err != nil {
		return rpc.Network{}, fmt.Errorf("write network %s: %w", want.Name, err)
	}
	return call(ctx, c, "define network "+want.Name, func() (rpc.Network, error) {
		return c.rpc.NetworkDefineXML(string(text))
	})
}

func (c *Conn) startNetwork(ctx context.Context, net rpc.Network, want networkXML) error {
	err := do(ctx, c, "start network "+net.Name, func() error { return c.rpc.NetworkCreate(net) })
	var said rpc.Error
	if !errors.As(err, &said) {
		return err
	}
	switch {
	case strings.Contains(said.Message, "already in use by interface") && len(want.IPs) > 0:
		return fmt.Errorf("%w: the host reaches %s/%d already: choose another cidr", err, want.IPs[0].Address, want.IPs[0].Prefix)
	case strings.Contains(said.Message, "dnsmasq"):
		return fmt.Errorf("%w: is dnsmasq (on Debian dnsmasq-base) installed?", err)
	case strings.Contains(said.Message, "iptables"):
		return fmt.Errorf("%w: is iptables installed?", err)
	}
	return err
}

func (c *Conn) stopNetwork(ctx context.Context, net rpc.Network) error {
	return do(ctx, c, "stop network "+net.Name, func() error {
		err := c.rpc.NetworkDestroy(net)
		if saidCode(err, rpc.ErrOperationInvalid) {
			return nil // it doesn't run
		}
		return err
	})
}

func (c *Conn) autostartNetwork(ctx context.Context, net rpc.Network) error {
	return do(ctx, c, "set autostart of network "+net.Name, func() error {
		on, err := c.rpc.NetworkGetAutostart(net)
		if err != nil || on == 1 {
			return err
		}
		return c.rpc.NetworkSetAutostart(net, 1)
	})
}

// updateHosts changes the fixed addresses of a network while it runs.
func (c *Conn) updateHosts(ctx context.Context, net rpc.Network, is, want []dhcpHostXML) (changed bool, err error) {
	update := func(h dhcpHostXML, command rpc.NetworkUpdateCommand) error {
		text, err := xml.Marshal(h)
		if err != nil {
			return fmt.Errorf("write host %s of network %s: %w", h.MAC, net.Name, err)
		}
		changed = true
		return do(ctx, c, "change host "+h.MAC+" of network "+net.Name, func() error {
			return c.rpc.NetworkUpdateCompat(net, command, rpc.NetworkSectionIPDhcpHost, -1, string(text),
				rpc.NetworkUpdateAffectLive)
		})
	}
	// Those that go make way first: an address may move from one to another.
	for _, h := range is {
		if !slices.Contains(want, h) {
			if err := update(h, rpc.NetworkUpdateCommandDelete); err != nil {
				return changed, err
			}
		}
	}
	for _, h := range want {
		if !slices.Contains(is, h) {
			if err := update(h, rpc.NetworkUpdateCommandAddLast); err != nil {
				return changed, err
			}
		}
	}
	return changed, nil
}

// DeleteNetwork stops the network and makes libvirt forget it; ErrNotOurs if it is another
// owner's.
func (c *Conn) DeleteNetwork(ctx context.Context, n Network) error {
	net, err := c.ourNetwork(ctx, n)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.stopNetwork(ctx, net); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return c.cleanUp(ctx, "delete network "+n.Name, func() error { return c.rpc.NetworkUndefine(net) })
}
