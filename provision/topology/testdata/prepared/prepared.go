// Package prepared makes a machine on a host that was prepared. It compiles.
package prepared

import (
	"context"

	"github.com/nationtech/fleet/provision/topology"
	"github.com/nationtech/fleet/provision/vm"
)

// Boot prepares this machine and boots another on it.
func Boot(ctx context.Context, spec vm.Spec) error {
	host, err := topology.Local().PrepareKVM(ctx, topology.KVMOptions{})
	if err != nil {
		return err
	}
	_, err = vm.Create(ctx, host, spec, vm.Options{})
	return err
}
