package repo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
)

type diffOptions struct {
	env *cli.Env
	source
	output        cli.Output
	markdown      bool
	all           bool
	kustomization string
}

// newDiffCommand is `kubectl fleet repo diff`.
func newDiffCommand(env *cli.Env) *cobra.Command {
	o := diffOptions{env: env}
	cmd := &cobra.Command{
		Use:   "diff [OVERLAY]",
		Short: "Show what a change does to objects and devices, before it is made",
		Long: `Show what a change does: the objects that are added, changed and removed, and the
devices that would be told, wave by wave.

Without --rev the files on disk are compared with the cluster, and with --rev R those of
the revision R: the API server is asked what it would make of each object if Flux applied
it, and changes nothing. What is removed is what the overlay's Flux Kustomization has
applied and the overlay has no longer. With --rev A..B two revisions are compared, and
with --rev A.. one with the files on disk; that needs no cluster, and all devices count as
reachable. The devices are those of each overlay by itself.

The overlay is a name below overlays/ or a path from the repository's root; without one
it is every overlay of the folder. Values of Secrets, and what SOPS has encrypted, are not
shown: *** stands for them, and *** (before) and *** (after) for one that changes.

The exit code is 0 when there is no difference, 1 when there is one, and 3 when there is
no answer.`,
		Example: `  # What would Flux change if this was pushed?
  kubectl fleet repo diff field

  # What does this branch change, and on which devices? No cluster is needed
  kubectl fleet repo diff --rev main..HEAD

  # The same as a comment for a pull request
  kubectl fleet repo diff --rev origin/main..HEAD --markdown > comment.md`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args) },
	}
	f := cmd.Flags()
	f.StringVar(&o.dir, "repo", ".", "Folder in the repository.")
	f.StringVar(&o.rev, "rev", "", "Git revision to compare with the cluster, or two to compare with each other as A..B; without B it is the files on disk. Nothing is checked out.")
	f.BoolVar(&o.markdown, "markdown", false, "Print a comment for a pull request.")
	f.BoolVar(&o.all, "all", false, "Name all devices, however many.")
	f.StringVar(&o.kustomization, "kustomization", "", "Flux Kustomization that applies the overlay, as NAMESPACE/NAME, where its path doesn't tell.")
	o.output.AddFlags(cmd)
	cmd.MarkFlagsMutuallyExclusive("markdown", "output")
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return o.overlayNames(), cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

// overlayNames completes the overlay.
func (o *diffOptions) overlayNames() []string {
	from := source{dir: o.dir, rev: o.rev}
	if _, after, two := strings.Cut(o.rev, ".."); two {
		from.rev = after
	}
	return (&renderOptions{source: from}).overlayNames()
}

// side is one of the two that are compared.
type side struct {
	name string
	tree *gitops.Tree
}

func (o *diffOptions) openSide(revision string) (side, error) {
	from := source{dir: o.dir, rev: revision}
	tree, err := from.open()
	if err != nil {
		return side{}, err
	}
	name := "working tree"
	if revision != "" {
		name = revision
	}
	return side{name, tree}, nil
}

func (o *diffOptions) run(ctx context.Context, args []string) error {
	printer, err := o.output.Printer()
	if err != nil {
		return err
	}
	diff, failed, err := o.gather(ctx, args)
	if err != nil {
		return err
	}
	out := o.env.Streams.Out
	switch {
	case printer != nil:
		err = cli.PrintStruct(printer, "RepositoryDiff", &diff, out)
	case o.markdown:
		_, err = out.Write(markdown(diff))
	default:
		err = printDiff(out, o.env.Style(out), diff, o.all)
	}
	if err != nil {
		return err
	}
	o.talk(diff)
	if len(failed) > 0 {
		return &cli.ExitError{Code: cli.CodeError, Err: &partialError{len(failed), failed[0]}}
	}
	if diff.Differs() {
		return cli.Exit(cli.CodeBad)
	}
	return nil
}

// gather returns the difference, and the errors of what could not be compared.
func (o *diffOptions) gather(ctx context.Context, args []string) (Diff, []error, error) {
	from, to, two := strings.Cut(o.rev, "..")
	switch {
	case strings.Contains(o.rev, "..."):
		return Diff{}, nil, fmt.Errorf("--rev %q: write A..B; for what a branch has changed since it began, A is the commit that git merge-base prints", o.rev)
	case two && from == "":
		return Diff{}, nil, fmt.Errorf("--rev %q: the revision to begin with is missing: write A..B, or A.. for the files on disk", o.rev)
	case two && o.kustomization != "":
		return Diff{}, nil, errors.New("--kustomization is for a comparison with the cluster: two revisions are compared without one")
	case two:
		diff, err := o.offline(from, to, args)
		return diff, nil, err
	}
	return o.live(ctx, args)
}

// partialError tells that some objects could not be compared. Each has been told of before.
type partialError struct {
	failed int
	first  error
}

func (e *partialError) Error() string {
	if e.failed == 1 {
		return "the difference is not complete: " + e.first.Error()
	}
	return fmt.Sprintf("the difference is not complete: %s could not be compared", count(e.failed, "object"))
}

func (e *partialError) Unwrap() error { return e.first }

// talk says on stderr what there is to know about the difference.
func (o *diffOptions) talk(diff Diff) {
	out := o.env.Streams.ErrOut
	style := o.env.Style(out)
	for _, overlay := range diff.Overlays {
		for _, note := range overlay.Notes {
			style.Note(out, screen.Warn, "overlay "+overlay.Name+": "+note)
		}
		for _, failure := range overlay.Failures {
			style.Note(out, screen.Bad, "overlay "+overlay.Name+": "+failure.String())
		}
	}
}
