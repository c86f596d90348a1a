package libvirt

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	rpc "github.com/digitalocean/go-libvirt"
)

// pingTimeout is how many seconds a guest agent has to answer.
const pingTimeout = 5

// GuestPing asks whether the guest agent in the machine answers.
func (c *Conn) GuestPing(ctx context.Context, name string) error {
	d, err := c.lookup(ctx, name)
	if err != nil {
		return err
	}
	return do(ctx, c, "ask the guest agent of machine "+name, func() error {
		_, err := c.rpc.QEMUDomainAgentCommand(d, `{"execute":"guest-ping"}`, pingTimeout, 0)
		return err
	})
}

// Addresses are the machine's addresses that others can reach it at: what libvirt's DHCP
// server leased to it, and where that is nothing, what its guest agent says. None is no
// error; it may not have got any yet.
func (c *Conn) Addresses(ctx context.Context, name string) ([]netip.Addr, error) {
	d, err := c.lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, source := range []rpc.DomainInterfaceAddressesSource{
		rpc.DomainInterfaceAddressesSrcLease, rpc.DomainInterfaceAddressesSrcAgent,
	} {
		found, err := call(ctx, c, "ask for the addresses of machine "+name, func() ([]rpc.DomainInterface, error) {
			return c.rpc.DomainInterfaceAddresses(d, uint32(source), 0)
		})
		var said rpc.Error
		switch {
		case errors.Is(err, ErrNotFound):
			return nil, err
		case errors.As(err, &said):
			continue // it doesn't run, or has no such network card, or no agent
		case err != nil:
			return nil, err
		}
		if all := usable(found); len(all) > 0 {
			return all, nil
		}
	}
	return nil, nil
}

// usable are the addresses that mean something outside of the machine, without repetition.
func usable(found []rpc.DomainInterface) []netip.Addr {
	var all []netip.Addr
	for _, i := range found {
		for _, a := range i.Addrs {
			ip, err := netip.ParseAddr(a.Addr)
			if err != nil || ip.IsLoopback() || ip.IsLinkLocalUnicast() || slices.Contains(all, ip) {
				continue
			}
			all = append(all, ip)
		}
	}
	return all
}
