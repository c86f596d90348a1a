package libvirt

import (
	"context"
	"errors"
	"fmt"

	rpc "github.com/digitalocean/go-libvirt"
)

// Define makes the machine known to libvirt, or changes its definition; one that runs goes
// on as it is until its next start. libvirt validates it. A machine of that name that has
// another owner or none is left alone: ErrNotOurs.
func (c *Conn) Define(ctx context.Context, m Machine) error {
	if err := m.check(); err != nil {
		return err
	}
	if m.Owner.Zero() {
		return fmt.Errorf("machine %s: needs an owner", m.Name)
	}
	uuid := ""
	switch is, err := c.Machine(ctx, m.Name); {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return err
	case is.Next.Zero():
		return asKind(ErrNotOurs, "machine %s exists and was not made by fleet: choose another name", m.Name)
	case !is.Next.same(m.Owner):
		return asKind(ErrNotOurs, "machine %s exists and is %s: choose another name", m.Name, is.Next)
	default:
		uuid = is.UUID
	}
	text, err := m.xml(uuid)
	if err != nil {
		return err
	}
	err = do(ctx, c, "define machine "+m.Name, func() error {
		_, err := c.rpc.DomainDefineXMLFlags(string(text), rpc.DomainDefineValidate)
		return err
	})
	switch {
	case err == nil:
		return nil
	case saidCode(err, rpc.ErrDomExist):
		// Somebody else was faster.
		return asKind(ErrNotOurs, "machine %s exists and was not made by fleet: choose another name: %w", m.Name, err)
	}
	// Of a machine type that it doesn't know libvirt says that there are no buses.
	if host, hostErr := c.Host(ctx); hostErr == nil {
		if _, typeErr := host.MachineType(m.Arch, m.Type); typeErr != nil {
			return fmt.Errorf("%w: %w", err, typeErr)
		}
	}
	return err
}

// Undefine makes libvirt forget the machine, along with its saved memory and firmware
// settings; its disks stay. One that runs goes on until it ends: Destroy it first.
func (c *Conn) Undefine(ctx context.Context, name string) error {
	d, s, err := c.ours(ctx, name)
	if errors.Is(err, ErrNotFound) || (err == nil && !s.Persistent) {
		return nil
	}
	if err != nil {
		return err
	}
	err = do(ctx, c, "undefine machine "+name, func() error {
		return c.rpc.DomainUndefineFlags(d, rpc.DomainUndefineManagedSave|rpc.DomainUndefineSnapshotsMetadata|
			rpc.DomainUndefineNvram|rpc.DomainUndefineCheckpointsMetadata)
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
