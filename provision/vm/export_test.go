package vm

import (
	"context"

	"github.com/nationtech/fleet/provision/topology"
)

// CreateOnTrial is Create where libvirt claims KVM, whatever it does here. It undoes nothing.
func CreateOnTrial(ctx context.Context, host *topology.KVMHost, s Spec, o Options) (Created, error) {
	c := creation{host: host, spec: s, options: o, undo: &undoing{host: host}}
	conn, err := host.Conn(ctx)
	if err != nil {
		return Created{}, err
	}
	if err := c.image(ctx, conn); err != nil {
		return Created{}, err
	}
	if err := c.volumes(ctx, conn); err != nil {
		return Created{}, err
	}
	h, err := c.start(ctx, conn, "", how{trial: true})
	return Created{Name: s.Name, Emulated: h.emulated, Why: h.why}, err
}
