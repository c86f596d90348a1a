package rollout

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
)

// NewCommand is `kubectl fleet rollout`.
func NewCommand(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollout",
		Short: "Follow the rollout of a Deployment, and steer it",
		Long: `Follow the rollout of a Deployment, and steer it.

get and status show how far it is; history, what ran before; pause, resume, approve,
undo and restart change the Deployment in the cluster. Where Flux applies it from Git
these say what Git will make of the change, and how the same is done there.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newGetCommand(env),
		newStatusCommand(env),
		newHistoryCommand(env),
		newApproveCommand(env),
		newPauseCommand(env),
		newResumeCommand(env),
		newUndoCommand(env),
		newRestartCommand(env),
	)
	return cmd
}

// viewOptions are of the commands that show one rollout.
type viewOptions struct {
	watch   bool
	all     bool
	timeout time.Duration
	output  cli.Output
	// screen has a whole screen everywhere, and without --watch no exit code for
	// how the rollout stands.
	screen bool
}

func newStatusCommand(env *cli.Env) *cobra.Command {
	o := viewOptions{}
	cmd := &cobra.Command{
		Use:   "status NAME",
		Short: "Say how far a rollout is, and wait for its end with --watch",
		Long: `Say how far a Deployment's rollout is, and why it does not go on.

On a terminal it is the screen of rollout get, which --watch keeps up to date.
Elsewhere it is a line, with --watch one for each change, as in kubectl rollout
status. -o wide is the screen everywhere, with names in full and the times, -o name
the Deployment's name.

Exit codes: 0 the rollout is complete, 1 it is halted, rolled back or stalled, 2 it is
still in progress (with --watch: when --timeout is over), 3 there is no answer. An
offline device does not hold a rollout: it gets the revision when it returns. To soak,
to wait for an approval and to be paused is to be in progress.`,
		Example: `  # Where is it?
  kubectl fleet rollout status telemetry

  # Wait in a pipeline until it has come to an end, at most ten minutes
  kubectl fleet rollout status telemetry --watch --timeout 10m`,
	}
	o.addTo(cmd, env)
	return cmd
}

func newGetCommand(env *cli.Env) *cobra.Command {
	o := viewOptions{screen: true}
	cmd := &cobra.Command{
		Use:   "get NAME",
		Short: "Show a rollout on one screen: waves, devices, what it waits for, what to do",
		Long: `Show a rollout on one screen: how far each wave is, how long it still soaks, which
devices fail and why, what the rollout waits for, and what to do about it.

--watch keeps it up to date until the rollout has come to an end: it is complete,
halted, rolled back or stalled. Where spec.rollout.onFailure is Rollback a halt is not
the end, for the devices go back by themselves. Waves in the same state collapse to
one row; --all shows each. -o json|yaml is everything that the screen shows.

Exit codes: 0 the screen was shown; with --watch as of rollout status: 0 the rollout
is complete, 1 it is halted, rolled back or stalled, 2 --timeout is over; 3 there is no
answer.`,
		Example: `  # Everything about it, until it is over
  kubectl fleet rollout get telemetry --watch

  # For a script
  kubectl fleet rollout get telemetry -o jsonpath='{.wave.name} {.state}'`,
	}
	o.addTo(cmd, env)
	return cmd
}

func (o *viewOptions) addTo(cmd *cobra.Command, env *cli.Env) {
	cmd.Args = cli.ExactName("deployment")
	cmd.ValidArgsFunction = env.CompleteDeployments
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), env, args[0]) }
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "Go on until the rollout has come to an end.")
	cmd.Flags().BoolVar(&o.all, "all", false, "Show every wave, also where several are in the same state.")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 0, "With --watch, how long to wait at most, such as 90s or 10m. 0 is for ever.")
	o.output.AddFlags(cmd, cli.Wide, cli.Name)
}

// ParseName accepts NAME and kind/NAME, as kubectl does.
func ParseName(arg string) (string, error) {
	kind, name, found := strings.Cut(arg, "/")
	if !found {
		return arg, nil
	}
	switch strings.ToLower(kind) {
	case "deployment", "deployments", "fleetdep", "deployment." + v1alpha1.GroupVersion.Group, "deployments." + v1alpha1.GroupVersion.Group:
		return name, nil
	}
	return "", fmt.Errorf("%q is not a Deployment: give its NAME or deployment/NAME", arg)
}

// ObjectName is a Deployment's name as kubectl takes and prints it.
func ObjectName(name string) string {
	return "deployment." + v1alpha1.GroupVersion.Group + "/" + name
}

func (o *viewOptions) run(ctx context.Context, env *cli.Env, arg string) error {
	if o.timeout != 0 && !o.watch {
		return errors.New("--timeout can only be used with --watch")
	}
	if o.timeout < 0 {
		return errors.New("--timeout must not be negative")
	}
	name, err := ParseName(arg)
	if err != nil {
		return err
	}
	printer, err := o.output.Printer()
	if err != nil {
		return err
	}
	cluster, err := env.Connect()
	if err != nil {
		return err
	}
	wide := o.output.Is(cli.Wide)
	view := &view{
		env: env, printer: printer, name: o.output.Is(cli.Name), screen: o.screen || wide,
		detail: Detail{Wide: wide, All: o.all || wide},
	}
	if o.watch {
		return o.follow(ctx, cluster, name, view)
	}
	d := &v1alpha1.Deployment{}
	if err := cluster.Client.Get(ctx, client.ObjectKey{Namespace: cluster.Namespace, Name: name}, d); err != nil {
		return fmt.Errorf("get deployment %s/%s: %w", cluster.Namespace, name, err)
	}
	r := Observe(d)
	if err := view.once(r); err != nil {
		return err
	}
	if o.screen {
		return nil
	}
	return cli.Exit(r.exitCode())
}

func (r Rollout) exitCode() int {
	switch r.State {
	case Complete:
		return cli.CodeOK
	case Stalled, Halted, RollingBack, RolledBack:
		return cli.CodeBad
	}
	return cli.CodeUnfinished
}
