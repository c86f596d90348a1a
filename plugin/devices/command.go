package devices

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/kubectl/pkg/cmd/get"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/plugin/cli"
)

type options struct {
	all           bool
	selector      string
	fieldSelector string
	health        []string
	watch         bool
	watchEvents   bool
	print         *get.PrintFlags
}

// NewCommand is `kubectl fleet devices`.
func NewCommand(env *cli.Env) *cobra.Command {
	o := options{print: get.NewGetPrintFlags()}
	// One kind only: there is nothing to tell apart.
	o.print.HumanReadableFlags.ShowKind = nil
	cmd := &cobra.Command{
		Use:     "devices [NAME...]",
		Aliases: []string{"device", "dev"},
		Short:   "List devices and how they are",
		Long: `List devices and how they are.

STATUS is Ready, or the reason why the device is not; Cordoned comes on top.
RUNNING counts the Deployments that run of those that the device was told.
LAST-HEARTBEAT is exact for a device that is gone; of one that is there the cluster
knows a bound only (<8m), because it is told at most every ten minutes.`,
		Example: `  # Who is gone, in all namespaces?
  kubectl fleet devices -A --health not-ready

  # The devices of one site, with what they run on
  kubectl fleet devices -l site=montreal -o wide

  # Changes as they happen
  kubectl fleet devices -w

  # Only names, for scripts
  kubectl fleet devices -o name`,
		ValidArgsFunction: env.CompleteDevices,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), env, args)
		},
	}
	f := cmd.Flags()
	cli.AddAllNamespacesFlag(cmd, &o.all)
	f.StringVarP(&o.selector, "selector", "l", "", "Only devices with these labels, such as site=montreal,line!=4.")
	f.StringVar(&o.fieldSelector, "field-selector", "", "Only devices with these fields, such as metadata.name=pi-7.")
	f.StringSliceVar(&o.health, "health", nil, "Only devices of this health: ready, not-ready, never-seen, not-approved, duplicate, cordoned. May be several, separated by commas.")
	f.BoolVarP(&o.watch, "watch", "w", false, "After listing, go on with every change.")
	f.BoolVar(&o.watchEvents, "output-watch-events", false, "With --watch, say what kind of change it is.")
	o.print.AddFlags(cmd)
	_ = cmd.RegisterFlagCompletionFunc("health", cobra.FixedCompletions(healthValues(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (o *options) run(ctx context.Context, env *cli.Env, names []string) error {
	if err := o.validate(names); err != nil {
		return err
	}
	cluster, err := env.Connect()
	if err != nil {
		return err
	}
	scope := cluster.Scope(o.all)
	if scope.All() {
		if err := o.print.EnsureWithNamespace(); err != nil {
			return err
		}
	}
	printer, err := o.print.ToPrinter()
	if err != nil {
		return err
	}
	listOptions, err := o.listOptions(scope, names)
	if err != nil {
		return err
	}
	p := &presenter{env: env, options: o, scope: scope, printer: printer}
	switch {
	case o.watch:
		return p.follow(ctx, cluster, listOptions)
	case len(names) > 0:
		return p.some(ctx, cluster, names)
	}
	objects, _, err := cli.ListAll(ctx, cluster.Client, newList(), listOptions)
	if err != nil {
		return fmt.Errorf("list devices in %s: %w", scope, err)
	}
	return p.list(objects)
}

func (o *options) validate(names []string) error {
	switch {
	case len(names) > 0 && (o.selector != "" || o.fieldSelector != "" || len(o.health) > 0):
		return errors.New("give either names or --selector, --field-selector and --health, not both")
	case len(names) > 0 && o.all:
		return errors.New("a device cannot be named across all namespaces: use -n, or -A with --field-selector metadata.name=NAME")
	case len(names) > 1 && o.watch:
		return errors.New("--watch follows one named device or a list, not several names")
	case o.watchEvents && !o.watch:
		return errors.New("--output-watch-events can only be used with --watch")
	case *o.print.HumanReadableFlags.SortBy != "" && o.watch:
		return errors.New("--sort-by cannot be used with --watch: changes come in the order in which they happen")
	}
	return healthFilter(o.health).validate()
}

func (o *options) listOptions(scope cli.Scope, names []string) (client.ListOptions, error) {
	out := client.ListOptions{Namespace: scope.Namespace}
	var err error
	if out.LabelSelector, err = labels.Parse(o.selector); err != nil {
		return out, fmt.Errorf("--selector %q: %w", o.selector, err)
	}
	if out.FieldSelector, err = fields.ParseSelector(o.fieldSelector); err != nil {
		return out, fmt.Errorf("--field-selector %q: %w", o.fieldSelector, err)
	}
	if len(names) == 1 {
		out.FieldSelector = fields.OneTermEqualSelector("metadata.name", names[0])
	}
	return out, nil
}

// human reports whether the output is a table for people.
func (o *options) human() bool {
	format := *o.print.OutputFormat
	return (format == "" || format == "wide") && *o.print.TemplateFlags.TemplateArgument == ""
}
