package plugin

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// newRepoCommand is `kubectl fleet repo`.
func newRepoCommand(streams genericiooptions.IOStreams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "repo",
		Short: "Begin a fleet's Git repository, render it, check it",
		Long: `Begin a fleet's Git repository, render it, check it.

None of these commands needs a cluster or the network.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetOut(streams.Out)
	cmd.AddCommand(newRepoInitCommand(streams), newRepoRenderCommand(streams), newRepoValidateCommand(streams))
	return cmd
}
