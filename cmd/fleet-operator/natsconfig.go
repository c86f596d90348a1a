package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
)

func natsConfigCommand() *cobra.Command {
	var operators, devices []string
	var file string
	c := &cobra.Command{
		Use:   "nats-config --operator-key KEY [--device ID=KEY]... [-f FILE]",
		Short: "Print what the NATS server has to know of operator and devices",
		Long: `Prints the part of nats-server's configuration that says who may do what: an
account for the operator and one for the devices, each with its public NKeys.`,
		Example: `  fleet-operator nats-config --operator-key "$(fleet-operator keygen --out operator.nk)" --device shop-1=UABC… > fleet.conf
  kubectl get devices -A -o yaml | fleet-operator nats-config --operator-key UABC… -f -`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if len(operators) == 0 {
				return errors.New("--operator-key is missing: no operator could connect")
			}
			auth := bus.ServerAuth{OperatorKeys: operators, Devices: map[contracts.DeviceID]string{}}
			add := func(id, key string) error {
				if _, ok := auth.Devices[contracts.DeviceID(id)]; ok {
					return fmt.Errorf("device %q is there twice", id)
				}
				auth.Devices[contracts.DeviceID(id)] = key
				return nil
			}
			for _, d := range devices {
				id, key, ok := strings.Cut(d, "=")
				if !ok {
					return fmt.Errorf("--device %q is not ID=KEY", d)
				}
				if err := add(id, key); err != nil {
					return err
				}
			}
			if file != "" {
				if err := readDevices(file, c.InOrStdin(), add); err != nil {
					return err
				}
			}
			config, err := bus.ServerConfig(auth)
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(config)
			return err
		},
	}
	f := c.Flags()
	f.StringArrayVar(&operators, "operator-key", nil, "public NKey of an operator")
	f.StringArrayVar(&devices, "device", nil, "ID and public NKey of a device")
	f.StringVarP(&file, "filename", "f", "", "YAML with Devices, of which those with a spec.publicKey are taken; - for standard input")
	return c
}

// readDevices reads Devices and lists of them.
func readDevices(file string, in io.Reader, add func(id, key string) error) error {
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("read devices: %w", err)
		}
		defer opened.Close()
		in = opened
	}
	decoder := utilyaml.NewYAMLOrJSONDecoder(in, 4096)
	for n := 1; ; n++ {
		var document struct {
			v1alpha1.Device `json:",inline"`
			Items           []v1alpha1.Device `json:"items"`
		}
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read devices: %s, document %d: %w", file, n, err)
		}
		for _, d := range append(document.Items, document.Device) {
			if d.Kind != "Device" || d.Spec.PublicKey == "" {
				continue
			}
			if err := add(d.Name, d.Spec.PublicKey); err != nil {
				return fmt.Errorf("read devices: %s, document %d: %w", file, n, err)
			}
		}
	}
}
