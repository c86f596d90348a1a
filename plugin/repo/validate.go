package repo

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/plugin/cli"
)

type validateOptions struct {
	source
	output cli.Output
}

// newValidateCommand is `kubectl fleet repo validate`.
func newValidateCommand(streams genericiooptions.IOStreams) *cobra.Command {
	o := validateOptions{}
	cmd := &cobra.Command{
		Use:   "validate [PATH]",
		Short: "Check every overlay as the cluster would, offline",
		Long: `Check every overlay of a repository as the cluster would: that it can be built, that
it has no unknown field, and that the schema and rules of fleet's kinds are kept. PATH
is a folder of the repository (default: the current one); within overlays/ only the
overlays there are checked.

The exit code is 0 when the cluster would take it, 1 when it would not, and 3 when
there is nothing to check. Warnings don't count.`,
		Example: `  # Before a commit
  kubectl fleet repo validate

  # What is on the branch main, for a program
  kubectl fleet repo validate --rev main -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return o.run(streams.Out, args) },
	}
	o.addRevFlag(cmd)
	o.output.AddFlags(cmd)
	return cmd
}

func (o *validateOptions) run(out io.Writer, args []string) error {
	printer, err := o.output.Printer()
	if err != nil {
		return err
	}
	o.dir = "."
	if len(args) == 1 {
		o.dir = args[0]
	}
	tree, err := o.open()
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
	report := gitops.Validate(tree, overlays, schemas)
	if printer != nil {
		err = cli.PrintStruct(printer, "RepositoryReport", &report, out)
	} else {
		err = printReport(out, report)
	}
	if err != nil {
		return err
	}
	if report.Count(gitops.Error) > 0 {
		return cli.Exit(cli.CodeBad)
	}
	return nil
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
