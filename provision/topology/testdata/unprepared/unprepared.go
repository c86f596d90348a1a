// Package unprepared makes machines on hosts that nobody has seen to. It does not compile.
package unprepared

import (
	"context"

	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/topology"
	"github.com/nationtech/fleet/provision/vm"
)

// Boot takes a host as it comes.
func Boot(ctx context.Context, spec vm.Spec) error {
	_, err := vm.Create(ctx, topology.Local(), spec, vm.Options{})
	return err
}

// Pretend makes a prepared host of nothing.
func Pretend(conn *libvirt.Conn) *topology.KVMHost {
	return &topology.KVMHost{conn: conn}
}
