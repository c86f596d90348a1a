// Command fleet-agent runs on a device and sees to it that the device runs what
// its fleet says.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/agent"
	"github.com/nationtech/fleet/agent/config"
	"github.com/nationtech/fleet/agent/identity"
	"github.com/nationtech/fleet/agent/status"
	"github.com/nationtech/fleet/internal/version"
)

func main() {
	root := &cobra.Command{
		Use:   "fleet-agent",
		Short: "Sees to it that this device runs what its fleet says",
		Long: `Sees to it that this device runs what its fleet says.

The configuration is read from the file that ` + config.PathVariable + ` names, or from
` + config.DefaultPath + `.`,
		SilenceUsage: true, SilenceErrors: true,
		Args: cobra.NoArgs,
	}
	root.AddCommand(joinCommand(), runCommand(), statusCommand(), identityCommand(), validateCommand(), &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(c *cobra.Command, _ []string) { fmt.Fprintln(c.OutOrStdout(), version.Version) },
	})
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "fleet-agent:", err)
		var exit exitError
		if errors.As(err, &exit) {
			os.Exit(exit.code)
		}
		os.Exit(1)
	}
}

func runCommand() *cobra.Command {
	return &cobra.Command{
		Use: "run", Short: "Run the agent", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			settings, err := config.Load(config.Path())
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return agent.Run(ctx, settings, logger(c.ErrOrStderr(), settings.Log))
		},
	}
}

func logger(w io.Writer, l config.Log) *slog.Logger {
	options := &slog.HandlerOptions{Level: l.Level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

func statusCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "status", Short: "Show how this device stands", Args: cobra.NoArgs,
		Long: "Shows how the agent and the deployments of this device stand. It reads what the agent keeps on disk, so it works without the network too.",
		RunE: func(c *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return fmt.Errorf("--output %q is not known; leave it out for text, or say json", output)
			}
			settings, err := config.Load(config.Path())
			if err != nil {
				return err
			}
			s, err := status.Gather(settings)
			if errors.Is(err, os.ErrPermission) {
				return fmt.Errorf("%w (run it as root, or as the agent's user)", err)
			}
			if err != nil {
				return err
			}
			if output == "json" {
				return status.JSON(c.OutOrStdout(), s)
			}
			return status.Render(c.OutOrStdout(), s, time.Now())
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "json, for programs")
	return c
}

func identityCommand() *cobra.Command {
	return &cobra.Command{
		Use: "identity", Short: "Print this device's public key, made if it is missing", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			settings, err := config.Load(config.Path())
			if err != nil {
				return err
			}
			key, err := identity.Ensure(settings.NATS.SeedFile)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), key)
			return nil
		},
	}
}

func validateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "validate-config", Short: "Check the configuration file", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := config.Load(config.Path()); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s is valid\n", config.Path())
			return nil
		},
	}
}
