// Package vm is `kubectl fleet vm`: machines that join the fleet as devices.
package vm

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/provision/topology"
	"github.com/nationtech/fleet/provision/vm"
)

// NewCommand is `kubectl fleet vm`.
func NewCommand(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "vm",
		Aliases: []string{"vms"},
		Short:   "Boot machines that join the fleet as devices",
		Long: `Boot machines on a KVM host that join the fleet as devices, and look after them. They are
for trying things out, for tests, and for what a fleet runs on hosts of its own; machines
that a Deployment makes are another thing, and not touched.

kubectl fleet host setup prepares a host.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCreateCommand(env), newListCommand(env), newStartCommand(env), newStopCommand(env), newConsoleCommand(env), newDeleteCommand(env))
	return cmd
}

// each does something with each of the machines that are named, and goes on after one that
// fails.
func each(ctx context.Context, reach *cli.Reach, names []string, do func(host *topology.KVMHost, name string) error) error {
	host, done, err := reach.KVM(ctx)
	if err != nil {
		return err
	}
	defer done()
	var failed []error
	for _, name := range names {
		if err := do(host, name); err != nil {
			failed = append(failed, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	switch len(failed) {
	case 0:
		return nil
	case 1:
		return failed[0]
	}
	return errors.Join(failed...)
}

// completeMachines completes names of machines of the host that are not among the
// arguments yet, of this machine alone: a Tab is no place for a connection to another.
func completeMachines(reach *cli.Reach) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		uri, err := reach.URI()
		if err != nil || !uri.Local() {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(context.Background(), cli.CompletionTimeout)
		defer cancel()
		host, done, err := reach.KVM(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer done()
		machines, err := vm.List(ctx, host)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		taken := map[string]bool{}
		for _, name := range args {
			taken[name] = true
		}
		var names []string
		for _, m := range machines {
			if !taken[m.Name] {
				names = append(names, m.Name)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// someNames wants one argument at least.
func someNames(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New("the name of a machine is missing: " + cmd.UseLine())
	}
	return nil
}
