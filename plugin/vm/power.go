package vm

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
	"github.com/nationtech/fleet/provision/topology"
	"github.com/nationtech/fleet/provision/vm"
)

func newStartCommand(env *cli.Env) *cobra.Command {
	var reach cli.Reach
	cmd := &cobra.Command{
		Use:     "start NAME...",
		Short:   "Start machines",
		Long:    "Start machines. They are the devices that they were: nothing joins again.",
		Example: `  kubectl fleet vm start till-7`,
		Args:    someNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return each(cmd.Context(), &reach, args, func(host *topology.KVMHost, name string) error {
				changed, err := vm.Start(cmd.Context(), host, name)
				return said(env, err, changed, name, "started", "already running")
			})
		},
	}
	reach.AddURIFlags(cmd, env)
	cmd.ValidArgsFunction = completeMachines(&reach)
	return cmd
}

func newStopCommand(env *cli.Env) *cobra.Command {
	var reach cli.Reach
	var force bool
	var grace time.Duration
	cmd := &cobra.Command{
		Use:   "stop NAME...",
		Short: "Shut machines down",
		Long: `Have machines shut down as if somebody had pressed the button, and cut the power of those
that have not within --grace. --force cuts it at once.`,
		Example: `  kubectl fleet vm stop till-7

  # A power cut
  kubectl fleet vm stop till-7 --force`,
		Args: someNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if grace <= 0 {
				return errors.New("--grace: must be longer than 0; --force cuts the power at once")
			}
			if force {
				grace = 0
			}
			return each(cmd.Context(), &reach, args, func(host *topology.KVMHost, name string) error {
				if !force {
					env.Note(screen.Busy, "%s: shutting down", name)
				}
				changed, err := vm.Stop(cmd.Context(), host, name, grace)
				return said(env, err, changed, name, "stopped", "already stopped")
			})
		},
	}
	reach.AddURIFlags(cmd, env)
	cmd.Flags().BoolVar(&force, "force", false, "Cut the power at once.")
	cmd.Flags().DurationVar(&grace, "grace", 90*time.Second, "How long a machine may take to shut down.")
	cmd.ValidArgsFunction = completeMachines(&reach)
	return cmd
}

// said says what has become of a machine, as kubectl does.
func said(env *cli.Env, err error, changed bool, name, did, was string) error {
	if err != nil {
		return err
	}
	word := was
	if changed {
		word = did
	}
	_, err = fmt.Fprintf(env.Streams.Out, "machine %s %s\n", name, word)
	return err
}
