package devices

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/listing"
	"github.com/nationtech/fleet/plugin/screen"
)

// NewCommand is `kubectl fleet devices`.
func NewCommand(env *cli.Env) *cobra.Command {
	o := listing.Options{Filters: []string{"health"}}
	var health []string
	cmd := &cobra.Command{
		Use:     "devices [NAME...]",
		Aliases: []string{"device", "dev"},
		Short:   "List devices and how they are",
		Long: `List devices and how they are.

STATUS is Ready, or the reason why the device is not; PendingApproval is for kubectl
fleet approve or deny, ShutOut is what somebody has denied or revoked. Cordoned comes on
top.
RUNNING counts the Deployments that run of those that the device was told.

How a device is comes from the operator's memory, through the live API. Where that
can't be had it is what the operator wrote last into the Device, which lags behind:
LAST-HEARTBEAT of a device that is there is a bound only then (<8m). So are the changes
that --watch goes on with; kubectl fleet heartbeats --watch has every heartbeat. -o json
and -o yaml have the Device as it is in the cluster.`,
		Example: `  # Who is gone, in all namespaces?
  kubectl fleet devices -A --health not-ready

  # Who waits for approval, with the key that the device has printed
  kubectl fleet devices -A --health pending -o wide

  # The devices of one site, with what they run on
  kubectl fleet devices -l site=montreal -o wide

  # Changes as they happen
  kubectl fleet devices -w

  # Only names, for scripts
  kubectl fleet devices -o name`,
		ValidArgsFunction: env.CompleteDevices,
		RunE: func(cmd *cobra.Command, args []string) error {
			filter := healthFilter(health)
			if err := filter.validate(); err != nil {
				return err
			}
			kind := listing.Kind[*device]{
				Noun: "device", GVK: v1alpha1.GroupVersion.WithKind(v1alpha1.DeviceKind),
				Read: read, Match: filter.match,
				Columns: columns(), State: statusColumn, Cells: cells, Tone: tone,
			}
			// What is printed as it is in the cluster needs nothing else.
			if o.Human() || len(filter) > 0 {
				kind.Join = (&joiner{out: env.Streams.ErrOut}).join
			}
			return listing.Run(cmd.Context(), env, &o, kind, args)
		},
	}
	o.AddFlags(cmd, "device", "metadata.name=pi-7")
	cmd.Flags().StringSliceVar(&health, "health", nil, "Only devices of this health: ready, not-ready, never-seen, pending (approval), shut-out, duplicate, cordoned. May be several, separated by commas.")
	_ = cmd.RegisterFlagCompletionFunc("health", cobra.FixedCompletions(healthValues(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// tone paints a device that is gone, or has no right to be there yet.
func tone(d *device, _ time.Time) screen.Tone {
	if t := Of(d.Device).Tone(); t != screen.Good {
		return t
	}
	return screen.Plain
}
