// Command controlplane builds and runs a real control plane on loopback:
// etcd, kube-apiserver, kube-controller-manager, Flux, NATS, a Git server and
// an OCI registry. It exists for tests, demos and benchmarks.
package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/nationtech/fleet/test/controlplane/internal/assets"
	"github.com/spf13/cobra"
)

//go:embed go.mod
var goMod []byte

//go:embed go.sum
var goSum []byte

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends us at once; the kernel then ends the children.
	context.AfterFunc(ctx, stop)

	root := &cobra.Command{
		Use:           "controlplane",
		Short:         "A real Kubernetes, Flux, NATS, Git and OCI control plane on loopback, for tests",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(buildCommand(), assetsCommand(), runCommand(), kubeconfigCommand(), pushImageCommand(), ctlCommand(), hookCommand())
	root.SetArgs(args)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "✗ %v\n", err)
		return 1
	}
	return 0
}

func cache() (assets.Cache, error) {
	root, err := assets.DefaultRoot()
	return assets.Cache{GoMod: goMod, GoSum: goSum, Root: root}, err
}

// ensureAssets returns the folder of the binaries, building what is missing.
func ensureAssets(ctx context.Context) (string, error) {
	c, err := cache()
	if err != nil {
		return "", err
	}
	return c.Ensure(ctx, os.Stderr)
}
