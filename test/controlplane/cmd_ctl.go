package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"

	"github.com/nationtech/fleet/test/controlplane/internal/plane"
	"github.com/nationtech/fleet/test/controlplane/internal/supervise"
	"github.com/spf13/cobra"
)

func ctlCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{Use: "ctl", Short: "Look at and disturb a running control plane"}
	cmd.PersistentFlags().StringVar(&dir, "dir", "", "folder of the control plane (required)")
	_ = cmd.MarkPersistentFlagRequired("dir")
	control := func() plane.Control { return plane.Control{Socket: filepath.Join(dir, "control.sock")} }

	cmd.AddCommand(statusCommand(control), gitCreateCommand(control),
		actionCommand(control, "start", "Start a stopped component, and wait until it is ready"),
		actionCommand(control, "stop", "Stop a component; it stays so until it is started"),
		actionCommand(control, "restart", "Stop and start a component, and wait until it is ready"),
		killCommand(control),
	)
	return cmd
}

func actionCommand(control func() plane.Control, action, short string) *cobra.Command {
	return &cobra.Command{
		Use: action + " NAME", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return control().Act(cmd.Context(), args[0], action)
		},
	}
}

func killCommand(control func() plane.Control) *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use: "kill NAME", Short: "Kill a component (SIGKILL); it is started again at once", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := control().Act(cmd.Context(), args[0], "kill"); err != nil || !wait {
				return err
			}
			return control().Act(cmd.Context(), args[0], "wait")
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it is ready again")
	return cmd
}

func gitCreateCommand(control func() plane.Control) *cobra.Command {
	return &cobra.Command{
		Use: "git-create NAME", Short: "Make a Git repository if there is none, and print its URL", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			url, err := control().CreateGit(cmd.Context(), args[0])
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), url)
			}
			return err
		},
	}
}

func statusCommand(control func() plane.Control) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "status", Short: "Show every component", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return status(cmd.Context(), control(), output, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json, or empty for a table")
	return cmd
}

func status(ctx context.Context, control plane.Control, output string, out io.Writer) error {
	if output != "" && output != "json" {
		return fmt.Errorf("--output wants json, not %q", output)
	}
	statuses, err := control.Statuses(ctx)
	if err != nil {
		return err
	}
	if output == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(statuses)
	}
	return printStatus(out, statuses)
}

func printStatus(out io.Writer, statuses []supervise.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAME\tSTATE\tPID\tPORT\tRESTARTS\tLOG")
	for _, s := range statuses {
		pid := "-"
		if s.PID != 0 {
			pid = fmt.Sprint(s.PID)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\n", s.Name, s.State, pid, s.Port, s.Restarts, s.Log)
	}
	return w.Flush()
}
