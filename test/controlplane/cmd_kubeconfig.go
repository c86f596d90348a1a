package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/nationtech/fleet/test/controlplane/env"
	"github.com/nationtech/fleet/test/controlplane/internal/pki"
	"github.com/nationtech/fleet/test/controlplane/internal/plane"
	"github.com/spf13/cobra"
)

func kubeconfigCommand() *cobra.Command {
	var (
		dir, user, account string
		groups             []string
		validity           time.Duration
	)
	cmd := &cobra.Command{
		Use:   "kubeconfig --dir DIR (--user NAME [--group G]… | --serviceaccount NAMESPACE/NAME)",
		Short: "Print a kubeconfig for another user or for a service account",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := env.Load(dir)
			if err != nil {
				return err
			}
			if e.APIServer == "" {
				return fmt.Errorf("the control plane in %s has no API server", dir)
			}
			keys := pki.Dir(filepath.Join(e.Dir, "pki"))
			var raw []byte
			if account != "" {
				namespace, name, ok := strings.Cut(account, "/")
				if !ok {
					return fmt.Errorf("--serviceaccount wants NAMESPACE/NAME, not %q", account)
				}
				client, clientErr := plane.DynamicClient(e.Kubeconfig)
				if clientErr != nil {
					return clientErr
				}
				raw, err = plane.ServiceAccountKubeconfig(cmd.Context(), client, e.APIServer, keys, namespace, name, validity)
			} else {
				raw, err = plane.UserKubeconfig(e.APIServer, keys, user, groups)
			}
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(raw)
			return err
		},
		PreRunE: func(*cobra.Command, []string) error {
			if account != "" && len(groups) > 0 {
				return errors.New("--group cannot be used with --serviceaccount: its groups follow from its name")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "", "folder of the control plane (required)")
	f.StringVar(&user, "user", "", "user name, for a client certificate")
	f.StringArrayVar(&groups, "group", nil, "group of the user; may be repeated")
	f.StringVar(&account, "serviceaccount", "", "NAMESPACE/NAME, for a token")
	f.DurationVar(&validity, "duration", 24*time.Hour, "how long the token is valid")
	_ = cmd.MarkFlagRequired("dir")
	cmd.MarkFlagsOneRequired("user", "serviceaccount")
	cmd.MarkFlagsMutuallyExclusive("user", "serviceaccount")
	return cmd
}
