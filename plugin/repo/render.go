package repo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/plugin/cli"
)

// source is which files a command looks at.
type source struct {
	dir, rev    string
	allowRemote bool
}

func (s *source) addRevFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.rev, "rev", "", "Git revision to look at, such as main, v1.2 or HEAD~1, instead of the files on disk. Nothing is checked out.")
}

func (s *source) addRemoteFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&s.allowRemote, "allow-remote", false, "Have kustomize fetch bases and files from outside the repository, with git and over HTTP as you; only for a repository that you trust. They are refused otherwise.")
}

func (s *source) open() (*gitops.Tree, error) {
	var tree *gitops.Tree
	var err error
	if s.rev != "" {
		tree, err = gitops.OpenRevision(s.dir, s.rev)
	} else {
		tree, err = gitops.OpenWorkingTree(s.dir)
	}
	if err != nil {
		return nil, err
	}
	tree.AllowRemote = s.allowRemote
	return tree, nil
}

type renderOptions struct {
	source
	output string
}

// newRenderCommand is `kubectl fleet repo render`.
func newRenderCommand(streams genericiooptions.IOStreams) *cobra.Command {
	o := renderOptions{}
	cmd := &cobra.Command{
		Use:   "render [OVERLAY]",
		Short: "Print what an overlay comes to, now or at a revision",
		Long: `Print what an overlay comes to: the objects that Flux will apply. Secrets are printed
as they are, with what they hold.

The overlay is a name below overlays/ or a path from the repository's root; it can be
left out in an overlay's own folder and where there is only one. The exit code is 1
when the overlay can't be built, and 3 when there is no such overlay, revision or
repository.`,
		Example: `  # What will Flux apply?
  kubectl fleet repo render field

  # What did the last commit change?
  diff <(kubectl fleet repo render field --rev HEAD~1) <(kubectl fleet repo render field --rev HEAD)`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return o.run(streams.Out, args) },
	}
	cmd.Flags().StringVar(&o.dir, "repo", ".", "Folder in the repository.")
	cmd.Flags().StringVarP(&o.output, "output", "o", "yaml", "Output format: yaml or json (a List).")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"yaml", "json"}, cobra.ShellCompDirectiveNoFileComp))
	o.addRevFlag(cmd)
	o.addRemoteFlag(cmd)
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return o.overlayNames(), cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

func (o *renderOptions) overlayNames() []string {
	tree, err := o.open()
	if err != nil {
		return nil
	}
	overlays, err := tree.Overlays()
	if err != nil {
		return nil
	}
	var names []string
	for _, overlay := range overlays {
		names = append(names, overlay.Name)
	}
	return names
}

func (o *renderOptions) run(out io.Writer, args []string) error {
	if o.output != "yaml" && o.output != "json" {
		return fmt.Errorf("--output %q: use yaml or json", o.output)
	}
	tree, err := o.open()
	if err != nil {
		return err
	}
	overlay, err := oneOverlay(tree, args)
	if err != nil {
		return err
	}
	rendered, err := gitops.Render(tree, overlay)
	if err != nil {
		return &cli.ExitError{Code: cli.CodeBad, Err: err}
	}
	return printRendered(out, rendered, o.output)
}

func oneOverlay(tree *gitops.Tree, args []string) (gitops.Overlay, error) {
	if len(args) == 1 {
		return tree.Find(args[0])
	}
	overlays, err := tree.Here()
	if err != nil {
		return gitops.Overlay{}, err
	}
	if len(overlays) > 1 {
		return gitops.Overlay{}, fmt.Errorf("which overlay? There are: %s", names(overlays))
	}
	return overlays[0], nil
}

func printRendered(out io.Writer, rendered gitops.Rendered, format string) error {
	if format == "json" {
		items := make([]any, len(rendered.Objects))
		for i, object := range rendered.Objects {
			items[i] = object.Content
		}
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "    ")
		return encoder.Encode(map[string]any{"apiVersion": "v1", "kind": "List", "metadata": map[string]any{}, "items": items})
	}
	var text bytes.Buffer
	for i, object := range rendered.Objects {
		if i > 0 {
			text.WriteString("---\n")
		}
		text.Write(object.YAML())
	}
	_, err := out.Write(text.Bytes())
	return err
}
