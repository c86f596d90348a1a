package status

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/plugin/cli"
)

type options struct {
	all      bool
	expand   bool
	exitCode bool
	watch    bool
	output   cli.Output
}

// NewCommand is `kubectl fleet status`.
func NewCommand(env *cli.Env) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "status",
		Short: "The whole way at a glance: from Git to the devices, and what is wrong",
		Long: `The whole way at a glance: from Git to the devices, and what is wrong on it.

It shows the Flux sources and Kustomizations that apply the fleet's objects, the
Deployments with their rollouts, the devices by health, and then what is wrong, the
worst first. Rows that are all well collapse to one; --all shows each.

Exit codes: 0 the status was printed, whatever it says; with --exit-code 1 when
something is wrong; 3 there is no answer.`,
		Example: `  # The namespace of the current context
  kubectl fleet status

  # Kept up to date
  kubectl fleet status --watch

  # The whole cluster, for a script
  kubectl fleet status -A --exit-code -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), env)
		},
	}
	cli.AddAllNamespacesFlag(cmd, &o.all)
	cmd.Flags().BoolVar(&o.expand, "all", false, "Show every row, also where all are in the same good state.")
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "Show it again whenever something changes, until interrupted.")
	cmd.Flags().BoolVar(&o.exitCode, "exit-code", false, "End with 1 when something is wrong.")
	o.output.AddFlags(cmd)
	return cmd
}

func (o *options) run(ctx context.Context, env *cli.Env) error {
	if o.watch && o.exitCode {
		return errors.New("--exit-code cannot be used with --watch, which has no end")
	}
	printer, err := o.output.Printer()
	if err != nil {
		return err
	}
	cluster, err := env.Connect()
	if err != nil {
		return err
	}
	if o.watch {
		if printer != nil {
			return o.follow(ctx, cluster, env, func(r Report) error { return cli.PrintStruct(printer, "Status", r, env.Streams.Out) })
		}
		show, done := o.screen(env)
		defer done()
		return o.follow(ctx, cluster, env, show)
	}
	observed, err := Gather(ctx, cluster, cluster.Scope(o.all), env.Now())
	if err != nil {
		return err
	}
	report := Judge(observed)
	out := env.Streams.Out
	if printer != nil {
		err = cli.PrintStruct(printer, "Status", report, out)
	} else {
		_, err = fmt.Fprint(out, Render(env.Style(out), report, o.expand))
	}
	if err != nil {
		return err
	}
	if o.exitCode && !report.Healthy {
		return cli.Exit(cli.CodeBad)
	}
	return nil
}
