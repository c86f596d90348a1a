package delivery

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/rollout"
	"github.com/nationtech/fleet/plugin/screen"
)

// Log is what was rolled out, the last first.
type Log struct {
	// Namespace is empty for all.
	Namespace string  `json:"namespace,omitempty"`
	Entries   []Entry `json:"entries"`
	// Notes say what could not be told.
	Notes []string `json:"notes,omitempty"`
}

// Entry is one revision of a Deployment.
type Entry struct {
	Namespace        string        `json:"namespace"`
	Deployment       string        `json:"deployment"`
	Commit           gitops.Commit `json:"commit"`
	rollout.Revision `json:",inline"`
	// Seconds that it took from when it was wanted until every reachable device ran it;
	// null when that has not happened.
	Seconds *float64 `json:"seconds"`
	// RunsOn are the devices that say that they run it; null when nobody could be asked.
	RunsOn []string `json:"runsOn"`
}

type logOptions struct {
	env    *cli.Env
	repo   string
	all    bool
	limit  int
	output cli.Output
}

// NewLogCommand is `kubectl fleet log`.
func NewLogCommand(env *cli.Env) *cobra.Command {
	o := logOptions{env: env}
	cmd := &cobra.Command{
		Use:   "log [DEPLOYMENT...]",
		Short: "List commits: what each rolled out, where it runs, how long it took",
		Long: `List what commits rolled out, the last first: which Deployment, on how many devices it
runs now, how long it took until every reachable device ran it, who committed it and why.

It has the revisions that Deployments keep (spec.revisionHistoryLimit), each with the
commit that wanted it last; a commit that changed nothing on devices is not among them. Run it in a clone of the repository to see
authors and subjects: the cluster knows the hash alone. -o wide has revisions and what
they changed, -o json the names of the devices.`,
		Example: `  # What happened in the shops?
  kubectl fleet log -n shops

  # Everything of one Deployment
  kubectl fleet log telemetry -o wide`,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			return env.CompleteDeployments(cmd, nil, toComplete)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args) },
	}
	cmd.Flags().StringVar(&o.repo, "repo", ".", "Folder in a clone of the repository, for authors and subjects.")
	cmd.Flags().IntVar(&o.limit, "limit", 20, "How many to list at most; 0 is all.")
	cli.AddAllNamespacesFlag(cmd, &o.all)
	o.output.AddFlags(cmd, cli.Wide)
	return cmd
}

func (o *logOptions) run(ctx context.Context, args []string) error {
	printer, err := o.output.Printer()
	if err != nil {
		return err
	}
	if o.limit < 0 {
		return fmt.Errorf("--limit %d must not be negative", o.limit)
	}
	cluster, err := o.env.Connect()
	if err != nil {
		return err
	}
	scope := cluster.Scope(o.all)
	g := origins{cluster: cluster}
	if g.clone, err = openClone(o.repo); err != nil {
		g.note("This is no clone of the repository, so that authors and subjects are not known.")
	}
	entries, err := g.entries(ctx, scope, args)
	if err != nil {
		return err
	}
	if o.limit > 0 && len(entries) > o.limit {
		g.note(fmt.Sprintf("%s more: --limit 0 lists all.", screen.Count(len(entries)-o.limit)))
		entries = entries[:o.limit]
	}
	if err := g.placed(ctx, entries); err != nil {
		g.note(fmt.Sprintf("Where they run is not known: %v", err))
	}
	l := Log{Namespace: scope.Namespace, Entries: entries, Notes: g.notes}
	out := o.env.Streams.Out
	if printer != nil {
		return cli.PrintStruct(printer, "Log", &l, out)
	}
	if len(l.Entries) == 0 {
		fmt.Fprintf(o.env.Streams.ErrOut, "Nothing was rolled out in %s.\n", scope)
	} else if err := printers.NewTablePrinter(printers.PrintOptions{Wide: o.output.Is(cli.Wide)}).PrintObj(logTable(l, o.all, o.env.Now()), out); err != nil {
		return err
	}
	for _, note := range l.Notes {
		o.env.Style(o.env.Streams.ErrOut).Note(o.env.Streams.ErrOut, screen.Dim, note)
	}
	return nil
}

// entries are the revisions that Deployments have kept, the last first.
func (g *origins) entries(ctx context.Context, scope cli.Scope, names []string) ([]Entry, error) {
	deployments, err := g.deployments(ctx, scope, names)
	if err != nil {
		return nil, err
	}
	out := []Entry{}
	for _, d := range deployments {
		revisions, err := rollout.Revisions(ctx, g.cluster.Client, d)
		if err != nil {
			return nil, err
		}
		for _, r := range revisions {
			e := Entry{Namespace: d.Namespace, Deployment: d.Name, Revision: r, Commit: gitops.Commit{Hash: r.Commit}}
			if r.Commit != "" {
				e.Commit = g.clone.describe(r.Commit)
			}
			if r.CompletedAt != nil {
				e.Seconds = new(r.CompletedAt.Sub(r.Since.Time).Seconds())
			}
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b Entry) int {
		return cmp.Or(b.Since.Compare(a.Since.Time), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Deployment, b.Deployment))
	})
	return out, nil
}

// deployments are those of the names, or all.
func (g *origins) deployments(ctx context.Context, scope cli.Scope, names []string) ([]*v1alpha1.Deployment, error) {
	var out []*v1alpha1.Deployment
	for _, arg := range names {
		name, err := rollout.ParseName(arg)
		if err != nil {
			return nil, err
		}
		if scope.All() {
			return nil, fmt.Errorf("a name and --all-namespaces can't be used together: say which namespace with -n")
		}
		d := &v1alpha1.Deployment{}
		if err := g.cluster.Client.Get(ctx, client.ObjectKey{Namespace: scope.Namespace, Name: name}, d); err != nil {
			return nil, fmt.Errorf("get deployment %s/%s: %w", scope.Namespace, name, err)
		}
		out = append(out, d)
	}
	if len(names) > 0 {
		return out, nil
	}
	objects, _, err := cli.ListAll(ctx, g.cluster.Client, &v1alpha1.DeploymentList{}, client.ListOptions{Namespace: scope.Namespace})
	if err != nil {
		return nil, fmt.Errorf("list deployments in %s: %w", scope, err)
	}
	for _, o := range objects {
		out = append(out, o.(*v1alpha1.Deployment))
	}
	return out, nil
}

// placed asks, of each Deployment among the entries, which device says that it runs which
// revision.
func (g *origins) placed(ctx context.Context, entries []Entry) error {
	runs := map[client.ObjectKey]map[string][]string{}
	for i := range entries {
		key := client.ObjectKey{Namespace: entries[i].Namespace, Name: entries[i].Deployment}
		if runs[key] == nil {
			runs[key] = map[string][]string{}
			objects, _, err := cli.ListAll(ctx, g.cluster.Client, &live.PlacementList{}, client.ListOptions{
				Namespace: key.Namespace, FieldSelector: fields.OneTermEqualSelector("spec.deployment", key.Name),
			})
			if err != nil {
				return fmt.Errorf("list placements of deployment %s: %w", key, err)
			}
			for _, o := range objects {
				if p := o.(*live.Placement); p.Status.Phase == "Running" {
					runs[key][p.Status.Revision] = append(runs[key][p.Status.Revision], p.Spec.Device)
				}
			}
		}
		entries[i].RunsOn = append([]string{}, runs[key][entries[i].Name]...)
		slices.Sort(entries[i].RunsOn)
	}
	return nil
}

func logTable(l Log, namespaces bool, now time.Time) *metav1.Table {
	table := &metav1.Table{ColumnDefinitions: []metav1.TableColumnDefinition{
		{Name: "Commit", Type: "string"}, {Name: "Age", Type: "string"}, {Name: "Deployment", Type: "string", Format: "name"}, {Name: "Runs-On", Type: "string"},
		{Name: "Took", Type: "string"}, {Name: "State", Type: "string"}, {Name: "Author", Type: "string"}, {Name: "Subject", Type: "string"},
		{Name: "Revision", Type: "string", Priority: 1}, {Name: "Change", Type: "string", Priority: 1},
	}}
	if namespaces {
		table.ColumnDefinitions = slices.Insert(table.ColumnDefinitions, 2, metav1.TableColumnDefinition{Name: "Namespace", Type: "string"})
	}
	for _, e := range l.Entries {
		took, runsOn := screen.None, screen.None
		if e.Seconds != nil {
			took = screen.Age(e.CompletedAt.Time, e.Since.Time)
		}
		if e.RunsOn != nil {
			runsOn = screen.Count(len(e.RunsOn))
		}
		cells := []any{
			screen.OrNone(rollout.ShortCommit(e.Commit.Hash)), screen.Age(now, e.Since.Time), e.Deployment, runsOn, took, screen.OrNone(e.State()),
			screen.OrNone(e.Commit.Author), screen.OrNone(e.Commit.Subject), e.Name, screen.OrNone(strings.Join(e.Changes, "; ")),
		}
		if namespaces {
			cells = slices.Insert(cells, 2, any(e.Namespace))
		}
		table.Rows = append(table.Rows, metav1.TableRow{Cells: cells})
	}
	return table
}
