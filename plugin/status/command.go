package status

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/nationtech/fleet/plugin/cli"
)

type options struct {
	all      bool
	selector string
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
worst first. Rows that are all well collapse to one; --all shows each. On a terminal
that is too short for it, --watch begins with what is wrong.

--selector chooses Deployments and devices by their labels, as kubectl get
deployments,devices -l does. -o wide shows every row with every column, however wide;
-o name names the sources, Kustomizations and Deployments, but not the devices, which
are counted only: kubectl fleet devices -o name does that.

Exit codes: 0 the status was printed, whatever it says; with --exit-code 1 when
something is wrong; 3 there is no answer.`,
		Example: `  # The namespace of the current context
  kubectl fleet status

  # Kept up to date
  kubectl fleet status --watch

  # One site
  kubectl fleet status -l site=montreal

  # The whole cluster, for a script
  kubectl fleet status -A --exit-code -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), env)
		},
	}
	cli.AddAllNamespacesFlag(cmd, &o.all)
	cmd.Flags().StringVarP(&o.selector, "selector", "l", "", "Only Deployments and devices with these labels, such as site=montreal,line!=4.")
	cmd.Flags().BoolVar(&o.expand, "all", false, "Show every row, also where all are in the same good state.")
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "Show it again whenever something changes, until interrupted.")
	cmd.Flags().BoolVar(&o.exitCode, "exit-code", false, "End with 1 when something is wrong.")
	o.output.AddFlags(cmd, cli.Wide, cli.Name)
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
	if _, err := (cli.Scope{Selector: o.selector}).ListOptions(); err != nil {
		return err
	}
	cluster, err := env.Connect()
	if err != nil {
		return err
	}
	show := o.show(env, printer)
	if o.watch {
		if printer == nil && !o.output.Is(cli.Name) {
			if live, done, ok := o.live(env); ok {
				defer done()
				show = live
			}
		}
		return o.follow(ctx, cluster, env, show)
	}
	observed, err := Gather(ctx, cluster, o.scope(cluster), env.Now())
	if err != nil {
		return err
	}
	report := Judge(observed)
	if err := show(report); err != nil {
		return err
	}
	if o.exitCode && !report.Healthy {
		return cli.Exit(cli.CodeBad)
	}
	return nil
}

func (o *options) scope(cluster *cli.Cluster) cli.Scope {
	scope := cluster.Scope(o.all)
	scope.Selector = o.selector
	return scope
}

// detail is how much of a report is drawn.
func (o *options) detail() Detail {
	return Detail{All: o.expand || o.output.Is(cli.Wide), Wide: o.output.Is(cli.Wide)}
}

// show prints one report in the format that was asked for.
func (o *options) show(env *cli.Env, printer printers.ResourcePrinter) func(Report) error {
	out := env.Streams.Out
	switch {
	case printer != nil:
		return func(r Report) error { return cli.PrintStruct(printer, "Status", r, out) }
	case o.output.Is(cli.Name):
		return func(r Report) error { return cli.PrintNames(out, r.names()...) }
	}
	style := env.Style(out)
	if o.output.Is(cli.Wide) {
		style.Width = 0
	}
	return func(r Report) error {
		_, err := fmt.Fprint(out, Render(style, r, o.detail()))
		return err
	}
}
