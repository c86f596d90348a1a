package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/bus"
)

func siteConfigCommand() *cobra.Command {
	var o bus.SiteOptions
	var fleetConf, seedFile string
	c := &cobra.Command{
		Use:   "site-config --name NAME --hub URL... --fleet-conf FILE --seed-file FILE",
		Short: "Print the configuration of a site's own NATS server",
		Long: `Prints the configuration of a NATS server that the devices of one site connect to, and
that has one connection for all of them to the operator's servers, as their leaf node. The
operator says which devices may connect there as everywhere. It holds the site's seed: keep
it as you keep that.`,
		Example: `  fleet-operator keygen --out montreal.nk
  kubectl -n fleet-system get secret fleet-nats -o jsonpath='{.data.fleet\.conf}' | base64 -d > fleet.conf
  fleet-operator site-config --name montreal --hub tls://nats.fleet.example.com:7422 --fleet-conf fleet.conf --seed-file montreal.nk > site.conf`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case o.Name == "":
				return errors.New("--name is missing: which site is it?")
			case len(o.Hub) == 0:
				return errors.New("--hub is missing: where are the operator's NATS servers?")
			case fleetConf == "":
				return errors.New("--fleet-conf is missing: which operator says what devices may connect?")
			case seedFile == "":
				return errors.New("--seed-file is missing: what does the site's server prove itself with? fleet-operator keygen makes one")
			}
			text, err := os.ReadFile(fleetConf)
			if err != nil {
				return fmt.Errorf("read the configuration of the operator's servers: %w", err)
			}
			if o.Issuer, err = bus.IssuerOf(text); err != nil {
				return fmt.Errorf("%s: %w", fleetConf, err)
			}
			if o.Seed, err = os.ReadFile(seedFile); err != nil {
				return fmt.Errorf("read the site's seed: %w", err)
			}
			config, err := bus.SiteConfig(o)
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(config)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.Name, "name", "", "name of the site, as setup --nats-site knows it")
	f.StringArrayVar(&o.Hub, "hub", nil, "URL of the operator's NATS servers for sites, such as tls://nats.fleet.example.com:7422; may be repeated")
	f.StringVar(&fleetConf, "fleet-conf", "", "file with fleet.conf of the Secret fleet-nats")
	f.StringVar(&seedFile, "seed-file", "", "file with the site's NKey seed, whose public half setup --nats-site knows")
	f.StringVar(&o.TLS.CertFile, "cert-file", "/etc/nats-tls/tls.crt", "where the site's server has its certificate")
	f.StringVar(&o.TLS.KeyFile, "key-file", "/etc/nats-tls/tls.key", "where the site's server has the key of its certificate")
	f.StringVar(&o.TLS.CAFile, "ca-file", "/etc/nats-tls/ca.crt", "where the site's server has the certificates that the operator's are checked against; empty for the system's")
	return c
}
