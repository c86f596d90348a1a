package repo

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/nationtech/fleet/gitops"
)

type initOptions struct {
	scaffold gitops.ScaffoldOptions
	devices  []string
	update   bool
}

// newInitCommand is `kubectl fleet repo init`.
func newInitCommand(streams genericiooptions.IOStreams) *cobra.Command {
	o := initOptions{}
	cmd := &cobra.Command{
		Use:   "init DIR --url URL --image IMAGE",
		Short: "Write a new fleet repository",
		Long: `Write a new fleet repository into an empty folder.

It has a base with two example Deployments, the overlays lab and field with their
devices, the Flux objects that bring the field into the cluster, and what checks a
change: a hook for git commit and a job for a pipeline. It is not made a Git repository:
that is one command, printed at the end.`,
		Example: `  # A repository with two devices in the field and one in the lab
  kubectl fleet repo init fleet --url https://git.example.com/fleet.git \
    --image registry.example.com/hello:v1 \
    --device shop-1=UBQ… --device shop-2=UDK… --device lab/desk=UCA…

  # After an upgrade of kubectl fleet
  kubectl fleet repo init --update fleet`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return o.run(streams.Out, args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&o.scaffold.URL, "url", "", "Where Flux will fetch the repository: http, https or ssh.")
	f.StringVar(&o.scaffold.Branch, "branch", "main", "Branch that Flux follows.")
	f.StringVar(&o.scaffold.Name, "name", "fleet", "Name of the fleet, of its Flux objects and of its devices' label.")
	// In the place of kubectl's flag: here it is the namespace that is written.
	f.StringVarP(&o.scaffold.Namespace, "namespace", "n", "fleet-demo", "Namespace of the devices in the field; the lab's has -lab behind it.")
	f.StringVar(&o.scaffold.Image, "image", "", "Image that the examples run, with a tag or digest. It serves HTTP on the port in the variable PORT.")
	f.StringArrayVar(&o.devices, "device", nil, "Device as [OVERLAY/]ID[=PUBLICKEY]; the overlay is lab or field (default). May be given several times.")
	f.BoolVar(&o.update, "update", false, "Only write components/fleet of an existing repository anew.")
	return cmd
}

func (o *initOptions) run(out io.Writer, dir string) error {
	if o.update {
		if o.scaffold.URL != "" || o.scaffold.Image != "" || len(o.devices) > 0 {
			return errors.New("--update only writes components/fleet anew: give no other flags with it")
		}
		files, err := gitops.UpdateComponent(dir)
		if err != nil {
			return err
		}
		return printFiles(out, dir, files)
	}
	for _, text := range o.devices {
		device, err := gitops.ParseScaffoldDevice(text)
		if err != nil {
			return fmt.Errorf("--device: %w", err)
		}
		o.scaffold.Devices = append(o.scaffold.Devices, device)
	}
	files, err := gitops.Scaffold(dir, o.scaffold)
	if err != nil {
		return err
	}
	if err := printFiles(out, dir, files); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, `
Next:
  cd %[1]s
  kubectl fleet repo validate
  git init -b %[2]s && git config core.hooksPath .githooks
  git add . && git commit -m "Begin the fleet"
  git remote add origin %[3]s && git push -u origin %[2]s
  kubectl apply -k clusters/%[4]s      # tells Flux; from here on a push is enough
  kubectl fleet status -n %[5]s
`, dir, o.scaffold.Branch, o.scaffold.URL, o.scaffold.Name, o.scaffold.Namespace)
	return err
}

func printFiles(out io.Writer, dir string, files []string) error {
	for _, file := range files {
		if _, err := fmt.Fprintln(out, "wrote", filepath.Join(dir, filepath.FromSlash(file))); err != nil {
			return err
		}
	}
	return nil
}
