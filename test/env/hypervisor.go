package env

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/libvirt/libvirttest"
	"github.com/nationtech/fleet/provision/vm"
	"github.com/nationtech/fleet/test/guest"
)

// hypervisor is a libvirtd that nobody else uses, with a network on which machines find
// what they need of the control plane at their gateway.
type hypervisor struct {
	daemon  *libvirttest.Daemon
	conn    *libvirt.Conn
	network libvirt.Network
	relays  []*relay
}

// StartLibvirt starts a libvirtd for the fleet's machines, with the network that machines
// are on by default. It has to come after StartControlPlane and before InstallOperator,
// whose certificate has the gateway's address.
func (f *Fleet) StartLibvirt(ctx context.Context) (err error) {
	root := filepath.Join(f.Dir, "libvirt")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	daemon, err := libvirttest.Launch(ctx, root)
	if err != nil {
		return err
	}
	h := &hypervisor{daemon: daemon}
	f.hypervisor = h // whatever happens next, Close ends it
	if h.conn, err = libvirt.Dial(ctx, daemon.URI(), libvirt.DialOptions{}); err != nil {
		return err
	}
	if err := h.startNetwork(ctx, f.addresses.block); err != nil {
		return err
	}
	_, nats, err := net.SplitHostPort(strings.TrimPrefix(f.ControlPlane.NATS, "nats://"))
	if err != nil {
		return err
	}
	_, registry, err := net.SplitHostPort(f.ControlPlane.Registry)
	if err != nil {
		return err
	}
	for at, to := range map[string]string{nats: nats, strconv.Itoa(guest.RegistryPort): registry} {
		r, err := startRelay(ctx, net.JoinHostPort(h.gateway().String(), at), net.JoinHostPort("127.0.0.1", to))
		if err != nil {
			return fmt.Errorf("let machines reach the control plane: %w", err)
		}
		h.relays = append(h.relays, r)
	}
	return nil
}

// startNetwork starts the network with addresses that this machine does not use yet. The
// block is this fleet's alone, and so are addresses and bridge that are numbered by it.
func (h *hypervisor) startNetwork(ctx context.Context, block int) error {
	var errs []error
	for _, subnet := range []string{fmt.Sprintf("192.168.%d.0/24", 128+block), fmt.Sprintf("10.213.%d.0/24", 128+block), fmt.Sprintf("172.22.%d.0/24", 128+block)} {
		h.network = libvirt.Network{
			Name: vm.DefaultNetwork, Owner: libvirt.Owner{Name: vm.DefaultNetwork}, Mode: libvirt.ModeNAT,
			Bridge: fmt.Sprintf("fleet-vm-%d", block), CIDR: netip.MustParsePrefix(subnet), DHCP: true,
		}
		_, err := h.conn.EnsureNetwork(ctx, h.network)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("no addresses for the network of machines: %w", errors.Join(errs...))
}

// gateway is this machine's address on the network.
func (h *hypervisor) gateway() netip.Addr { return h.network.CIDR.Addr().Next() }

// close ends every machine, the network and the libvirtd.
func (h *hypervisor) close() error {
	for _, r := range h.relays {
		r.close()
	}
	if h.conn != nil {
		h.conn.Close()
	}
	return h.daemon.Close()
}

// LibvirtURI is where the fleet's libvirtd is, after StartLibvirt.
func (f *Fleet) LibvirtURI() libvirt.URI { return f.hypervisor.daemon.URI() }

// Libvirt is a connection to it.
func (f *Fleet) Libvirt() *libvirt.Conn { return f.hypervisor.conn }

// SpareSubnet are addresses that nobody else uses on this machine, for a test to take.
func (f *Fleet) SpareSubnet() netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf("10.214.%d.0/24", 128+f.addresses.block))
}
