package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/topology"
)

// Info is a machine of a host.
type Info struct {
	Name        string   `json:"name"`
	State       string   `json:"state"`
	Reason      string   `json:"reason,omitempty"`
	CPUs        int      `json:"cpus"`
	MemoryBytes int64    `json:"memoryBytes"`
	MAC         string   `json:"mac"`
	Addresses   []string `json:"addresses"`
}

// List are the machines of a host that this package has made, by name.
func List(ctx context.Context, host *topology.KVMHost) ([]Info, error) {
	conn, err := host.Conn(ctx)
	if err != nil {
		return nil, err
	}
	all, err := conn.Machines(ctx)
	if err != nil {
		return nil, err
	}
	infos := []Info{}
	for _, m := range all {
		if !isOurs(m) {
			continue
		}
		i := Info{Name: m.Name, State: string(m.State), Reason: m.Reason, CPUs: m.CPUs, MemoryBytes: m.MemoryBytes, MAC: MAC(m.Name).String(), Addresses: []string{}}
		if m.State == libvirt.StateRunning {
			addresses, err := conn.Addresses(ctx, m.Name)
			if err != nil && !errors.Is(err, libvirt.ErrNotFound) {
				return nil, err
			}
			for _, a := range addresses {
				i.Addresses = append(i.Addresses, a.String())
			}
		}
		infos = append(infos, i)
	}
	slices.SortFunc(infos, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return infos, nil
}

// own is the connection to a host on which a machine is this package's.
func own(ctx context.Context, host *topology.KVMHost, name string) (*libvirt.Conn, libvirt.MachineStatus, error) {
	conn, err := host.Conn(ctx)
	if err != nil {
		return nil, libvirt.MachineStatus{}, err
	}
	is, err := conn.Machine(ctx, name)
	switch {
	case errors.Is(err, libvirt.ErrNotFound):
		return nil, is, fmt.Errorf("machine %s is not there on %s: %w; kubectl fleet vm list shows those that are", name, host.Linux().Host(), libvirt.ErrNotFound)
	case err != nil:
		return nil, is, err
	case !isOurs(is):
		return nil, is, fmt.Errorf("domain %s on %s was not made by kubectl fleet vm create, and is left alone: %w", name, host.Linux().Host(), libvirt.ErrNotOurs)
	}
	return conn, is, nil
}

// Start starts a machine, and reports whether it did not run.
func Start(ctx context.Context, host *topology.KVMHost, name string) (bool, error) {
	conn, is, err := own(ctx, host, name)
	if err != nil {
		return false, err
	}
	if is.State == libvirt.StatePaused {
		return true, conn.Resume(ctx, name)
	}
	return !is.Active(), conn.Start(ctx, name)
}

// Stop has a machine shut down, and cuts its power when it has not after grace; at once
// where grace is 0. It reports whether the machine ran.
func Stop(ctx context.Context, host *topology.KVMHost, name string, grace time.Duration) (bool, error) {
	conn, is, err := own(ctx, host, name)
	if err != nil {
		return false, err
	}
	if grace <= 0 {
		return is.Active(), conn.Destroy(ctx, name)
	}
	return is.Active(), conn.Shutdown(ctx, name, grace)
}

// Console connects a stream to a machine's console until the context ends.
func Console(ctx context.Context, host *topology.KVMHost, name string, stream io.ReadWriter) error {
	conn, _, err := own(ctx, host, name)
	if err != nil {
		return err
	}
	return conn.Console(ctx, name, stream)
}

// Delete takes a machine away with its disks, and what is left of one that was not made to
// the end. It says what it has taken away; nothing is an error.
func Delete(ctx context.Context, host *topology.KVMHost, pool, name string) ([]string, error) {
	conn, _, err := own(ctx, host, name)
	var gone []string
	switch {
	case err == nil:
		if err := remove(ctx, conn, name); err != nil {
			return nil, err
		}
		gone = append(gone, "domain "+name)
	case errors.Is(err, libvirt.ErrNotFound):
		if conn, err = host.Conn(ctx); err != nil {
			return nil, err
		}
	default:
		return nil, err
	}
	disk, seed, agent := volumes(name)
	for _, volume := range []string{disk, seed, agent} {
		_, err := conn.Volume(ctx, pool, volume)
		if errors.Is(err, libvirt.ErrNotFound) {
			continue
		}
		if err == nil {
			err = conn.DeleteVolume(ctx, pool, volume)
		}
		if err != nil {
			return gone, err
		}
		gone = append(gone, "volume "+volume)
	}
	if len(gone) == 0 {
		return nil, fmt.Errorf("machine %s is not there on %s: %w; kubectl fleet vm list shows those that are", name, host.Linux().Host(), libvirt.ErrNotFound)
	}
	return gone, nil
}

// remove takes a domain away. One that is not there, or not ours, is left alone.
func remove(ctx context.Context, conn *libvirt.Conn, name string) error {
	is, err := conn.Machine(ctx, name)
	if errors.Is(err, libvirt.ErrNotFound) || err == nil && !isOurs(is) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := conn.Destroy(ctx, name); err != nil && !errors.Is(err, libvirt.ErrNotFound) {
		return err
	}
	return conn.Undefine(ctx, name)
}
