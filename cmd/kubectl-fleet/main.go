// Command kubectl-fleet is the kubectl plugin of the fleet: put it on the PATH and
// call it as `kubectl fleet`.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/nationtech/fleet/plugin"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(plugin.Execute(ctx, os.Args[1:], plugin.StandardStreams()))
}
