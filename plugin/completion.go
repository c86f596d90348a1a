package plugin

import (
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// kubectlComplete is the program that kubectl asks for completions of the plugin.
// cmd/kubectl-fleet ships the same as a file.
// https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/
const kubectlComplete = `#!/bin/sh
# kubectl 1.26 and newer runs this program to complete "kubectl fleet".
# It must be on the PATH, under the name kubectl_complete-fleet.
exec kubectl fleet __complete "$@"
`

// newCompletionCommand is `kubectl fleet completion`.
func newCompletionCommand(streams genericiooptions.IOStreams) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell", "kubectl"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell|kubectl",
		Short: "Print a script that completes commands and names on Tab",
		Long: `Print a script that completes commands, names of devices and Deployments,
namespaces and formats on Tab.

kubectl itself completes "kubectl fleet" as soon as its own completion is set up and
the script "kubectl" is on the PATH as kubectl_complete-fleet. The scripts of the
shells complete the binary kubectl-fleet when it is called by that name.`,
		Example: `  # For "kubectl fleet", in every shell
  kubectl fleet completion kubectl > ~/.local/bin/kubectl_complete-fleet
  chmod +x ~/.local/bin/kubectl_complete-fleet

  # For "kubectl-fleet" in bash
  source <(kubectl fleet completion bash)`,
		ValidArgs: shells,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), streams.Out
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			_, err := fmt.Fprint(out, kubectlComplete)
			return err
		},
	}
}
