package repo

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
)

type validateOptions struct {
	source
	staged bool
	output cli.Output
}

// newValidateCommand is `kubectl fleet repo validate`.
func newValidateCommand(env *cli.Env) *cobra.Command {
	o := validateOptions{}
	cmd := &cobra.Command{
		Use:   "validate [PATH]",
		Short: "Check every overlay as the cluster would, offline",
		Long: `Check every overlay of a repository as the cluster would: that it can be built, that
it has no unknown field, that the schema and rules of fleet's kinds are kept, and that
what a Deployment refers to is there. PATH is a folder of the repository (default: the
current one); within overlays/ only the overlays there are checked.

What SOPS has encrypted is left alone, and no value of a Secret is printed.

The exit code is 0 when the cluster would take it, 1 when it would not, and 3 when
there is nothing to check. Warnings don't count.`,
		Example: `  # Before a commit
  kubectl fleet repo validate

  # What is about to be committed, as the hook .githooks/pre-commit does it
  kubectl fleet repo validate --staged

  # What is on the branch main, for a program
  kubectl fleet repo validate --rev main -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return o.run(env, args) },
	}
	o.addRevFlag(cmd)
	o.addRemoteFlag(cmd)
	cmd.Flags().BoolVar(&o.staged, "staged", false, "Look at what is staged for the next commit instead of the files on disk.")
	cmd.MarkFlagsMutuallyExclusive("rev", "staged")
	o.output.AddFlags(cmd)
	return cmd
}

func (o *validateOptions) run(env *cli.Env, args []string) error {
	printer, err := o.output.Printer()
	if err != nil {
		return err
	}
	o.dir = "."
	if len(args) == 1 {
		o.dir = args[0]
	}
	tree, err := o.openStaged(env)
	if err != nil {
		return err
	}
	overlays, err := tree.Here()
	if err != nil {
		return err
	}
	schemas, err := gitops.NewSchemas()
	if err != nil {
		return err
	}
	done := sayWhenSlow(env, len(overlays))
	report := gitops.Validate(tree, overlays, schemas)
	done()
	if printer != nil {
		err = cli.PrintStruct(printer, "RepositoryReport", &report, env.Streams.Out)
	} else {
		err = printReport(env.Streams.Out, report)
	}
	if err != nil {
		return err
	}
	if report.Count(gitops.Error) > 0 {
		return cli.Exit(cli.CodeBad)
	}
	return nil
}

// openStaged is open, and knows --staged.
func (o *validateOptions) openStaged(env *cli.Env) (*gitops.Tree, error) {
	if !o.staged {
		return o.open()
	}
	tree, err := gitops.OpenStaged(o.dir, env.Getenv("GIT_INDEX_FILE"))
	if err != nil {
		return nil, err
	}
	tree.AllowRemote = o.allowRemote
	return tree, nil
}

// patience is how long a person looks at nothing.
const patience = 2 * time.Second

// sayWhenSlow tells a person who waits that something happens. What it returns ends it.
func sayWhenSlow(env *cli.Env, overlays int) func() {
	style := env.Style(env.Streams.ErrOut)
	if !style.Terminal {
		return func() {}
	}
	timer := time.AfterFunc(patience, func() {
		fmt.Fprintf(env.Streams.ErrOut, "%s checking %s\n", style.Mark(screen.Busy), count(overlays, "overlay"))
	})
	return func() { timer.Stop() }
}

func printReport(out io.Writer, report gitops.Report) error {
	var text strings.Builder
	for _, f := range report.Findings {
		fmt.Fprintf(&text, "%s: %s\n", strings.ToLower(string(f.Severity)), f)
		if f.Hint != "" {
			fmt.Fprintf(&text, "  %s\n", f.Hint)
		}
	}
	if len(report.Findings) > 0 {
		text.WriteString("\n")
	}
	devices, deployments := 0, 0
	for _, overlay := range report.Overlays {
		devices += overlay.Devices
		deployments += overlay.Deployments
	}
	fmt.Fprintf(&text, "%s of the %s (%s, %s): %s, %s\n",
		count(len(report.Overlays), "overlay"), report.Source, count(devices, "device"), count(deployments, "deployment"),
		count(report.Count(gitops.Error), "error"), count(report.Count(gitops.Warning), "warning"))
	_, err := io.WriteString(out, text.String())
	return err
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func names(overlays []gitops.Overlay) string {
	out := make([]string, len(overlays))
	for i, overlay := range overlays {
		out[i] = overlay.Name
	}
	return strings.Join(out, ", ")
}
