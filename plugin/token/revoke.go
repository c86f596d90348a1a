package token

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/jointoken"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
)

func newRevokeCommand(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:     "revoke ID...",
		Aliases: []string{"delete"},
		Short:   "Revoke tokens: nobody joins with them any longer",
		Long: `Revoke tokens: nobody joins with them any longer. Devices that have joined with them
stay; kubectl fleet revoke shuts these out. It deletes the token's Secret.

Exit codes: 0 all are revoked, 1 some could not be.`,
		Example: `  kubectl fleet token revoke x7k2m9qa -n shops`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("the ID of a token is missing, see kubectl fleet token list: %s", cmd.UseLine())
			}
			return nil
		},
		ValidArgsFunction: env.CompleteJoinTokens,
		RunE: func(cmd *cobra.Command, args []string) error {
			cluster, err := env.Connect()
			if err != nil {
				return err
			}
			var failed []error
			for _, arg := range args {
				id := idOf(arg)
				if err := Revoke(cmd.Context(), cluster, id); err != nil {
					failed = append(failed, err)
					continue
				}
				fmt.Fprintf(env.Streams.Out, "token %s revoked\n", screen.Safe(id))
			}
			if len(failed) > 0 {
				return &cli.ExitError{Code: cli.CodeBad, Err: errors.Join(failed...)}
			}
			return nil
		},
	}
}

// idOf accepts a token's ID and what token list -o name prints. A whole token is one of
// its parts: no message is to repeat the rest.
func idOf(arg string) string {
	if parts := strings.Split(arg, "."); len(parts) == 5 {
		return parts[2]
	}
	return strings.TrimPrefix(strings.TrimPrefix(arg, "secret/"), jointoken.SecretName(""))
}

// Revoke has nobody join with a token any longer.
func Revoke(ctx context.Context, cluster *cli.Cluster, id string) error {
	key := client.ObjectKey{Namespace: cluster.Namespace, Name: jointoken.SecretName(id)}
	secret := &corev1.Secret{}
	if err := cluster.Client.Get(ctx, key, secret); apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no join token %s in namespace %s, see kubectl fleet token list -A", id, key.Namespace)
	} else if err != nil {
		return fmt.Errorf("get join token %s/%s: %w", key.Namespace, id, err)
	}
	if secret.Type != jointoken.SecretType {
		return fmt.Errorf("secret %s is no join token: its type is %s", key, secret.Type)
	}
	if err := cluster.Client.Delete(ctx, secret, client.Preconditions{UID: &secret.UID}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete join token %s/%s: %w", key.Namespace, id, err)
	}
	return nil
}
