package rollout

import (
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/flux"
)

func newPauseCommand(env *cli.Env) *cobra.Command {
	e := &editor{}
	cmd := &cobra.Command{
		Use:   "pause NAME",
		Short: "Hold a rollout where it is",
		Long: `Hold a rollout where it is: nobody is told anything new until it is resumed. Devices
that were told go on, and the status is kept. It sets spec.paused.`,
		Example: `  kubectl fleet rollout pause telemetry`,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := e.target(cmd, args[0])
			if err != nil {
				return err
			}
			return e.run(cmd.Context(), t, pause)
		},
	}
	e.addTo(cmd, env)
	return cmd
}

func newResumeCommand(env *cli.Env) *cobra.Command {
	e := &editor{}
	cmd := &cobra.Command{
		Use:     "resume NAME",
		Short:   "Let a paused rollout go on",
		Long:    `Let a paused rollout go on where it was. It removes spec.paused.`,
		Example: `  kubectl fleet rollout resume telemetry`,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := e.target(cmd, args[0])
			if err != nil {
				return err
			}
			return e.run(cmd.Context(), t, resume)
		},
	}
	e.addTo(cmd, env)
	return cmd
}

func pause(d *v1alpha1.Deployment, object *unstructured.Unstructured) (edit, error) {
	out := edit{did: "paused", Change: flux.Change{
		Field: "spec.paused", Path: flux.Path("spec", "paused"), InGit: []string{"spec:", "  paused: true"},
	}}
	if d.Spec.Paused {
		out.did = "is paused already"
		return out, nil
	}
	return out, unstructured.SetNestedField(object.Object, true, "spec", "paused")
}

func resume(d *v1alpha1.Deployment, object *unstructured.Unstructured) (edit, error) {
	out := edit{did: "resumed", Change: flux.Change{
		Field: "spec.paused", Path: flux.Path("spec", "paused"),
		How: "To keep it, in Git: remove spec.paused, or set it to false.", Gone: true,
	}}
	if !d.Spec.Paused {
		out.did = "is not paused"
		return out, nil
	}
	// Removed and not set to false, so that the field is nobody's again.
	unstructured.RemoveNestedField(object.Object, "spec", "paused")
	return out, nil
}
