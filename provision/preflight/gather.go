package preflight

import (
	"context"
	"errors"
	"fmt"

	"github.com/nationtech/fleet/provision/command"
	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/topology"
)

// Tried tells what is known of KVM on a host.
type Tried interface {
	Of(ctx context.Context, host *topology.KVMHost) *bool
}

// Look looks at a host. It returns the host as one for machines where libvirt answers, and
// nil otherwise. An error is that nothing could be looked at.
func Look(ctx context.Context, host *topology.LinuxHost, uri libvirt.URI, pool string, tried Tried, w Want) (*topology.KVMHost, Facts, error) {
	f := Facts{Host: host.Host(), Pool: libvirt.PoolStatus{Name: pool}}
	var err error
	if f.DevKVM, err = command.Succeeds(ctx, host, command.New("test", "-e", "/dev/kvm")); err != nil {
		return nil, f, err
	}
	// It is where only root's PATH leads.
	const find = "PATH=$PATH:/usr/sbin:/sbin; command -v dnsmasq"
	if f.Dnsmasq, err = has(ctx, host, find); err != nil {
		return nil, f, err
	}
	if w.Image != nil {
		f.Image = w.Image()
	}
	if w.Agent != nil {
		f.Agent = w.Agent()
	}
	kvm, err := host.ConnectKVM(ctx, uri)
	if err != nil {
		f.Libvirt = err
		return nil, f, ctx.Err()
	}
	if tried != nil {
		f.Tried = tried.Of(ctx, kvm)
	}
	return kvm, f, f.ask(ctx, kvm, pool, w)
}

// has reports whether a shell finds a command. It ends with 127 when not, which is an
// answer here.
func has(ctx context.Context, host *topology.LinuxHost, script string) (bool, error) {
	found, err := command.Succeeds(ctx, host, command.New("sh", "-c", script+" >/dev/null || exit 1"))
	if err != nil {
		return false, fmt.Errorf("look for what is installed on %s: %w", host.Host(), err)
	}
	return found, nil
}

// ask asks libvirt.
func (f *Facts) ask(ctx context.Context, kvm *topology.KVMHost, pool string, w Want) error {
	conn, err := kvm.Conn(ctx)
	if err != nil {
		return err
	}
	if f.Version, err = conn.Version(ctx); err != nil {
		return err
	}
	facts, err := conn.Host(ctx)
	if err != nil {
		return err
	}
	guest, err := facts.Guest(w.Arch)
	f.Emulator, f.KVM = err, guest.KVM && facts.Arch == w.Arch
	is, err := conn.Pool(ctx, pool)
	switch {
	case errors.Is(err, libvirt.ErrNotFound):
		f.NoPool = true
	case err != nil:
		f.PoolError = err
	default:
		f.Pool = is
	}
	return nil
}
