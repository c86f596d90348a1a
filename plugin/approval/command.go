package approval

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
)

type options struct {
	env *cli.Env
	action
	all, allPending bool
	selector        string
	output          cli.Output
	dryRun          cmdutil.DryRunStrategy
}

// NewApproveCommand is `kubectl fleet approve`.
func NewApproveCommand(env *cli.Env) *cobra.Command {
	o := &options{env: env, action: approving()}
	cmd := &cobra.Command{
		Use:   "approve DEVICE... | -l SELECTOR | --all-pending",
		Short: "Let devices take part in the fleet that wait for it",
		Long: `Let devices take part in the fleet that wait for it. It shows each device's public key,
which fleet-agent join has printed on the device: that they are the same is what makes
sure that it is that device. It sets spec.approved.

A device that is shut out is let in again when it is named. A selector finds only
devices that wait.

Exit codes: 0 all are approved, 1 some could not be, 3 there is no answer.`,
		Example: `  # Who waits?
  kubectl fleet devices -A --health pending -o wide

  # One whose key has been compared
  kubectl fleet approve till-7 -n shops

  # A site, at first only to see whom that would be
  kubectl fleet approve -l site=montreal --dry-run=client
  kubectl fleet approve -l site=montreal`,
	}
	o.addTo(cmd, true)
	return cmd
}

// NewDenyCommand is `kubectl fleet deny`.
func NewDenyCommand(env *cli.Env) *cobra.Command {
	o := &options{env: env, action: denying()}
	cmd := &cobra.Command{
		Use:   "deny DEVICE... | -l SELECTOR | --all-pending",
		Short: "Refuse devices that wait for approval",
		Long: `Refuse devices that wait for approval: they are disconnected, and can't connect or join
again until somebody approves them. It sets spec.approved to false. kubectl fleet revoke
is for devices that take part already.

Exit codes: 0 all are refused, 1 some could not be, 3 there is no answer.`,
		Example: `  kubectl fleet deny till-7 -n shops`,
	}
	o.addTo(cmd, true)
	return cmd
}

// NewRevokeCommand is `kubectl fleet revoke`.
func NewRevokeCommand(env *cli.Env) *cobra.Command {
	o := &options{env: env, action: revoking()}
	cmd := &cobra.Command{
		Use:   "revoke DEVICE... | -l SELECTOR",
		Short: "Shut devices out that take part in the fleet",
		Long: `Shut devices out that take part in the fleet: they are disconnected at once, can't
connect or join again until somebody approves them, and what the bus holds of them is
removed. What they run goes on running, for nobody can tell them anything any longer. It
sets spec.approved to false. kubectl fleet deny is for devices that wait for approval.

Exit codes: 0 all are shut out, 1 some could not be, 3 there is no answer.`,
		Example: `  # It was stolen
  kubectl fleet revoke till-7 -n shops`,
	}
	o.addTo(cmd, false)
	return cmd
}

// NewResetKeyCommand is `kubectl fleet device reset-key`.
func NewResetKeyCommand(env *cli.Env) *cobra.Command {
	o := &options{env: env, action: resettingKey()}
	cmd := &cobra.Command{
		Use:   "reset-key DEVICE...",
		Short: "Forget the key of devices that were set up anew, so that they can join again",
		Long: `Forget the public key of devices that were set up anew, so that they can join again
with another. Whoever has the old key is disconnected. It removes spec.publicKey.

Exit codes: 0 all are forgotten, 1 some could not be, 3 there is no answer.`,
		Example: `  kubectl fleet device reset-key till-7 -n shops`,
	}
	o.addCommonTo(cmd)
	return cmd
}

func (o *options) addTo(cmd *cobra.Command, pending bool) {
	o.addCommonTo(cmd)
	cli.AddAllNamespacesFlag(cmd, &o.all)
	cmd.Flags().StringVarP(&o.selector, "selector", "l", "", "The devices with these labels, such as site=montreal,line!=4.")
	if pending {
		cmd.Flags().BoolVar(&o.allPending, "all-pending", false, "Every device that waits for approval.")
	}
}

func (o *options) addCommonTo(cmd *cobra.Command) {
	cmd.ValidArgsFunction = o.env.CompleteDevices
	cmdutil.AddDryRunFlag(cmd)
	_ = cmd.RegisterFlagCompletionFunc("dry-run", cobra.FixedCompletions([]string{"none", "client", "server"}, cobra.ShellCompDirectiveNoFileComp))
	o.output.AddFlags(cmd, cli.Wide, cli.Name)
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		var err error
		if o.dryRun, err = cmdutil.GetDryRunStrategy(cmd); err != nil {
			return err
		}
		if err := o.validate(cmd, names); err != nil {
			return err
		}
		return o.run(cmd.Context(), names)
	}
}

func (o *options) validate(cmd *cobra.Command, names []string) error {
	bulk := o.selector != "" || o.allPending
	switch {
	case len(names) == 0 && !bulk && cmd.Flags().Lookup("selector") == nil:
		return fmt.Errorf("the name of a device is missing: %s", cmd.UseLine())
	case len(names) == 0 && !bulk:
		return fmt.Errorf("which devices? Name them, or choose them by their labels: %s", cmd.UseLine())
	case len(names) > 0 && bulk:
		return errors.New("give either names or --selector and --all-pending, not both")
	case len(names) > 0 && o.all:
		return errors.New("a device cannot be named across all namespaces: use -n")
	}
	return nil
}

func (o *options) run(ctx context.Context, names []string) error {
	printer, err := o.output.Printer()
	if err != nil {
		return err
	}
	cluster, err := o.env.ConnectForBulk()
	if err != nil {
		return err
	}
	scope := cluster.Scope(o.all)
	scope.Selector = o.selector
	tasks, err := o.tasks(ctx, cluster, scope, names)
	if err != nil {
		return err
	}
	c := &changer{action: o.action, client: cluster.Client, dryRun: o.dryRun}
	stop := o.progress(&c.done, len(tasks))
	c.run(ctx, tasks)
	stop()
	if err := o.show(printer, scope, tasks); err != nil {
		return err
	}
	o.tell(ctx, cluster, tasks)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := c.failure(tasks); err != nil {
		return &cli.ExitError{Code: cli.CodeBad, Err: err}
	}
	return nil
}

// tasks are the devices that the command is about.
func (o *options) tasks(ctx context.Context, cluster *cli.Cluster, scope cli.Scope, names []string) ([]*task, error) {
	var tasks []*task
	given := map[string]bool{}
	for _, name := range names {
		if !given[name] {
			given[name] = true
			tasks = append(tasks, &task{key: client.ObjectKey{Namespace: cluster.Namespace, Name: name}, named: true})
		}
	}
	if len(names) > 0 {
		return tasks, nil
	}
	listOptions, err := scope.ListOptions()
	if err != nil {
		return nil, err
	}
	if listOptions.LabelSelector.Empty() && !o.allPending {
		return nil, fmt.Errorf("--selector %q chooses every device", o.selector)
	}
	objects, _, err := cli.ListAll(ctx, cluster.Client, &v1alpha1.DeviceList{}, listOptions)
	if err != nil {
		return nil, fmt.Errorf("list devices in %s: %w", scope, err)
	}
	for _, object := range objects {
		d := object.(*v1alpha1.Device)
		if o.allPending && d.Spec.Approved != nil {
			continue
		}
		tasks = append(tasks, &task{key: client.ObjectKeyFromObject(d), before: d})
	}
	return tasks, nil
}
