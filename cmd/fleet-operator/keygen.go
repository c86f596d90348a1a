package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/nats-io/nkeys"
	"github.com/spf13/cobra"
)

func keygenCommand() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "keygen --out FILE",
		Short: "Make the operator's key",
		Long:  "Makes an NKey, writes the secret half to a file that only its owner can read, and prints the public half.",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return errors.New("--out is missing: where does the secret half go?")
			}
			key, err := nkeys.CreateUser()
			if err != nil {
				return err
			}
			seed, err := key.Seed()
			if err != nil {
				return err
			}
			public, err := key.PublicKey()
			if err != nil {
				return err
			}
			// Never over an existing one: that would lock the operator out.
			file, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return fmt.Errorf("write the key: %w", err)
			}
			_, err = file.Write(append(seed, '\n'))
			if err := errors.Join(err, file.Close()); err != nil {
				return fmt.Errorf("write the key: %w", err)
			}
			fmt.Fprintln(c.OutOrStdout(), public)
			return nil
		},
	}
	c.Flags().StringVar(&out, "out", "", "file for the secret half; it must not exist yet")
	return c
}
