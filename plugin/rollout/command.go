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
		Short: "Follow the rollout of a Deployment",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newStatusCommand(env))
	return cmd
}

type statusOptions struct {
	watch   bool
	timeout time.Duration
	output  cli.Output
}

func newStatusCommand(env *cli.Env) *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status NAME",
		Short: "Show how far a Deployment's rollout is, and why it does not go on",
		Long: `Show how far a Deployment's rollout is, and why it does not go on.

On a terminal it is one screen, which --watch keeps up to date. Elsewhere it is a
line, with --watch one for each change, as in kubectl rollout status. -o wide is the
screen everywhere, with names in full and the times, -o name the Deployment's name.

Exit codes: 0 the rollout is complete, 1 it has stalled, 2 it is still in progress
(with --watch: when --timeout is over), 3 there is no answer. An offline device
does not hold a rollout: it gets the revision when it returns.`,
		Example: `  # Where is it?
  kubectl fleet rollout status telemetry

  # Wait in a pipeline until it has come to an end, at most ten minutes
  kubectl fleet rollout status telemetry --watch --timeout 10m`,
		Args:              cli.ExactName("deployment"),
		ValidArgsFunction: env.CompleteDeployments,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), env, args[0])
		},
	}
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "Go on until the rollout is complete or has stalled.")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 0, "With --watch, how long to wait at most, such as 90s or 10m. 0 is for ever.")
	o.output.AddFlags(cmd, cli.Wide, cli.Name)
	return cmd
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

func (o *statusOptions) run(ctx context.Context, env *cli.Env, arg string) error {
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
	view := &view{env: env, printer: printer, wide: o.output.Is(cli.Wide), name: o.output.Is(cli.Name)}
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
	return cli.Exit(r.exitCode())
}

func (r Rollout) exitCode() int {
	switch r.State {
	case Complete:
		return cli.CodeOK
	case Stalled:
		return cli.CodeBad
	}
	return cli.CodeUnfinished
}
