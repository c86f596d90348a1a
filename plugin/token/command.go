// Package token is `kubectl fleet token`: the join tokens with which devices join the
// fleet.
package token

import (
	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/plugin/cli"
)

// NewCommand is `kubectl fleet token`.
func NewCommand(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "token",
		Aliases: []string{"tokens"},
		Short:   "Make, list and revoke the tokens with which devices join",
		Long: `Make, list and revoke the tokens with which devices join the fleet.

A token is for one namespace, for some time and for some number of devices, which get
the labels that it has. It is kept as a Secret from which nobody can make it again:
whoever may delete the Secret may revoke the token, and whoever may create Secrets and
Devices in a namespace may make one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCreateCommand(env), newListCommand(env), newRevokeCommand(env))
	return cmd
}

// AddOperatorFlag adds the flag that says where the operator is.
func AddOperatorFlag(cmd *cobra.Command, env *cli.Env, namespace *string) {
	cmd.Flags().StringVar(namespace, "operator-namespace", "fleet-system", "The namespace of the operator, which says there what devices are to trust.")
	_ = cmd.RegisterFlagCompletionFunc("operator-namespace", env.CompleteNamespaces)
}
