package rollout

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
)

// completeWaves completes --wave with the waves that somebody has to approve.
func completeWaves(env *cli.Env) cobra.CompletionFunc {
	return ofDeployment(env, func(_ context.Context, _ target, d *v1alpha1.Deployment) []string {
		var out []string
		for _, w := range d.Spec.Rollout.Waves {
			if w.Approval == v1alpha1.ApprovalManual && !approved(d, w.Name) {
				out = append(out, w.Name)
			}
		}
		return out
	})
}

// completeRevisions completes a revision's number, and says what it is.
func completeRevisions(env *cli.Env) cobra.CompletionFunc {
	return ofDeployment(env, func(ctx context.Context, t target, d *v1alpha1.Deployment) []string {
		all, err := keptOf(ctx, t.Client, d)
		if err != nil {
			return nil
		}
		var out []string
		for i := len(all) - 1; i >= 0; i-- {
			r := all[i]
			words := []string{strings.TrimPrefix(r.Name, d.Name+"-")}
			for _, word := range []string{ShortCommit(r.Commit), r.State(), strings.Join(r.Changes, "; ")} {
				if word != "" {
					words = append(words, word)
				}
			}
			out = append(out, fmt.Sprintf("%s\t%s", strconv.FormatInt(r.Revision.Revision, 10), strings.Join(words, ", ")))
		}
		return out
	})
}

// ofDeployment completes with what there is of the Deployment that the command line
// names already. It says nothing when that fails, for a Tab is no place for errors.
func ofDeployment(env *cli.Env, list func(context.Context, target, *v1alpha1.Deployment) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		const directive = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
		ctx := cmd.Context()
		if ctx == nil {
			ctx = context.Background()
		}
		ctx, cancel := context.WithTimeout(ctx, cli.CompletionTimeout)
		defer cancel()
		if len(args) != 1 {
			return nil, directive
		}
		t, err := connect(env, args[0])
		if err != nil {
			return nil, directive
		}
		_, d, err := t.read(ctx)
		if err != nil {
			return nil, directive
		}
		var out []string
		for _, value := range list(ctx, t, d) {
			if strings.HasPrefix(value, prefix) {
				out = append(out, value)
			}
		}
		return out, directive
	}
}
