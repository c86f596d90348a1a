package repo

import (
	"context"
	"errors"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/plugin/cli"
)

type promoteOptions struct {
	committing
	deployment string
	fields     []string
}

// newPromoteCommand is `kubectl fleet repo promote`.
func newPromoteCommand(env *cli.Env) *cobra.Command {
	o := &promoteOptions{committing: committing{env: env}}
	cmd := &cobra.Command{
		Use:   "promote FROM TO",
		Short: "Have one overlay run what another runs, as a commit",
		Long: `Have the overlay TO run what the overlay FROM runs, as a commit on a branch.

It takes over what stands under images: of FROM's kustomization and, when --field
chooses them, fields of the score that the two overlays' Deployments have otherwise;
these become a patch in TO's folder. That TO then has them, and that nothing else of it
changes, is made sure of by rendering it. What differs and was not chosen is told.

It begins with what is committed, and shows the change before it makes the commit. The
commit is made beside the working tree, which stays as it is, unless the branch is the
one that is checked out; then the files that change must have no changes of their own.

Exit codes: 0 it is done, or there is nothing to do; 1 it could not be committed or
pushed; 3 there is no answer.`,
		Example: `  # The versions of the lab to the field, on branch promote/lab-to-field
  kubectl fleet repo promote lab field

  # In a pipeline, straight to the branch that Flux follows
  kubectl fleet repo promote lab field --branch main --yes --push

  # One Deployment, with its variables
  kubectl fleet repo promote lab field --deployment hello \
    --field images --field 'spec.score.podman.containers[hello].env'`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args[0], args[1]) },
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 1 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return overlaysWithout(o.dir, args), cobra.ShellCompDirectiveNoFileComp
		},
	}
	o.addFlags(cmd, "promote/FROM-to-TO")
	cmd.Flags().StringVar(&o.deployment, "deployment", "", "Only this fleet Deployment. Default: all.")
	cmd.Flags().StringArrayVar(&o.fields, "field", []string{gitops.PromoteImages}, "What to take over: images, or the path of a field of the score or of one above it. May be given several times.")
	_ = cmd.RegisterFlagCompletionFunc("deployment", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return deploymentNames(o.dir), cobra.ShellCompDirectiveNoFileComp
	})
	_ = cmd.RegisterFlagCompletionFunc("field", o.completeField)
	return cmd
}

// promoted is what -o prints.
type promoted struct {
	gitops.Promotion `json:",inline"`
	Change           made `json:"change"`
}

func (o *promoteOptions) run(ctx context.Context, from, to string) error {
	printer, err := o.output.Printer()
	if err != nil {
		return err
	}
	o.quiet = printer != nil
	branch, remote, err := o.open(ctx, "promote/"+forBranch(from)+"-to-"+forBranch(to))
	if err != nil {
		return err
	}
	promotion, err := o.promote(branch.Tree, from, to)
	if err != nil {
		return err
	}
	out := promoted{Promotion: promotion, Change: made{Branch: branch.Name, Base: branch.Base(), Files: []string{}}}
	var failed error
	if len(promotion.Files) > 0 {
		out.Change, failed = o.finish(ctx, branch, remote, promotion.Files, promotion.Message())
	} else {
		o.say("nothing to promote: overlay %s has what %s has of %s", promotion.To, promotion.From, strings.Join(o.fields, ", "))
	}
	if len(promotion.Left) > 0 && failed == nil {
		o.say("still different, and not chosen with --field:")
		for _, field := range promotion.Left {
			o.say("  %s: %s", field.Object, field.Field)
		}
	}
	if printer != nil {
		return errors.Join(failed, cli.PrintStruct(printer, "Promotion", &out, o.env.Streams.Out))
	}
	return failed
}

func (o *promoteOptions) promote(tree *gitops.Tree, from, to string) (gitops.Promotion, error) {
	overlayFrom, err := tree.Find(from)
	if err != nil {
		return gitops.Promotion{}, err
	}
	overlayTo, err := tree.Find(to)
	if err != nil {
		return gitops.Promotion{}, err
	}
	promotion, err := gitops.Promote(tree, gitops.PromoteOptions{From: overlayFrom, To: overlayTo, Deployment: o.deployment, Fields: o.fields})
	if err != nil {
		return gitops.Promotion{}, bad(err)
	}
	return promotion, nil
}

// forBranch is an overlay as a part of a branch's name.
func forBranch(overlay string) string {
	return strings.ReplaceAll(strings.TrimPrefix(path.Clean(overlay), "overlays/"), "/", "-")
}

func (o *promoteOptions) completeField(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	fields := []string{gitops.PromoteImages}
	if len(args) != 2 {
		return fields, cobra.ShellCompDirectiveNoFileComp
	}
	tree, err := gitops.OpenRevision(o.dir, "HEAD")
	if err != nil {
		return fields, cobra.ShellCompDirectiveNoFileComp
	}
	o.fields = fields
	promotion, err := o.promote(tree, args[0], args[1])
	if err != nil {
		return fields, cobra.ShellCompDirectiveNoFileComp
	}
	for _, left := range promotion.Left {
		fields = append(fields, left.Field)
	}
	return fields, cobra.ShellCompDirectiveNoFileComp
}

// overlaysWithout are the names of the overlays that are not among the arguments yet.
func overlaysWithout(dir string, args []string) []string {
	o := renderOptions{source: source{dir: dir, rev: "HEAD"}}
	var out []string
	for _, name := range o.overlayNames() {
		if len(args) == 0 || args[0] != name {
			out = append(out, name)
		}
	}
	return out
}
