package env

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/operator/setup"
)

// setUp runs what the Job fleet-setup runs, with its rights, and does the kubelet's part:
// it writes the Secrets into files, and has the NATS server start anew with them.
func (f *Fleet) setUp(ctx context.Context) error {
	kubeconfig, err := f.ControlPlane.ServiceAccountKubeconfig(ctx, systemNamespace, "fleet-setup")
	if err != nil {
		return err
	}
	args := []string{
		"KUBECONFIG=" + kubeconfig, "RUNTIME_NAMESPACE=" + systemNamespace,
		filepath.Join(f.Bin, "fleet-operator"), "setup", "--nats-tls-dir", f.natsDir(),
	}
	if f.hypervisor != nil {
		args = append(args, "--nats-name", f.hypervisor.gateway().String())
	}
	if _, err := run(ctx, f.Dir, "/usr/bin/env", args...); err != nil {
		return err
	}
	for _, volume := range []struct{ secret, dir string }{
		{setup.SecretNATS, f.natsDir()}, {setup.SecretNATSTLS, f.natsDir()}, {setup.SecretSeed, f.seedDir()}, {setup.SecretLiveTLS, f.liveDir()},
	} {
		secret := &corev1.Secret{}
		if err := f.Client.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: volume.secret}, secret); err != nil {
			return err
		}
		if err := os.MkdirAll(volume.dir, 0o700); err != nil {
			return err
		}
		for name, content := range secret.Data {
			if err := os.WriteFile(filepath.Join(volume.dir, name), content, 0o600); err != nil {
				return err
			}
		}
	}
	f.ControlPlane.NATS = "tls://" + strings.TrimPrefix(f.ControlPlane.NATS, "nats://")
	return f.ControlPlane.Control(ctx, "restart", "nats")
}
