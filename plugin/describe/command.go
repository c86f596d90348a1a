// Package describe is `kubectl fleet describe`: everything about one object.
package describe

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/plugin/cli"
)

// NewCommand is `kubectl fleet describe`.
func NewCommand(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "describe",
		Short: "Show everything about one device",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDeviceCommand(env))
	return cmd
}

func newDeviceCommand(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:     "device NAME",
		Aliases: []string{"devices", "dev"},
		Short:   "Show everything about one device: who it is, how it is, what it runs",
		Long: `Show everything about one device: who it is and what it runs on, its last heartbeat, what
it was told to run and what it says of that, its conditions and the last events.

What can't be read, because the live API does not answer or you may not see it, is named
at the end.`,
		Example: `  kubectl fleet describe device till-7 -n shops`,
		Args:    cli.ExactName("device"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return env.CompleteDevices(cmd, nil, toComplete)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			cluster, err := env.Connect()
			if err != nil {
				return err
			}
			d, err := gather(cmd.Context(), cluster, args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(env.Streams.Out, render(env.Style(env.Streams.Out), d, env.Now()))
			return err
		},
	}
}
