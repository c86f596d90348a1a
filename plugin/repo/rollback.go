package repo

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/plugin/cli"
)

type rollbackOptions struct {
	committing
	gitops.RollbackOptions
}

// newRollbackCommand is `kubectl fleet repo rollback`.
func newRollbackCommand(env *cli.Env) *cobra.Command {
	o := &rollbackOptions{committing: committing{env: env}}
	cmd := &cobra.Command{
		Use:   "rollback DEPLOYMENT --to REVISION",
		Short: "Make a Deployment again what it was at a revision, as a commit",
		Long: `Make a fleet Deployment again what it was at a revision of the repository, as a commit on
a branch: its spec, and the ConfigMaps and Secrets of the overlay that it refers to.

It finds the least that has to be as it was then: files, or entries under images: of a
kustomization alone. Other objects that are made of the same files would go back with
it, in all overlays; they are named, and nothing is done without --with-others. That the
Deployment is what it was is made sure of by rendering it.

It begins with what is committed, and shows the change before it makes the commit. The
commit is made beside the working tree, which stays as it is, unless the branch is the
one that is checked out; then the files that change must have no changes of their own.

Exit codes: 0 it is done, or there is nothing to do; 1 it could not be committed or
pushed, or other objects would change; 3 there is no answer.`,
		Example: `  # What it was before the last commit, on branch rollback/hello
  kubectl fleet repo rollback hello --to HEAD~1

  # In one overlay, straight to the branch that Flux follows
  kubectl fleet repo rollback hello --overlay field --to v1.4 --branch main --yes --push`,
		Args: cli.ExactName("fleet Deployment"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args[0]) },
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return deploymentNames(o.dir), cobra.ShellCompDirectiveNoFileComp
		},
	}
	o.addFlags(cmd, "rollback/DEPLOYMENT")
	cmd.Flags().StringVar(&o.Revision, "to", "", "Git revision at which it was well, such as v1.2, HEAD~1 or a commit.")
	cmd.Flags().StringVar(&o.Overlay, "overlay", "", "Overlay that has the Deployment. Default: the only one.")
	cmd.Flags().BoolVar(&o.WithOthers, "with-others", false, "Also when other objects go back with it.")
	_ = cmd.MarkFlagRequired("to")
	_ = cmd.RegisterFlagCompletionFunc("overlay", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return overlaysWithout(o.dir, nil), cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

// rolledBack is what -o prints.
type rolledBack struct {
	gitops.Rollback `json:",inline"`
	Change          made `json:"change"`
}

func (o *rollbackOptions) run(ctx context.Context, deployment string) error {
	printer, err := o.output.Printer()
	if err != nil {
		return err
	}
	o.quiet = printer != nil
	o.Deployment = deployment
	branch, remote, err := o.open(ctx, "rollback/"+deployment)
	if err != nil {
		return err
	}
	rollback, err := branch.Rollback(o.dir, o.RollbackOptions)
	if others := (*gitops.OthersError)(nil); errors.As(err, &others) {
		return bad(err)
	}
	if err != nil {
		return err
	}
	out := rolledBack{Rollback: rollback, Change: made{Branch: branch.Name, Base: branch.Base(), Files: []string{}}}
	var failed error
	if len(rollback.Files) > 0 {
		out.Change, failed = o.finish(ctx, branch, remote, rollback.Files, rollback.Message())
	} else {
		o.say("nothing to do: in overlay %s %s is what it was at %s", rollback.Overlay, deployment, rollback.Commit[:7])
	}
	if printer != nil {
		return errors.Join(failed, cli.PrintStruct(printer, "Rollback", &out, o.env.Streams.Out))
	}
	return failed
}

// deploymentNames are those of the fleet Deployments in the overlays of HEAD.
func deploymentNames(dir string) []string {
	tree, err := gitops.OpenRevision(dir, "HEAD")
	if err != nil {
		return nil
	}
	return tree.DeploymentNames()
}
