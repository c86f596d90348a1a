// Command demo brings up a whole fleet on this machine, rolls changes out to it
// with git push, and shows how long each hop took. `make demo` runs it.
package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/test/env"
)

func main() { env.Main(command()) }

func command() *cobra.Command {
	root := &cobra.Command{Use: "demo", Short: "Bring up a fleet on this machine", SilenceUsage: true, SilenceErrors: true}
	var d demo
	var keep, attached bool
	up := &cobra.Command{
		Use: "up", Short: "Bring up a fleet, roll out changes, show it, and remove it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.progress = env.NewProgress(cmd.OutOrStdout())
			if keep && !attached {
				return d.background(cmd.Context(), cmd.OutOrStdout())
			}
			return d.up(cmd.Context(), keep)
		},
	}
	up.Flags().StringVar(&d.bin, "bin", "bin", "folder of the binaries")
	up.Flags().StringVar(&d.manifests, "manifests", "manifests", "folder of the manifests")
	up.Flags().BoolVar(&d.machine, "machine", false, "a virtual machine as the device, for which libvirt and QEMU are needed")
	up.Flags().BoolVar(&keep, "keep", false, "leave the fleet running until `demo down`")
	up.Flags().BoolVar(&attached, "attached", false, "with --keep: stay in the foreground")
	_ = up.Flags().MarkHidden("attached")
	down := &cobra.Command{
		Use: "down", Short: "Stop a fleet that was left running, and remove every trace of it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.progress = env.NewProgress(cmd.OutOrStdout())
			return d.down(cmd.Context())
		},
	}
	for _, c := range []*cobra.Command{up, down} {
		// Short, because unix sockets are below it.
		c.Flags().StringVar(&d.dir, "dir", filepath.Join(os.TempDir(), "fleet-demo"), "folder for everything that the demo writes")
	}
	root.AddCommand(up, down)
	return root
}
