package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/nationtech/fleet/test/controlplane/internal/plane"
	"github.com/spf13/cobra"
)

func runCommand() *cobra.Command {
	var (
		c             plane.Config
		quiet         bool
		untilStdinEOF bool
	)
	cmd := &cobra.Command{
		Use:   "run --dir DIR",
		Short: "Run the control plane in the foreground until SIGTERM or SIGINT",
		Long: `Run the control plane in the foreground until SIGTERM or SIGINT.

DIR/env.json appears when everything is ready. A component that exits is started
again at once, on its port and with its data. Running again with the same DIR
resumes the same state.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			if untilStdinEOF {
				go func() {
					_, _ = io.Copy(io.Discard, os.Stdin)
					cancel()
				}()
			}
			var err error
			if c.Assets, err = ensureAssets(ctx); err != nil {
				return err
			}
			if c.Executable, err = os.Executable(); err != nil {
				return err
			}
			if c.Options.NATSConfig != "" {
				if c.Options.NATSConfig, err = filepath.Abs(c.Options.NATSConfig); err != nil {
					return err
				}
				if _, err := os.Stat(c.Options.NATSConfig); err != nil {
					return fmt.Errorf("--nats-config: %w", err)
				}
			}
			c.Out = cmd.ErrOrStderr()
			if quiet {
				c.Out = io.Discard
			}
			err = plane.Run(ctx, c)
			if errors.Is(err, context.Canceled) {
				return nil // asked to stop while it started
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.Dir, "dir", "", "folder of all state, logs and env.json (required)")
	f.StringSliceVar(&c.Components, "components", []string{"all"}, "what to run; what it needs is added (groups: all, kubernetes, flux)")
	f.StringVar(&c.Options.NATSConfig, "nats-config", "", "configuration file of nats-server (default: plain JetStream)")
	f.BoolVar(&c.Options.Fsync, "fsync", false, "let etcd sync its disk, as in production (slower)")
	f.StringArrayVar(&c.Options.APIServerArgs, "apiserver-arg", nil, "one more argument for kube-apiserver; may be repeated")
	f.DurationVar(&c.Timeout, "timeout", 2*time.Minute, "how long everything may take to become ready")
	f.BoolVar(&quiet, "quiet", false, "print errors only")
	f.BoolVar(&untilStdinEOF, "until-stdin-eof", false, "also stop when standard input ends, so that it dies with whoever holds the other end")
	_ = cmd.MarkFlagRequired("dir")
	return cmd
}
