package main

import (
	"fmt"

	"github.com/nationtech/fleet/test/controlplane/internal/ociregistry"
	"github.com/spf13/cobra"
)

func pushImageCommand() *cobra.Command {
	var (
		image ociregistry.Image
		ref   string
	)
	cmd := &cobra.Command{
		Use:   "push-image --ref HOST:PORT/NAME:TAG --binary FILE",
		Short: "Make an image FROM scratch of a static binary, push it, and print its digest",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			digest, err := image.Push(cmd.Context(), ref)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), digest)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&ref, "ref", "", "where to push it (required)")
	f.StringVar(&image.Binary, "binary", "", "static Linux binary; its platform is the image's (required)")
	f.StringToStringVar(&image.Labels, "label", nil, "label KEY=VALUE of the image; may be repeated")
	f.StringArrayVar(&image.Env, "env", nil, "KEY=VALUE in the environment of the image; may be repeated")
	f.StringArrayVar(&image.Entrypoint, "entrypoint", nil, "word of the entrypoint; may be repeated (default: the binary)")
	_ = cmd.MarkFlagRequired("ref")
	_ = cmd.MarkFlagRequired("binary")
	return cmd
}
