package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/fluxcd/pkg/runtime/client"
	"github.com/fluxcd/pkg/runtime/controller"
	"github.com/fluxcd/pkg/runtime/logger"
	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/internal/version"
	"github.com/nationtech/fleet/operator"
)

func runCommand() *cobra.Command {
	var o operator.Options
	var log logger.Options
	var api client.Options
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the operator",
		Long:  "Runs the operator with the cluster of the pod it runs in, or of KUBECONFIG, until it is told to stop. RUNTIME_NAMESPACE is the namespace of its Lease.",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.Bus.URL == "" {
				return errors.New("--nats-url is missing: where is the NATS server?")
			}
			if o.Bus.SeedFile == "" {
				return errors.New("--nats-seed-file is missing: devices obey only what the operator has signed; fleet-operator setup makes a seed, or keygen")
			}
			if err := checkLifetimes(o.Lifetimes); err != nil {
				return err
			}
			if o.Namespace = os.Getenv(controller.EnvRuntimeNamespace); o.Namespace == "" {
				return errors.New(controller.EnvRuntimeNamespace + " is not set: in which namespace does the operator run?")
			}
			if os.Getenv("GOGC") == "" {
				// Most of the memory is the fleet, which stays: to look through it twice as
				// often costs little, and saves a quarter.
				debug.SetGCPercent(50)
			}
			l := logger.NewLogger(log)
			logger.SetLogger(l)
			config, err := ctrl.GetConfig()
			if err != nil {
				return fmt.Errorf("no cluster to run with: %w", err)
			}
			config.QPS, config.Burst, config.UserAgent = api.QPS, api.Burst, "fleet-operator/"+version.Version
			o.Kubeconfig = os.Getenv("KUBECONFIG")
			l.Info("starting", "version", version.Version)
			return operator.Run(ctrl.SetupSignalHandler(), config, l, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Bus.URL, "nats-url", "", "URL of the NATS server, or several with commas between")
	f.StringVar(&o.PublicURL, "nats-public-url", "", "URL of the NATS server as devices find it; empty for --nats-url")
	f.StringVar(&o.Bus.SeedFile, "nats-seed-file", "", "file with the operator's NKey seed, see fleet-operator keygen")
	f.StringArrayVar(&o.PreviousSeedFiles, "nats-previous-seed-file", nil, "file with a seed that the operator had before; devices that trust that one are led to the one of --nats-seed-file. Leave it until each device has been connected once")
	f.StringVar(&o.Bus.CAFile, "nats-ca-file", "", "file with the certificates that the NATS server's is checked against")
	f.IntVar(&o.Streams.Replicas, "nats-replicas", 1, "replicas of each stream; 3 for a NATS cluster of three")
	f.Int64Var(&o.Streams.StateBytes, "nats-state-bytes", bus.StateBytes, "how much the reports of all devices may take on the disk of each NATS server, in bytes; about 600 for each Deployment on each device")
	f.StringVar(&o.MetricsAddr, "metrics-addr", ":8080", "address of the metrics; 0 for none")
	f.StringVar(&o.HealthAddr, "health-addr", ":9440", "address of the probes; 0 for none")
	f.StringVar(&o.Live, "live-addr", "", "address of the live API (heartbeats and placements), such as :8443; empty for none")
	f.StringVar(&o.LiveCertFile, "live-cert-file", "", "certificate of the live API; empty for one that is made for each run")
	f.StringVar(&o.LiveKeyFile, "live-key-file", "", "key of the live API's certificate")
	f.StringVar(&o.EventsAddr, "events-addr", "", "address of Flux's notification-controller, which gets every event; empty for none")
	bindLifetimes(c, &o.Lifetimes)
	api.BindFlags(f)
	// 50 a second for a fleet of thousands keeps them waiting for minutes. The API server
	// knows better who has to wait: it has priority and fairness.
	api.QPS, f.Lookup("kube-api-qps").DefValue = -1, "-1"
	log.BindFlags(f)
	o.LeaderElection.BindFlags(f)
	return c
}
