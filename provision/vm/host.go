package vm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path"

	"github.com/nationtech/fleet/provision/dirs"
	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/score"
	"github.com/nationtech/fleet/provision/topology"
)

// imagesDir is where libvirt's packages put disks: QEMU's user may go there, and the rules
// of SELinux and AppArmor know it.
const imagesDir = "/var/lib/libvirt/images"

// Pool is the storage pool that machines' disks are in.
type Pool struct {
	// Name is the pool's.
	Name string
	// Dir is where the pool is made when there is none of that name. Empty is the usual
	// place on the host.
	Dir string
}

// PoolOf is the pool of a host for a person.
func PoolOf(host *topology.LinuxHost, name string, d dirs.Dirs) Pool {
	p := Pool{Name: name}
	if host.IsLocal() {
		p.Dir = d.Pool(name)
	}
	return p
}

func (p Pool) dir() string {
	if p.Dir != "" {
		return p.Dir
	}
	return path.Join(imagesDir, p.Name)
}

// poolScore has the method Name, which the field's name leaves no room for.
type poolScore struct{ Pool }

// Score has the pool there, and running.
func (p Pool) Score() score.Score[*topology.KVMHost] { return poolScore{p} }

// Name says which pool it is.
func (p poolScore) Name() string { return "storage pool " + p.Pool.Name }

// Interpret makes the pool, or starts it. One that is there stays where it is.
func (p poolScore) Interpret(ctx context.Context, host *topology.KVMHost) (score.Outcome, error) {
	conn, err := host.Conn(ctx)
	if err != nil {
		return score.Outcome{}, err
	}
	is, err := conn.Pool(ctx, p.Pool.Name)
	switch {
	case errors.Is(err, libvirt.ErrNotFound):
		if err := conn.EnsurePool(ctx, p.Pool.Name, p.dir()); err != nil {
			return score.Outcome{}, err
		}
		return score.Changed("made it in %s", p.dir()), nil
	case err != nil:
		return score.Outcome{}, err
	}
	if err := conn.EnsurePool(ctx, p.Pool.Name, is.Path); err != nil {
		return score.Outcome{}, err
	}
	return score.Unchanged("it is in %s", is.Path), nil
}

// DefaultNetwork is the network that fleet makes for machines: they reach what the host
// reaches, and nobody but the host reaches them.
const DefaultNetwork = "fleet"

// DefaultSubnet are the addresses of that network, unless another is asked for.
var DefaultSubnet = netip.MustParsePrefix("192.168.148.0/24")

// Network is the network that machines are on.
type Network struct {
	// Name is DefaultNetwork, or that of a network which somebody else looks after.
	Name string
	// Subnet are the addresses of DefaultNetwork. Where it is not valid, those that the
	// network has stay, and a new one gets DefaultSubnet.
	Subnet netip.Prefix
}

type networkScore struct{ Network }

// Score has the network there, and running.
func (n Network) Score() score.Score[*topology.KVMHost] { return networkScore{n} }

// Name says which network it is.
func (n networkScore) Name() string { return "network " + n.Network.Name }

// Interpret makes the network where it is fleet's, and looks whether it runs where it is not.
func (n networkScore) Interpret(ctx context.Context, host *topology.KVMHost) (score.Outcome, error) {
	conn, err := host.Conn(ctx)
	if err != nil {
		return score.Outcome{}, err
	}
	all, err := conn.Networks(ctx)
	if err != nil {
		return score.Outcome{}, err
	}
	want := libvirt.Network{
		Name: DefaultNetwork, Owner: libvirt.Owner{Name: DefaultNetwork}, Mode: libvirt.ModeNAT, CIDR: DefaultSubnet, DHCP: true,
	}
	for _, is := range all {
		switch {
		case is.Name != n.Network.Name:
		case n.Network.Name != DefaultNetwork && !is.Active:
			return score.Outcome{}, fmt.Errorf("network %s of %s does not run: virsh net-start %s", is.Name, host.Linux().Host(), is.Name)
		case n.Network.Name != DefaultNetwork:
			return score.Unchanged("it runs"), nil
		case is.Active && is.UUID == want.UUID() && !n.Subnet.IsValid():
			// Whoever made it may have chosen its addresses.
			return score.Unchanged("it runs"), nil
		}
	}
	if n.Network.Name != DefaultNetwork {
		return score.Outcome{}, fmt.Errorf("there is no network %s on %s: leave --network out for one of fleet's own, or name one that virsh net-list shows", n.Network.Name, host.Linux().Host())
	}
	if n.Subnet.IsValid() {
		want.CIDR = n.Subnet
	}
	changed, err := conn.EnsureNetwork(ctx, want)
	if err != nil {
		return score.Outcome{}, err
	}
	if !changed {
		return score.Unchanged("it runs with the addresses %s", want.CIDR), nil
	}
	return score.Changed("made it with the addresses %s", want.CIDR), nil
}
