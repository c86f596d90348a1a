package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/nationtech/fleet/test/controlplane/internal/plane"
	"github.com/spf13/cobra"
)

// hookCommand is what the Git server's post-receive hook runs; git shows its
// output to the one who pushed.
func hookCommand() *cobra.Command {
	var socket, root string
	cmd := &cobra.Command{
		Use: "hook", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, _ = io.Copy(io.Discard, os.Stdin) // the refs; git wants them read
			repo, err := os.Getwd()              // a hook runs in its repository
			if err != nil {
				return err
			}
			name, err := filepath.Rel(root, repo)
			if err != nil {
				return err
			}
			lines, err := plane.Control{Socket: socket}.Hook(cmd.Context(), strings.TrimSuffix(name, ".git"))
			fmt.Fprint(cmd.OutOrStdout(), lines)
			return err
		},
	}
	cmd.Flags().StringVar(&socket, "socket", "", "control socket")
	cmd.Flags().StringVar(&root, "root", "", "folder of the repositories")
	return cmd
}
