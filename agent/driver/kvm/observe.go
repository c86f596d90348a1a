package kvm

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nationtech/fleet/agent/machines"
	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/provision/libvirt"
)

// Observe is what libvirt has of a deployment. The error is a *reconcile.Failure.
func (d *Driver) Observe(ctx context.Context, n contracts.DeploymentName, want *machines.Desired) (machines.Observed, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	o, err := d.observe(ctx, n, want)
	return o, d.failure("look at the device's machines", err, reconcile.ReasonNoDriver)
}

func (d *Driver) observe(ctx context.Context, n contracts.DeploymentName, want *machines.Desired) (machines.Observed, error) {
	o := machines.Observed{Networks: map[string]machines.NetworkState{}, Volumes: map[string]int64{}, Images: map[string]bool{}}
	conn, _, err := d.connect(ctx)
	if err != nil {
		return o, err
	}
	names := map[string]string{}
	images := map[string]bool{}
	if want != nil {
		for _, m := range want.Machines {
			names[m.Domain] = m.Spec.Name
		}
		for _, image := range want.Images() {
			images[image] = true
		}
	}
	all, err := conn.Machines(ctx)
	if err != nil {
		return o, err
	}
	for _, s := range all {
		dom := domain(s)
		owner := ownerOf(s)
		wanted, isWanted := names[s.Name]
		dom.Ours = owner.Device == string(d.o.Device) && owner.Deployment == string(n) && (!isWanted || owner.Name == wanted)
		if dom.Ours || isWanted {
			o.Domains = append(o.Domains, dom)
		}
	}
	prefix := machines.Prefix(d.o.Device, n)
	networks, err := conn.Networks(ctx)
	if err != nil {
		return o, err
	}
	for _, s := range networks {
		if strings.HasPrefix(s.Name, prefix) {
			ours := libvirt.Network{Name: s.Name, Owner: d.networkOwner(n, s.Name)}.UUID() == s.UUID
			o.Networks[s.Name] = machines.NetworkState{Active: s.Active, Ours: ours}
		}
	}
	volumes, err := conn.Volumes(ctx, d.o.Pool)
	if errors.Is(err, libvirt.ErrNotFound) {
		if !needsPool(want) {
			return o, nil
		}
		return o, &reconcile.Failure{Reason: machines.ReasonPoolNotFound, Message: fmt.Sprintf("libvirt on this device has no storage pool %s: `kubectl fleet host setup` makes it, or virsh pool-define-as", d.o.Pool)}
	}
	if err != nil {
		return o, err
	}
	for _, v := range volumes {
		if strings.HasPrefix(v.Name, prefix) {
			o.Volumes[v.Name] = int64(v.Capacity)
		}
		if images[v.Name] {
			o.Images[v.Name] = true
		}
	}
	return o, nil
}

// needsPool reports whether any machine has a disk.
func needsPool(want *machines.Desired) bool {
	if want == nil {
		return false
	}
	for _, m := range want.Machines {
		if len(m.Disks) > 0 || m.Seed != "" {
			return true
		}
	}
	return false
}

// ownerOf is whose a machine is: as it runs, or as it would.
func ownerOf(s libvirt.MachineStatus) libvirt.Owner {
	if s.Owner.Zero() {
		return s.Next
	}
	return s.Owner
}

func domain(s libvirt.MachineStatus) machines.Domain {
	owner := ownerOf(s)
	d := machines.Domain{
		Name: s.Name, Machine: owner.Name, UUID: s.UUID, Made: owner.Hash, Detail: s.Reason,
		CPUs: s.CPUs, Memory: s.MemoryBytes, Run: s.ID, Persistent: s.Persistent,
	}
	d.State, d.Ended = stand(s)
	return d
}

// stand is where a machine stands and how it came there, in the words of package
// machines.
func stand(s libvirt.MachineStatus) (machines.State, machines.End) {
	switch s.State {
	case libvirt.StateRunning:
		if s.Reason == libvirt.ReasonShuttingDown {
			return machines.StateStopping, machines.EndUnknown
		}
		return machines.StateRunning, machines.EndUnknown
	case libvirt.StatePaused:
		switch s.Reason {
		case libvirt.ReasonDiskFailed:
			return machines.StatePaused, machines.EndCrashed
		case libvirt.ReasonPausedByHand, "":
			return machines.StatePaused, machines.EndUnknown
		}
		return machines.StateOther, machines.EndUnknown // libvirt is at something
	case libvirt.StateShutOff:
		switch s.Reason {
		case libvirt.ReasonDestroyed:
			return machines.StateOff, machines.EndDestroyed
		case libvirt.ReasonShutDown:
			return machines.StateOff, machines.EndShutdown
		case libvirt.ReasonCrashed, libvirt.ReasonFailedToStart:
			return machines.StateOff, machines.EndCrashed
		}
		return machines.StateOff, machines.EndUnknown
	case libvirt.StateCrashed:
		return machines.StateCrashed, machines.EndCrashed
	}
	return machines.StateOther, machines.EndUnknown
}

// Deployments are those of which libvirt has a machine, a disk of one, or a network.
func (d *Driver) Deployments(ctx context.Context) (map[contracts.DeploymentName]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	found := map[contracts.DeploymentName]bool{}
	err := d.deployments(ctx, func(name string) {
		if n, err := contracts.ParseDeploymentName(name); err == nil {
			found[n] = true
		}
	})
	return found, d.failure("look for the device's deployments", err, reconcile.ReasonNoDriver)
}

func (d *Driver) deployments(ctx context.Context, add func(string)) error {
	conn, _, err := d.connect(ctx)
	if err != nil {
		return err
	}
	all, err := conn.Machines(ctx)
	if err != nil {
		return err
	}
	for _, s := range all {
		if owner := ownerOf(s); owner.Device == string(d.o.Device) && owner.Deployment != "" {
			add(owner.Deployment)
		}
	}
	// Of a name that was shortened nobody can tell whose it is; that of a machine, which
	// most of them would go with, says so itself.
	named := func(name string) {
		parts := strings.Split(name, "_")
		if len(parts) > 3 && strings.HasPrefix(name, machines.Prefix(d.o.Device, contracts.DeploymentName(parts[2]))) {
			add(parts[2])
		}
	}
	networks, err := conn.Networks(ctx)
	if err != nil {
		return err
	}
	for _, s := range networks {
		named(s.Name)
	}
	volumes, err := conn.Volumes(ctx, d.o.Pool)
	if err != nil && !errors.Is(err, libvirt.ErrNotFound) {
		return err
	}
	for _, v := range volumes {
		if machines.OfMachine(v.Name) {
			named(v.Name)
		}
	}
	return nil
}
