package placements

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/listing"
	"github.com/nationtech/fleet/plugin/screen"
)

// filters are the command's own flags that choose.
type filters struct {
	device, deployment string
	phases             []string
}

// NewCommand is `kubectl fleet placements`.
func NewCommand(env *cli.Env) *cobra.Command {
	o := listing.Options{Filters: []string{"device", "deployment", "phase"}}
	var f filters
	cmd := &cobra.Command{
		Use:     "placements [NAME...]",
		Aliases: []string{"placement", "plc"},
		Short:   "List what runs where, at this moment",
		Long: `List what runs where, at this moment: a row for each Deployment on each device, what is
not well first. It comes from the operator's memory, through the live API.

A NAME is DEVICE.DEPLOYMENT. TOLD is the revision that the device was told, REPORTED
that of which it speaks; PHASE, REASON and RESTARTS are what it says, and SINCE is how
long it has been in that phase. What is said of a device that is not ONLINE is what it
said last.

With --watch it is a live screen on a terminal, and elsewhere a row for each change.`,
		Example: `  # What is wrong, and where
  kubectl fleet placements -A --phase Failed,Degraded,RolledBack -o wide

  # Everything on one device
  kubectl fleet placements --device till-7

  # Who still runs the old revision?
  kubectl fleet placements --deployment signage --field-selector status.revision!=signage-x4vc44zvb4

  # Follow a site
  kubectl fleet placements -l site=montreal -w`,
		ValidArgsFunction: env.CompletePlacements,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.Fields, err = f.selectors(); err != nil {
				return err
			}
			return listing.Run(cmd.Context(), env, &o, kind(), args)
		},
	}
	o.AddFlags(cmd, "placement", "status.ready=false")
	cmd.Flags().StringVar(&f.device, "device", "", "Only what this device was told or speaks of.")
	cmd.Flags().StringVar(&f.deployment, "deployment", "", "Only this Deployment.")
	cmd.Flags().StringSliceVar(&f.phases, "phase", nil, fmt.Sprintf("Only what is in this phase: %s. May be several, separated by commas.", strings.Join(phases(), ", ")))
	for name, complete := range map[string]cobra.CompletionFunc{
		"device": env.CompleteDevice, "deployment": env.CompleteDeployment,
		"phase": cobra.FixedCompletions(phases(), cobra.ShellCompDirectiveNoFileComp),
	} {
		_ = cmd.RegisterFlagCompletionFunc(name, complete)
	}
	return cmd
}

func kind() listing.Kind[*live.Placement] {
	return listing.Kind[*live.Placement]{
		Noun: "placement", GVK: live.GroupVersion.WithKind("Placement"),
		Read: func(object *unstructured.Unstructured) (*live.Placement, error) {
			p := &live.Placement{}
			return p, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, p)
		},
		Compare: func(a, b *live.Placement, _ time.Time) int { return Compare(a, b) },
		Columns: columns(), State: phaseColumn, Cells: cells, Tone: func(p *live.Placement, _ time.Time) screen.Tone { return Tone(p) }, Summary: summary,
	}
}

// phases are those that a placement can be in.
func phases() []string {
	var out []string
	for _, p := range []contracts.Phase{
		contracts.PhasePending, contracts.PhasePulling, contracts.PhaseApplying, contracts.PhaseRunning,
		contracts.PhaseDegraded, contracts.PhaseFailed, contracts.PhaseRolledBack, contracts.PhaseRemoved,
	} {
		out = append(out, string(p))
	}
	return out
}

// selectors are what the flags ask of the API server.
func (f *filters) selectors() ([]fields.Selector, error) {
	var terms []fields.Selector
	for field, value := range map[string]string{"spec.device": f.device, "spec.deployment": f.deployment} {
		if value != "" {
			terms = append(terms, fields.OneTermEqualSelector(field, value))
		}
	}
	wanted := map[string]bool{}
	for _, name := range f.phases {
		i := slices.IndexFunc(phases(), func(p string) bool { return strings.EqualFold(p, name) })
		if i < 0 {
			return nil, fmt.Errorf("--phase %s: must be one of %s", name, strings.Join(phases(), ", "))
		}
		wanted[phases()[i]] = true
	}
	if len(wanted) == 0 {
		return terms, nil
	}
	// The API server knows no "one of", but it knows "none of".
	for _, p := range phases() {
		if !wanted[p] {
			terms = append(terms, fields.OneTermNotEqualSelector("status.phase", p))
		}
	}
	return terms, nil
}
