package rollout

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/flux"
)

func newApproveCommand(env *cli.Env) *cobra.Command {
	e := &editor{}
	var wave string
	cmd := &cobra.Command{
		Use:   "approve NAME [--wave WAVE]",
		Short: "Let a wave begin that waits for approval",
		Long: `Let a wave begin that waits for approval, or with --wave will wait for it. It is for
the revision that is being rolled out now: another needs an approval of its own. It
adds to spec.rollout.approvals.`,
		Example: `  # The wave that waits
  kubectl fleet rollout approve telemetry

  # Ahead, while another wave is still soaking
  kubectl fleet rollout approve telemetry --wave shops`,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := e.target(cmd, args[0])
			if err != nil {
				return err
			}
			return e.run(cmd.Context(), t, approve(wave))
		},
	}
	e.addTo(cmd, env)
	cmd.Flags().StringVar(&wave, "wave", "", "The wave to approve. Default: the one that waits for it.")
	_ = cmd.RegisterFlagCompletionFunc("wave", completeWaves(env))
	return cmd
}

func approve(wave string) decision {
	return func(d *v1alpha1.Deployment, object *unstructured.Unstructured) (edit, error) {
		wave, err := waveToApprove(d, wave)
		if err != nil {
			return edit{}, err
		}
		revision := d.Status.UpdateRevision
		out := edit{
			did:   fmt.Sprintf("wave %s approved for revision %s", wave, revision),
			notes: held(d),
			Change: flux.Change{
				Field: "the approval of wave " + wave + " in spec.rollout.approvals",
				Path:  append(flux.Path("spec", "rollout", "approvals"), fmt.Sprintf(`k:{"wave":%q}`, wave)),
				InGit: []string{"spec:", "  rollout:", "    approvals:", "    - wave: " + wave, "      revision: " + revision},
			},
		}
		if approved(d, wave) {
			out.did = fmt.Sprintf("wave %s was approved for revision %s already", wave, revision)
			return out, nil
		}
		list, _, err := unstructured.NestedSlice(object.Object, "spec", "rollout", "approvals")
		if err != nil {
			return edit{}, fmt.Errorf("read spec.rollout.approvals: %w", err)
		}
		list = slices.DeleteFunc(list, func(a any) bool {
			m, ok := a.(map[string]any)
			return ok && m["wave"] == wave
		})
		list = append(list, map[string]any{"wave": wave, "revision": revision})
		return out, unstructured.SetNestedSlice(object.Object, list, "spec", "rollout", "approvals")
	}
}

// waveToApprove is the wave that was asked for, or the one that waits.
func waveToApprove(d *v1alpha1.Deployment, wave string) (string, error) {
	name := fmt.Sprintf("deployment %s/%s", d.Namespace, d.Name)
	var all, manual []string
	for _, w := range d.Spec.Rollout.Waves {
		all = append(all, w.Name)
		if w.Approval == v1alpha1.ApprovalManual {
			manual = append(manual, w.Name)
		}
	}
	switch {
	case wave != "" && wave != v1alpha1.RestWave && !slices.Contains(all, wave):
		if len(all) == 0 {
			return "", fmt.Errorf("%s has no waves", name)
		}
		return "", fmt.Errorf("%s has no wave %s, its waves are: %s", name, wave, strings.Join(all, ", "))
	case len(manual) == 0:
		return "", fmt.Errorf("no wave of %s needs an approval: none has spec.rollout.waves[].approval: Manual", name)
	case wave != "" && !slices.Contains(manual, wave):
		return "", fmt.Errorf("wave %s of %s needs no approval; those that do are: %s", wave, name, strings.Join(manual, ", "))
	}
	if err := answered(d); err != nil {
		return "", err
	}
	r := Observe(d)
	switch {
	case d.Status.UpdateRevision == "":
		return "", fmt.Errorf("%s has no revision to approve yet", name)
	case r.State == RollingBack || r.State == RolledBack:
		return "", fmt.Errorf("revision %s of %s failed and is rolled back: it is not tried again, whatever is approved", d.Status.UpdateRevision, name)
	case wave != "":
		return wave, nil
	case r.State == AwaitingApproval && d.Status.Wave != nil:
		return d.Status.Wave.Name, nil
	}
	var left []string
	for _, w := range manual {
		if !approved(d, w) {
			left = append(left, w)
		}
	}
	state := "no wave of " + name + " waits for approval: the rollout is " + r.State.Word()
	if len(left) == 0 || r.State == Complete {
		return "", fmt.Errorf("%s", state)
	}
	return "", fmt.Errorf("%s; --wave approves ahead: %s", state, strings.Join(left, ", "))
}
