package vm

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
	"github.com/nationtech/fleet/provision/topology"
	"github.com/nationtech/fleet/provision/vm"
)

type deleteOptions struct {
	env    *cli.Env
	reach  cli.Reach
	device bool
}

func newDeleteCommand(env *cli.Env) *cobra.Command {
	o := deleteOptions{env: env}
	cmd := &cobra.Command{
		Use:     "delete NAME...",
		Aliases: []string{"rm"},
		Short:   "Take machines away with their disks",
		Long: `Cut the power of machines, and take them away with their disks; and what is left of one
that was not made to the end. The image stays in the pool for the next one.

The Device stays in the cluster, without its machine, unless --device takes it away as
well. Where Git has it, take it away there.`,
		Example: `  kubectl fleet vm delete till-7 --device -n shops`,
		Args:    someNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return each(cmd.Context(), &o.reach, args, func(host *topology.KVMHost, name string) error {
				return o.delete(cmd.Context(), host, name)
			})
		},
	}
	o.reach.AddURIFlags(cmd, env)
	cmd.Flags().BoolVar(&o.device, "device", false, "Take the Device of that name away as well, in the namespace.")
	cmd.ValidArgsFunction = completeMachines(&o.reach)
	return cmd
}

func (o *deleteOptions) delete(ctx context.Context, host *topology.KVMHost, name string) error {
	gone, err := vm.Delete(ctx, host, o.reach.Pool, name)
	for _, what := range gone {
		o.env.Note(screen.Dim, "%s is gone", what)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(o.env.Streams.Out, "machine %s deleted\n", name)
	if !o.device {
		return nil
	}
	cluster, err := o.env.Connect()
	if err != nil {
		return err
	}
	device := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: cluster.Namespace, Name: name}}
	if err := cluster.Client.Delete(ctx, device); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete Device %s/%s: %w", cluster.Namespace, name, err)
	}
	fmt.Fprintf(o.env.Streams.Out, "device %s deleted\n", name)
	return nil
}
