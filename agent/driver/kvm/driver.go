// Package kvm carries out the steps of package machines with libvirt. It keeps nothing in
// memory that it could ask libvirt for, and touches only what says that it is this
// device's.
package kvm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nationtech/fleet/agent/machines"
	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/provision/libvirt"
)

// How long libvirt may take to connect to, and for a step beside the grace period of what
// is shut down.
const (
	dialTimeout = 10 * time.Second
	callTimeout = 2 * time.Minute
)

// Options say which libvirt is driven, for which device.
type Options struct {
	Device contracts.DeviceID
	// URI of a libvirtd on this device.
	URI libvirt.URI
	// Pool is the storage pool of images and disks.
	Pool string
	// Emulate has no machine use KVM, whatever libvirt claims.
	Emulate bool
	// Open opens secrets that were sealed to the device.
	Open   func(*contracts.Sealed) (map[string][]byte, error)
	Logger *slog.Logger
	// HostPath is where a file is of which libvirt says that it is at a path; nil where
	// both see the same files.
	HostPath func(string) string
}

// Driver drives one libvirt.
type Driver struct {
	o Options

	mu   sync.Mutex
	conn *libvirt.Conn
	// host is what libvirt behind conn has said of the device.
	host libvirt.Host
}

// New returns a driver; libvirt need not answer yet.
func New(o Options) *Driver { return &Driver{o: o} }

// Close ends the connection. Machines go on running.
func (d *Driver) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil {
		return nil
	}
	err := d.conn.Close()
	d.conn = nil
	return err
}

// connect returns the connection, a new one where the last has ended, and what the device
// can run.
func (d *Driver) connect(ctx context.Context) (*libvirt.Conn, libvirt.Host, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil {
		select {
		case <-d.conn.Gone():
			_ = d.conn.Close() // it has ended; this frees what it held
			d.conn = nil
		default:
			return d.conn, d.host, nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := libvirt.Dial(ctx, d.o.URI, libvirt.DialOptions{Logger: d.o.Logger})
	if err != nil {
		return nil, libvirt.Host{}, &unavailableError{err}
	}
	host, err := conn.Host(ctx)
	if err != nil {
		return nil, libvirt.Host{}, &unavailableError{errors.Join(err, conn.Close())}
	}
	d.conn, d.host = conn, host
	return conn, host, nil
}

// unavailableError is that libvirt can't be reached.
type unavailableError struct{ error }

func (e *unavailableError) Unwrap() error { return e.error }

// failure puts an error into a word and a sentence for people.
func (d *Driver) failure(what string, err error, reason string) error {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*reconcile.Failure](err); ok {
		return f
	}
	_, unavailable := errors.AsType[*unavailableError](err)
	switch {
	case unavailable, errors.Is(err, libvirt.ErrGone):
		reason = reconcile.ReasonNoDriver
		what += ": libvirt does not answer at " + d.o.URI.String()
	case errors.Is(err, libvirt.ErrPoolFull):
		reason = machines.ReasonPoolFull
	case errors.Is(err, libvirt.ErrNotOurs):
		reason = machines.ReasonNameTaken
	case errors.Is(err, context.DeadlineExceeded):
		err = errors.New("it took too long")
	}
	return &reconcile.Failure{Reason: reason, Message: what + ": " + err.Error()}
}

// Version of libvirt, and whether machines are emulated.
func (d *Driver) Version(ctx context.Context) (string, error) {
	conn, host, err := d.connect(ctx)
	if err != nil {
		return "", d.failure("ask libvirt for its version", err, reconcile.ReasonNoDriver)
	}
	version, err := conn.Version(ctx)
	if err != nil {
		return "", d.failure("ask libvirt for its version", err, reconcile.ReasonNoDriver)
	}
	text := "libvirt " + version
	if d.emulated(host, host.Arch) {
		text += " (emulated)"
	}
	return text, nil
}

// emulated reports whether machines of an architecture run without KVM. Libvirt claims it
// for what is in /dev; that it works only a boot could prove, and where it does not the
// device's owner has to say so.
func (d *Driver) emulated(host libvirt.Host, arch libvirt.Arch) bool {
	guest, err := host.Guest(arch)
	return d.o.Emulate || err != nil || !guest.KVM || arch != host.Arch
}

// Do carries out one step. The error is a *reconcile.Failure.
func (d *Driver) Do(ctx context.Context, n contracts.DeploymentName, want *machines.Desired, s machines.Step) error {
	var m *machines.Machine
	limit := callTimeout + s.Grace
	if s.Machine != "" {
		m = want.Find(s.Machine)
		limit += m.Stop
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, host, err := d.connect(ctx)
	if err != nil {
		return d.failure(s.String(), err, reconcile.ReasonNoDriver)
	}
	do := step{d, conn, host, n, want}
	switch s.Kind {
	case machines.MakeNetwork:
		return d.failure("make network "+want.Network(s.Network).Spec.Name, do.makeNetwork(ctx, *want.Network(s.Network)), machines.ReasonNetwork)
	case machines.MakeVolume:
		return d.failure(s.String(), do.makeVolume(ctx, s.Volume), reconcile.ReasonVolume)
	case machines.MakeDisk:
		return d.failure("make a disk of machine "+s.Machine, do.makeDisk(ctx, m, s.Volume), machines.ReasonDisk)
	case machines.WriteSeed:
		return d.failure("write what cloud-init reads in machine "+s.Machine, do.writeSeed(ctx, m), machines.ReasonDisk)
	case machines.Grow:
		return d.failure("grow a disk of machine "+s.Machine, do.grow(ctx, m, s.Volume), machines.ReasonDisk)
	case machines.Stop:
		return d.failure("shut down machine "+s.Machine, do.stop(ctx, m), reconcile.ReasonStop)
	case machines.Define:
		return d.failure("define machine "+s.Machine, do.define(ctx, m), reconcile.ReasonCreate)
	case machines.Start:
		return d.failure("start machine "+s.Machine, conn.Start(ctx, m.Domain), reconcile.ReasonStart)
	case machines.Resume:
		return d.failure("resume machine "+s.Machine, conn.Resume(ctx, m.Domain), reconcile.ReasonStart)
	case machines.SetMemory:
		return d.failure("change the memory of machine "+s.Machine, conn.SetMemory(ctx, m.Domain, m.Spec.MemoryBytes), machines.ReasonChange)
	case machines.SetCPUs:
		return d.failure("change the processors of machine "+s.Machine, conn.SetCPUs(ctx, m.Domain, m.Spec.CPUs), machines.ReasonChange)
	case machines.Remove:
		return d.failure("remove machine "+s.Domain, do.remove(ctx, s.Domain, s.Grace), reconcile.ReasonRemove)
	case machines.RemoveVolume:
		return d.failure(s.String(), conn.DeleteVolume(ctx, d.o.Pool, s.Volume), reconcile.ReasonRemove)
	case machines.RemoveNetwork:
		return d.failure(s.String(), conn.DeleteNetwork(ctx, libvirt.Network{Name: s.Network, Owner: d.networkOwner(n, s.Network)}), reconcile.ReasonRemove)
	}
	return &reconcile.Failure{Reason: reconcile.ReasonCreate, Message: fmt.Sprintf("the agent does not know the step %q", s.Kind)}
}

// Address is where a machine is reached: the first of its addresses.
func (d *Driver) Address(ctx context.Context, domain string) (reconcile.Address, error) {
	conn, _, err := d.connect(ctx)
	if err != nil {
		return reconcile.Address{}, d.failure("look for the machine's address", err, reconcile.ReasonNoDriver)
	}
	all, err := conn.Addresses(ctx, domain)
	switch {
	case err != nil:
		return reconcile.Address{}, d.failure("look for the machine's address", err, reconcile.ReasonProbe)
	case len(all) == 0:
		return reconcile.Address{}, errors.New("the machine has no address yet")
	}
	return reconcile.Address{Host: all[0].String()}, nil
}

// GuestPing asks whether the guest agent in a machine answers.
func (d *Driver) GuestPing(ctx context.Context, domain string) error {
	conn, _, err := d.connect(ctx)
	if err == nil {
		err = conn.GuestPing(ctx, domain)
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, libvirt.ErrGone) {
		return d.failure("ask the guest agent", err, reconcile.ReasonProbe)
	}
	return errors.New("the guest agent does not answer")
}
