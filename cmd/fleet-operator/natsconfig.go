package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/bus"
)

func natsConfigCommand() *cobra.Command {
	var seedFile string
	c := &cobra.Command{
		Use:   "nats-config --nats-seed-file FILE",
		Short: "Print what the NATS server has to know of the operator",
		Long: `Prints the part of nats-server's configuration that says who may do what: an
account for the operator, one for the devices, and that the operator says which
devices may connect. It holds no secret.`,
		Example: `  fleet-operator keygen --out operator.nk
  fleet-operator nats-config --nats-seed-file operator.nk > fleet.conf`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if seedFile == "" {
				return errors.New("--nats-seed-file is missing: which operator is the server's?")
			}
			keys, err := bus.ReadKeys(seedFile)
			if err != nil {
				return err
			}
			config, err := keys.ServerConfig(nil, nil, nil)
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(config)
			return err
		},
	}
	c.Flags().StringVar(&seedFile, "nats-seed-file", "", "file with the operator's NKey seed, see fleet-operator keygen")
	return c
}
