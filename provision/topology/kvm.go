package topology

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/linux"
	"github.com/nationtech/fleet/provision/score"
)

// KVMHost is a Linux host on which libvirt answers. There are two ways to have one:
// LinuxHost.PrepareKVM and LinuxHost.ConnectKVM.
type KVMHost struct {
	linux *LinuxHost
	uri   libvirt.URI

	mu   sync.Mutex
	conn *libvirt.Conn
}

// Linux is the host that it was before.
func (k *KVMHost) Linux() *LinuxHost { return k.linux }

// URI is where its libvirt is.
func (k *KVMHost) URI() libvirt.URI { return k.uri }

// Conn is the connection to its libvirt, made anew when that was restarted.
func (k *KVMHost) Conn(ctx context.Context) (*libvirt.Conn, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conn != nil {
		select {
		case <-k.conn.Gone():
			k.conn.Close()
			k.conn = nil
		default:
			return k.conn, nil
		}
	}
	options := libvirt.DialOptions{}
	if remote := k.linux.remote; remote != nil {
		options.SSH = func(ctx context.Context, socket string) (net.Conn, error) { return remote.DialUnix(ctx, socket) }
	}
	conn, err := libvirt.Dial(ctx, k.uri, options)
	if err != nil {
		return nil, err
	}
	k.conn = conn
	return conn, nil
}

// Close ends the connection to its libvirt, and not that to the host.
func (k *KVMHost) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conn == nil {
		return nil
	}
	err := k.conn.Close()
	k.conn = nil
	return err
}

// KVMOptions say how a host is prepared.
type KVMOptions struct {
	// Arches are the architectures of the machines that are to run there; empty is the
	// host's own.
	Arches []libvirt.Arch
	// WithoutSystemd starts the daemons directly on a host that systemd does not run.
	WithoutSystemd bool
	// Report is told of each step.
	Report score.Report
}

// PrepareKVM installs what machines need, has libvirt run, and connects to it. On a host
// that has it all it changes nothing.
func (h *LinuxHost) PrepareKVM(ctx context.Context, o KVMOptions) (*KVMHost, error) {
	fail := func(err error) (*KVMHost, error) {
		return nil, fmt.Errorf("prepare %s for machines: %w", h.Host(), err)
	}
	release, err := linux.ReadRelease(ctx, h)
	if err != nil {
		return fail(err)
	}
	manager, err := linux.ManagerOf(release)
	if err != nil {
		return fail(err)
	}
	arches := o.Arches
	if len(arches) == 0 {
		own, err := h.arch(ctx)
		if err != nil {
			return fail(err)
		}
		arches = []libvirt.Arch{own}
	}
	if err := score.All(ctx, h, o.Report, On(Packages(arches))); err != nil {
		return fail(err)
	}
	runs, err := linux.HasSystemd(ctx, h)
	if err != nil {
		return fail(err)
	}
	services := On(daemons)
	if runs || !o.WithoutSystemd {
		services = On(units(manager))
	}
	member := linux.Member{Group: group}
	var joined bool
	report := func(s score.Step) {
		joined = joined || s.Name == member.Name() && s.Changed
		if o.Report != nil {
			o.Report(s)
		}
	}
	if err := score.All(ctx, h, report, services, On(member)); err != nil {
		return fail(err)
	}
	if joined {
		if err := h.renew(ctx); err != nil {
			return fail(err)
		}
	}
	uri, err := h.URI()
	if err != nil {
		return fail(err)
	}
	k, err := h.ConnectKVM(ctx, uri)
	if err != nil {
		return fail(err)
	}
	return k, nil
}
