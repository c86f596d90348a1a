package kvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/nationtech/fleet/agent/machines"
	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/provision/libvirt"
)

// step is what carrying one out needs.
type step struct {
	*Driver
	conn *libvirt.Conn
	host libvirt.Host
	n    contracts.DeploymentName
	want *machines.Desired
}

// networkOwner is whose a network is. Libvirt keeps no notes on networks, so their UUID
// follows from it.
func (d *Driver) networkOwner(n contracts.DeploymentName, name string) libvirt.Owner {
	return libvirt.Owner{Device: string(d.o.Device), Deployment: string(n), Name: name}
}

func (s step) makeNetwork(ctx context.Context, n machines.Network) error {
	network := libvirt.Network{Name: n.LibvirtName, Owner: s.networkOwner(s.n, n.LibvirtName), Mode: libvirt.ModeNAT, DHCP: n.Spec.DHCP}
	network.Owner.Hash = n.Hash
	if n.Spec.Mode == contracts.NetworkIsolated {
		network.Mode = libvirt.ModeIsolated
	}
	if n.Spec.CIDR != "" {
		var err error
		if network.CIDR, err = netip.ParsePrefix(n.Spec.CIDR); err != nil {
			return err
		}
	}
	_, err := s.conn.EnsureNetwork(ctx, network)
	return err
}

func (s step) makeVolume(ctx context.Context, name string) error {
	for _, v := range s.want.Volumes {
		if v.Volume == name {
			return there(s.conn.CreateVolume(ctx, s.o.Pool, name, uint64(v.Bytes)))
		}
	}
	return fmt.Errorf("the score has no volume %s", name)
}

// there takes a volume that exists for one that was made: somebody was here before.
func there(err error) error {
	if errors.Is(err, libvirt.ErrExists) {
		return nil
	}
	return err
}

func (s step) makeDisk(ctx context.Context, m *machines.Machine, name string) error {
	d, err := disk(m, name)
	if err != nil {
		return err
	}
	err = there(s.conn.CreateOverlay(ctx, s.o.Pool, name, d.Image, uint64(d.Bytes)))
	if errors.Is(err, libvirt.ErrNotFound) {
		return &reconcile.Failure{Reason: machines.ReasonImageNotFound, Message: fmt.Sprintf("machine %s, disk %s: %v", m.Spec.Name, d.Name, err)}
	}
	return err
}

func disk(m *machines.Machine, name string) (machines.Disk, error) {
	for _, d := range m.Disks {
		if d.Volume == name {
			return d, nil
		}
	}
	return machines.Disk{}, fmt.Errorf("machine %s has no disk %s", m.Spec.Name, name)
}

func (s step) writeSeed(ctx context.Context, m *machines.Machine) error {
	seed, err := s.seed(m)
	if err != nil {
		return err
	}
	return there(s.conn.Upload(ctx, s.o.Pool, m.Seed, "raw", int64(len(seed)), bytes.NewReader(seed)))
}

func (s step) grow(ctx context.Context, m *machines.Machine, name string) error {
	d, err := disk(m, name)
	if err != nil {
		return err
	}
	return s.conn.ResizeVolume(ctx, s.o.Pool, name, uint64(d.Bytes))
}

// stop shuts a machine down that is to become another, once it is clear that this device
// can run the other.
func (s step) stop(ctx context.Context, m *machines.Machine) error {
	if _, err := s.machine(m); err != nil {
		return err
	}
	err := s.conn.Shutdown(ctx, m.Domain, m.Stop)
	if errors.Is(err, libvirt.ErrNotFound) {
		return nil
	}
	return err
}

func (s step) define(ctx context.Context, m *machines.Machine) error {
	machine, err := s.machine(m)
	if err != nil {
		return err
	}
	return s.conn.Define(ctx, machine)
}

func (s step) remove(ctx context.Context, domain string, grace time.Duration) error {
	for _, err := range []error{s.conn.Shutdown(ctx, domain, grace), s.conn.Undefine(ctx, domain)} {
		if err != nil && !errors.Is(err, libvirt.ErrNotFound) {
			return err
		}
	}
	return nil
}

// machine is a machine as libvirt takes it.
func (s step) machine(m *machines.Machine) (libvirt.Machine, error) {
	spec, invalid := m.Spec, func(err error) (libvirt.Machine, error) {
		return libvirt.Machine{}, &reconcile.Failure{Reason: reconcile.ReasonInvalid, Message: fmt.Sprintf("machine %s: %v", m.Spec.Name, err)}
	}
	arch := s.host.Arch
	if spec.Arch != "" {
		arch = libvirt.Arch(spec.Arch)
	}
	kind, err := s.host.MachineType(arch, spec.Type)
	if err != nil {
		return invalid(err)
	}
	out := libvirt.Machine{
		Name: m.Domain, Title: fmt.Sprintf("machine %s of deployment %s", spec.Name, s.n),
		Owner: libvirt.Owner{Device: string(s.o.Device), Deployment: string(s.n), Name: spec.Name, Hash: m.Made.String()},
		Arch:  arch, Type: kind, Emulated: s.emulated(s.host, arch),
		CPUs: spec.CPUs, MaxCPUs: m.Made.MaxCPUs, MemoryBytes: spec.MemoryBytes, MaxMemoryBytes: m.Made.MaxMemory,
		Console: spec.Console, GuestAgent: true,
	}
	for _, d := range m.Disks {
		out.Disks = append(out.Disks, libvirt.Disk{Pool: s.o.Pool, Volume: d.Volume, Target: target(len(out.Disks)), ReadOnly: d.ReadOnly, Format: "qcow2"})
	}
	if m.Seed != "" {
		out.Disks = append(out.Disks, libvirt.Disk{Pool: s.o.Pool, Volume: m.Seed, Target: target(len(out.Disks)), ReadOnly: true, Format: "raw"})
	}
	for _, i := range m.Interfaces {
		mac := libvirt.MACFor(string(s.o.Device), string(s.n), spec.Name, i.Name)
		if i.MAC != "" {
			if mac, err = libvirt.ParseMAC(i.MAC); err != nil {
				return invalid(fmt.Errorf("interface %s: %w", i.Name, err))
			}
		}
		out.Interfaces = append(out.Interfaces, libvirt.Interface{Network: i.Network, Bridge: i.Bridge, MAC: mac})
	}
	return out, nil
}

// target is the name of a disk by its number.
func target(n int) string { return "vd" + "abcdefghijklmnopqrstuvwxyz"[n:n+1] }
