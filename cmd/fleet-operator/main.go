// Command fleet-operator is the operator in Kubernetes: it tells the devices of a
// fleet what to run and keeps the status of Devices and Deployments.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/internal/version"
)

func main() {
	root := &cobra.Command{
		Use:           "fleet-operator",
		Short:         "Tells the devices of a fleet what to run",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	root.AddCommand(runCommand(), setupCommand(), keygenCommand(), natsConfigCommand(), siteConfigCommand(), &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(c *cobra.Command, _ []string) { fmt.Fprintln(c.OutOrStdout(), version.Version) },
	})
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "fleet-operator:", err)
		os.Exit(1)
	}
}
