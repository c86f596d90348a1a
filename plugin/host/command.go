// Package host is `kubectl fleet host`: the hosts that machines run on.
package host

import (
	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/plugin/cli"
)

// NewCommand is `kubectl fleet host`.
func NewCommand(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "host",
		Aliases: []string{"hosts"},
		Short:   "Prepare hosts on which machines run",
		Long: `Prepare hosts on which machines run: a Linux host, this one or another that you reach
with SSH, gets libvirt, a storage pool and a network. kubectl fleet vm boots machines on it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSetupCommand(env), newCheckCommand(env))
	return cmd
}
