package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/fluxcd/pkg/runtime/controller"
	"github.com/spf13/cobra"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/internal/version"
	"github.com/nationtech/fleet/operator/setup"
	"github.com/nationtech/fleet/pki"
)

func setupCommand() *cobra.Command {
	o := setup.Options{Clock: clock.RealClock{}}
	c := &cobra.Command{
		Use:   "setup [--nats-name NAME]...",
		Short: "Make what operator and NATS server need before they can start",
		Long: `Makes, in the namespace that RUNTIME_NAMESPACE names, the Secrets that operator and NATS
server need before they can start: the operator's seed, a certificate authority, the
certificates of the NATS server and of the live API, and the NATS server's
configuration. It makes what is missing and renews what it has made. What somebody else
has made is left as it is.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.Namespace = os.Getenv(controller.EnvRuntimeNamespace); o.Namespace == "" {
				return errors.New(controller.EnvRuntimeNamespace + " is not set: in which namespace does the operator run?")
			}
			if err := checkNames(o.NATSNames); err != nil {
				return err
			}
			if err := checkLifetimes(o.Lifetimes); err != nil {
				return err
			}
			if o.NATSServers < 1 || o.NATSServers == 2 {
				return fmt.Errorf("--nats-servers is %d, want 1, or 3 or more: of two neither goes on without the other", o.NATSServers)
			}
			config, err := ctrl.GetConfig()
			if err != nil {
				return fmt.Errorf("no cluster to set up: %w", err)
			}
			config.UserAgent = "fleet-operator/" + version.Version
			if o.Client, err = client.New(config, client.Options{}); err != nil {
				return fmt.Errorf("reach the cluster: %w", err)
			}
			o.Report = func(line string, _ bool) { fmt.Fprintln(c.OutOrStdout(), line) }
			return setup.Run(ctrl.SetupSignalHandler(), o)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&o.NATSNames, "nats-name", nil, "DNS name or IP address under which devices find the NATS server")
	f.StringVar(&o.NATSTLSDir, "nats-tls-dir", "/etc/nats-tls", "where the NATS server has its certificate, as tls.crt and tls.key")
	f.IntVar(&o.NATSServers, "nats-servers", 1, "how many NATS servers there are; 3 or 5 are a cluster, see docs/guides/nats-cluster.md")
	f.StringToStringVar(&o.NATSSites, "nats-site", nil, "NAME=KEY: let the NATS server of a site in, whose public NKey this is, see fleet-operator site-config")
	f.BoolVar(&o.ExternalCertificates, "external-certificates", false, "leave all certificates to somebody else, such as cert-manager")
	bindLifetimes(c, &o.Lifetimes)
	return c
}

// bindLifetimes takes the lifetimes of certificates from flags.
func bindLifetimes(c *cobra.Command, l *pki.Lifetimes) {
	f := c.Flags()
	f.DurationVar(&l.Authority, "authority-lifetime", pki.Usual.Authority, "how long a certificate authority holds; the next one is made at two thirds of it")
	f.DurationVar(&l.Server, "certificate-lifetime", pki.Usual.Server, "how long a server's certificate holds; it is renewed at two thirds of it")
	f.DurationVar(&l.Overlap, "authority-overlap", pki.Usual.Overlap, "how long a new certificate authority is trusted before it signs")
	l.Backdate = pki.Usual.Backdate
}

func checkLifetimes(l pki.Lifetimes) error {
	for name, d := range map[string]time.Duration{"authority-lifetime": l.Authority, "certificate-lifetime": l.Server, "authority-overlap": l.Overlap} {
		if d < time.Hour {
			return fmt.Errorf("--%s is %v, want at least an hour", name, d)
		}
	}
	if l.Server > l.Authority/3 {
		return fmt.Errorf("--certificate-lifetime %v is over a third of --authority-lifetime %v: certificates would be cut short", l.Server, l.Authority)
	}
	return nil
}

func checkNames(names []string) error {
	for _, name := range names {
		if len(utilvalidation.IsValidIP(nil, name)) == 0 || len(utilvalidation.IsDNS1123Subdomain(name)) == 0 || len(utilvalidation.IsWildcardDNS1123Subdomain(name)) == 0 {
			continue
		}
		return fmt.Errorf("--nats-name %q is neither a DNS name nor an IP address; it has no scheme and no port", name)
	}
	return nil
}
