package rollout

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/flux"
)

func newUndoCommand(env *cli.Env) *cobra.Command {
	e := &editor{}
	var to string
	cmd := &cobra.Command{
		Use:   "undo NAME [--to-revision REVISION]",
		Short: "Go back to the score of an earlier revision",
		Long: `Go back to the score of an earlier revision, as a rollout like any other. It sets
spec.score to what the revision has kept: in the middle of a rollout that of the last
revision that every reachable device ran, otherwise that of the revision before.

ConfigMaps are not touched. Where one has changed since, devices get the old score
with the ConfigMap as it is now, and the command says so.`,
		Example: `  # Back to what ran before
  kubectl fleet rollout undo telemetry

  # To a revision of kubectl fleet rollout history
  kubectl fleet rollout undo telemetry --to-revision 3`,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := e.target(cmd, args[0])
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			return e.run(ctx, t, func(d *v1alpha1.Deployment, object *unstructured.Unstructured) (edit, error) {
				return t.undo(ctx, d, object, to)
			})
		},
	}
	e.addTo(cmd, env)
	cmd.Flags().StringVar(&to, "to-revision", "", "Number or name of the revision to go back to. Default: the one before.")
	_ = cmd.RegisterFlagCompletionFunc("to-revision", completeRevisions(env))
	return cmd
}

// undo gathers what there is to go back to, and goes back.
func (t target) undo(ctx context.Context, d *v1alpha1.Deployment, object *unstructured.Unstructured, to string) (edit, error) {
	all, err := keptOf(ctx, t.Client, d)
	if err != nil {
		return edit{}, err
	}
	goal, err := goBackTo(d, all, to)
	if err != nil {
		return edit{}, err
	}
	changed, unread := t.changedConfigMaps(ctx, goal)
	return undo(d, object, all, goal, changed, unread)
}

// goBackTo chooses the revision to go back to.
func goBackTo(d *v1alpha1.Deployment, all []kept, to string) (*kept, error) {
	if to != "" && to != "0" {
		return pick(d, all, to)
	}
	if err := answered(d); err != nil {
		return nil, fmt.Errorf("%w; or name a revision with --to-revision", err)
	}
	if current := d.Status.CurrentRevision; current != "" && current != d.Status.UpdateRevision {
		return pick(d, all, current)
	}
	i := slices.IndexFunc(all, func(r kept) bool { return r.Update })
	if i <= 0 {
		return nil, fmt.Errorf("deployment %s/%s has kept no revision before the one that it has", d.Namespace, d.Name)
	}
	return &all[i-1], nil
}

// undo sets the score to that of a revision; unread is why its ConfigMaps could not
// be compared.
func undo(d *v1alpha1.Deployment, object *unstructured.Unstructured, all []kept, goal *kept, changed []string, unread error) (edit, error) {
	r := Observe(d)
	out := edit{
		did:    fmt.Sprintf("rolled back to revision %d (%s)", goal.Revision.Revision, goal.Name),
		Change: flux.Change{Field: "spec.score", Path: flux.Path("spec", "score")}, whole: true,
	}
	switch {
	case unread != nil:
		out.notes = append(out.notes, fmt.Sprintf("Whether the ConfigMaps are still as revision %d had them could not be read: %s", goal.Revision.Revision, unread))
	case len(changed) > 0:
		out.notes = append(out.notes, fmt.Sprintf("%s not as revision %d had it: devices get the score of then with the ConfigMaps of now, which is a revision of its own.", areConfigMaps(changed), goal.Revision.Revision))
	}
	if same(d, goal) {
		out.did = fmt.Sprintf("has the score of revision %d already", goal.Revision.Revision)
		if len(changed) > 0 {
			out.notes = []string{fmt.Sprintf("spec.score is that of revision %d already; what differs: %s not as it was then. Put it back.", goal.Revision.Revision, areConfigMaps(changed))}
		}
		return out, nil
	}
	if goal.RolledBackAt != nil {
		out.notes = append(out.notes, fmt.Sprintf("Revision %d was rolled back before: it is tried again now.", goal.Revision.Revision))
	}
	if r.inWaves() {
		out.notes = append(out.notes, "It goes back wave by wave, as every rollout; follow it with "+r.command("get")+" --watch")
	}
	out.notes = append(out.notes, held(d)...)
	out.How, out.InGit = revert(d, all, goal)
	for _, r := range all {
		if r.Update {
			out.Back = fmt.Sprintf("; devices then get revision %d again", r.Revision.Revision)
			if r.RolledBackAt != nil {
				out.Back += ", although it was rolled back"
			}
		}
	}
	return out, unstructured.SetNestedMap(object.Object, runtime.DeepCopyJSON(goal.raw), "spec", "score")
}

func same(d *v1alpha1.Deployment, goal *kept) bool {
	return apiequality.Semantic.DeepEqual(d.Spec.Score, goal.content.Score)
}

func areConfigMaps(names []string) string {
	if len(names) == 1 {
		return "ConfigMap " + names[0] + " is"
	}
	return "ConfigMaps " + strings.Join(names, ", ") + " are"
}

// revert says how Git goes back to a revision.
func revert(d *v1alpha1.Deployment, all []kept, goal *kept) (how string, lines []string) {
	newest := ""
	between := 0
	for _, r := range all {
		if r.Revision.Revision > goal.Revision.Revision {
			between++
		}
		if r.Update {
			newest = r.Commit
		}
	}
	if newest == "" && d.Status.Source != nil {
		newest = d.Status.Source.Commit
	}
	switch {
	case newest == "" || newest == goal.Commit:
		return "To keep it, take the change back in Git.", nil
	case between == 1 || goal.Commit == "":
		return "", []string{"git revert " + newest}
	}
	return fmt.Sprintf("To keep it, in Git: revert those of these commits that changed the Deployment, the last first (revision %d came from %s):", goal.Revision.Revision, ShortCommit(goal.Commit)),
		[]string{fmt.Sprintf("git log --oneline %s..%s", goal.Commit, newest)}
}
