// Package heartbeats is `kubectl fleet heartbeats`: the last sign of life of each
// device.
package heartbeats

import (
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/listing"
)

// NewCommand is `kubectl fleet heartbeats`.
func NewCommand(env *cli.Env) *cobra.Command {
	var o listing.Options
	cmd := &cobra.Command{
		Use:     "heartbeats [NAME...]",
		Aliases: []string{"heartbeat", "hb"},
		Short:   "List the last sign of life of each device, the late ones first",
		Long: `List the last sign of life of each device, at this moment: first the devices whose
heartbeats come no more, the last to go on top, then those whose next one is late. It
comes from the operator's memory, through the live API.

MISSED counts the heartbeats that never arrived since the operator began to watch.
LATENCY is how long the last one took, as far as the device's clock is right. UPTIME is
the agent's, as of the last heartbeat.

With --watch it is a live screen on a terminal, and elsewhere a row for each heartbeat.`,
		Example: `  # Who is late, in all namespaces?
  kubectl fleet heartbeats -A

  # Watch one site come back
  kubectl fleet heartbeats -l site=montreal -w

  # Only those that are gone
  kubectl fleet heartbeats --field-selector status.ready=false

  # Who runs an old agent?
  kubectl fleet heartbeats --sort-by .status.agentVersion`,
		// They have the names of their devices.
		ValidArgsFunction: env.CompleteDevices,
		RunE: func(cmd *cobra.Command, args []string) error {
			return listing.Run(cmd.Context(), env, &o, kind(), args)
		},
	}
	o.AddFlags(cmd, "heartbeat", "status.ready=false")
	return cmd
}

func kind() listing.Kind[*live.Heartbeat] {
	return listing.Kind[*live.Heartbeat]{
		Noun: "heartbeat", GVK: live.GroupVersion.WithKind("Heartbeat"),
		Read: func(object *unstructured.Unstructured) (*live.Heartbeat, error) {
			h := &live.Heartbeat{}
			return h, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, h)
		},
		Compare: compare,
		Columns: columns(), State: readyColumn, Cells: cells, Tone: tone, Summary: summary,
	}
}
