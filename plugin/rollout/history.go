package rollout

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
)

// History is what `kubectl fleet rollout history` knows.
type History struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Revisions that are kept, the oldest first.
	Revisions []Revision `json:"revisions"`
}

// Kept is what is known of one revision.
type Kept struct {
	Namespace  string `json:"namespace"`
	Deployment string `json:"deployment"`
	Revision   `json:",inline"`
	// Score as devices got it, and the ConfigMaps that it refers to as they were;
	// null is one that was missing.
	Score      map[string]any            `json:"score"`
	ConfigMaps map[string]*configMapData `json:"configMaps,omitempty"`
}

type historyOptions struct {
	env      *cli.Env
	revision string
	output   cli.Output
}

func newHistoryCommand(env *cli.Env) *cobra.Command {
	o := historyOptions{env: env}
	cmd := &cobra.Command{
		Use:   "history NAME [--revision REVISION]",
		Short: "List the revisions of a Deployment, or show one",
		Long: `List the revisions of a Deployment: when each was wanted, the Git commit that it came
from, what it is now, and what it changed. spec.revisionHistoryLimit of them are kept,
and those that are in use. Going back to a revision gives it a new number.

current is the last revision that every reachable device ran, update the one that is
being rolled out. --revision shows the score of one.`,
		Example: `  kubectl fleet rollout history telemetry

  # What did it run then?
  kubectl fleet rollout history telemetry --revision 3`,
		Args:              cli.ExactName("deployment"),
		ValidArgsFunction: env.CompleteDeployments,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args[0])
		},
	}
	cmd.Flags().StringVar(&o.revision, "revision", "", "Show the revision of this number or name.")
	_ = cmd.RegisterFlagCompletionFunc("revision", completeRevisions(env))
	o.output.AddFlags(cmd, cli.Wide, cli.Name)
	return cmd
}

func (o *historyOptions) run(ctx context.Context, arg string) error {
	printer, err := o.output.Printer()
	if err != nil {
		return err
	}
	t, err := connect(o.env, arg)
	if err != nil {
		return err
	}
	_, d, err := t.read(ctx)
	if err != nil {
		return err
	}
	all, err := keptOf(ctx, t.Client, d)
	if err != nil {
		return err
	}
	if o.revision != "" && o.revision != "0" {
		r, err := pick(d, all, o.revision)
		if err != nil {
			return err
		}
		return o.one(printer, Kept{Namespace: d.Namespace, Deployment: d.Name, Revision: r.Revision, Score: r.raw, ConfigMaps: r.content.ConfigMaps})
	}
	h := History{Namespace: d.Namespace, Name: d.Name, Revisions: []Revision{}}
	for _, r := range all {
		h.Revisions = append(h.Revisions, r.Revision)
	}
	return o.list(printer, h)
}

func (o *historyOptions) list(printer printers.ResourcePrinter, h History) error {
	out := o.env.Streams.Out
	if printer != nil {
		return cli.PrintStruct(printer, "RolloutHistory", h, out)
	}
	if o.output.Is(cli.Name) {
		var names []string
		for _, r := range h.Revisions {
			names = append(names, revisionName(r))
		}
		return cli.PrintNames(out, names...)
	}
	if len(h.Revisions) == 0 {
		_, err := fmt.Fprintf(o.env.Streams.ErrOut, "No revisions of deployment %s/%s.\n", h.Namespace, h.Name)
		return err
	}
	return printers.NewTablePrinter(printers.PrintOptions{Wide: o.output.Is(cli.Wide)}).PrintObj(historyTable(h, o.env.Now()), out)
}

// revisionName is a revision's name as kubectl takes and prints it.
func revisionName(r Revision) string { return "controllerrevision.apps/" + r.Name }

func historyTable(h History, now time.Time) *metav1.Table {
	table := &metav1.Table{ColumnDefinitions: []metav1.TableColumnDefinition{
		{Name: "Revision", Type: "integer"},
		{Name: "Name", Type: "string", Format: "name"},
		{Name: "Age", Type: "string"},
		{Name: "Commit", Type: "string"},
		{Name: "State", Type: "string"},
		{Name: "Change", Type: "string"},
		{Name: "Since", Type: "string", Priority: 1},
		{Name: "Full-Commit", Type: "string", Priority: 1},
		{Name: "Rolled-Back", Type: "string", Priority: 1},
	}}
	for _, r := range h.Revisions {
		rolledBack := ""
		if r.RolledBackAt != nil {
			rolledBack = r.RolledBackAt.UTC().Format(time.RFC3339)
		}
		table.Rows = append(table.Rows, metav1.TableRow{Cells: []any{
			r.Revision, r.Name, screen.Age(now, r.Since.Time), orUnknown(screen.Safe(ShortCommit(r.Commit))), orUnknown(r.State()),
			orUnknown(screen.Safe(strings.Join(r.Changes, "; "))), r.Since.UTC().Format(time.RFC3339), orUnknown(screen.Safe(r.Commit)), orUnknown(rolledBack),
		}})
	}
	return table
}

func (o *historyOptions) one(printer printers.ResourcePrinter, k Kept) error {
	out := o.env.Streams.Out
	switch {
	case printer != nil:
		return cli.PrintStruct(printer, "RolloutRevision", k, out)
	case o.output.Is(cli.Name):
		return cli.PrintNames(out, revisionName(k.Revision))
	}
	return renderKept(out, o.env.Style(out), k, o.env.Now())
}

func renderKept(out io.Writer, s screen.Style, k Kept, now time.Time) error {
	var rows [][]screen.Cell
	fact := func(name, value string) {
		rows = append(rows, []screen.Cell{{Text: name, Tone: screen.Dim}, {Text: screen.Safe(value)}})
	}
	fact("Revision", fmt.Sprintf("%d  %s", k.Revision.Revision, k.Revision.Name))
	fact("Since", fmt.Sprintf("%s, %s", k.Since.UTC().Format(time.RFC3339), screen.Ago(now, k.Since.Time)))
	fact("Commit", orUnknown(k.Commit))
	fact("State", orUnknown(k.State()))
	fact("Change", orUnknown(strings.Join(k.Changes, "; ")))
	if len(k.ConfigMaps) > 0 {
		fact("ConfigMaps", strings.Join(slices.Sorted(maps.Keys(k.ConfigMaps)), ", ")+", as they were: -o yaml shows them")
	}
	score, err := yaml.Marshal(map[string]any{"score": k.Score})
	if err != nil {
		return fmt.Errorf("write the score: %w", err)
	}
	title := s.Paint(screen.Bold, k.Namespace+"/"+k.Deployment)
	_, err = fmt.Fprintf(out, "%s\n\n%s\n\n%s", title, strings.Join(s.Grid("  ", rows), "\n"), score)
	return err
}
