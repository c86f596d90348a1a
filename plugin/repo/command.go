// Package repo is `kubectl fleet repo`: what a person or a pipeline does with the Git
// repository that declares a fleet.
package repo

import (
	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/plugin/cli"
)

// NewCommand is `kubectl fleet repo`.
func NewCommand(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "repo",
		Short: "Begin a fleet's Git repository, render it, check it, change it, show what a change does",
		Long: `Begin a fleet's Git repository, render it, check it, change it, show what a change does.

None of these commands needs a cluster, but for diff where it compares with one, nor the
network, but to push and where a base from elsewhere is allowed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetOut(env.Streams.Out)
	cmd.AddCommand(
		newInitCommand(env.Streams), newRenderCommand(env.Streams), newValidateCommand(env), newDiffCommand(env),
		newPromoteCommand(env), newRollbackCommand(env),
	)
	return cmd
}
