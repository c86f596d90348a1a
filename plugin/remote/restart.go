package remote

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
)

// NewRestartCommand is `kubectl fleet restart`.
func NewRestartCommand(env *cli.Env) *cobra.Command {
	container := ""
	cmd := &cobra.Command{
		Use:   "restart DEVICE[.DEPLOYMENT]...",
		Short: "Restart the containers of a placement",
		Long: `Restart the containers of a placement: each is ended in its grace period and started
again with what it was made from. Nothing in the cluster changes. To restart a
Deployment everywhere, in its waves: kubectl fleet rollout restart.

` + targetHelp,
		Example: `  kubectl fleet restart till-7.signage

  # One container of several
  kubectl fleet restart till-7.signage -c player`,
		Args:              atLeastOne("placement"),
		ValidArgsFunction: env.CompletePlacements,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := connect(env)
			if err != nil {
				return err
			}
			var errs []error
			for _, arg := range args {
				if cmd.Context().Err() != nil {
					return cmd.Context().Err()
				}
				errs = append(errs, restart(cmd.Context(), env, a, arg, container))
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().StringVarP(&container, "container", "c", "", "Name of the container; without it, all but init containers.")
	return cmd
}

func restart(ctx context.Context, env *cli.Env, a *api, argument, container string) error {
	name, err := a.placement(ctx, argument)
	if err != nil {
		return err
	}
	var done live.PlacementRestart
	request := a.with(a.subresource(a.rest.Post(), "placements", name, "restart"), &live.PlacementRestartOptions{Container: container})
	if err := a.do(ctx, request, &done); err != nil {
		return fmt.Errorf("restart %s: %w", name, err)
	}
	_, err = fmt.Fprintf(env.Streams.Out, "placement.%s/%s restarted (%s)\n", live.GroupVersion.Group, name, strings.Join(done.Containers, ", "))
	return err
}
