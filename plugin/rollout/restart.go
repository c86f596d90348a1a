package rollout

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/flux"
)

func newRestartCommand(env *cli.Env) *cobra.Command {
	e := &editor{}
	cmd := &cobra.Command{
		Use:   "restart NAME",
		Short: "Have every device make its containers anew, wave by wave",
		Long: `Have every device make its containers anew, as a rollout like any other: wave by
wave, within maxUnavailable. It sets spec.score.podman.restartedAt, which makes a new
revision.`,
		Example: `  kubectl fleet rollout restart telemetry`,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := e.target(cmd, args[0])
			if err != nil {
				return err
			}
			return e.run(cmd.Context(), t, restart(env.Now()))
		},
	}
	e.addTo(cmd, env)
	return cmd
}

func restart(now time.Time) decision {
	at := now.UTC().Format(time.RFC3339)
	return func(d *v1alpha1.Deployment, object *unstructured.Unstructured) (edit, error) {
		if d.Spec.Score.Podman == nil {
			return edit{}, fmt.Errorf("deployment %s/%s has no spec.score.podman, and only containers that podman runs can be made anew; kubectl fleet restart reboots machines of one device", d.Namespace, d.Name)
		}
		return edit{
			did: "restarted", notes: held(d),
			Change: flux.Change{
				Field: "spec.score.podman.restartedAt", Path: flux.Path("spec", "score", "podman", "restartedAt"),
				InGit: []string{"spec:", "  score:", "    podman:", fmt.Sprintf("      restartedAt: %q", at)},
			},
		}, unstructured.SetNestedField(object.Object, at, "spec", "score", "podman", "restartedAt")
	}
}
