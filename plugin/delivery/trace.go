package delivery

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/flux"
	"github.com/nationtech/fleet/plugin/rollout"
)

// Trace is where what runs came from.
type Trace struct {
	Kind      string   `json:"kind"`
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Origins   []Origin `json:"origins"`
	// Notes say what could not be told.
	Notes []string `json:"notes,omitempty"`
}

// Origin is where one revision of a Deployment came from, and when it passed each hop.
type Origin struct {
	Deployment string `json:"deployment"`
	// Revision with its number; empty when nothing is known of it.
	Revision string `json:"revision,omitempty"`
	Number   int64  `json:"number,omitempty"`
	// Is says what it is: the current revision or the update; of a device the phase that
	// it reports.
	Is     string        `json:"is,omitempty"`
	Commit gitops.Commit `json:"commit"`
	// Kustomization that applies the Deployment, as NAMESPACE/NAME, and the overlay's path.
	Kustomization string `json:"kustomization,omitempty"`
	Path          string `json:"path,omitempty"`
	// Source that it is applied from, as NAMESPACE/NAME, and what that follows.
	Source string `json:"source,omitempty"`
	URL    string `json:"url,omitempty"`
	Ref    string `json:"ref,omitempty"`
	Steps  []Step `json:"steps"`
}

// Step is one hop and when it happened.
type Step struct {
	What string      `json:"what"`
	Time metav1.Time `json:"time"`
}

type traceOptions struct {
	env    *cli.Env
	repo   string
	output cli.Output
}

// NewTraceCommand is `kubectl fleet trace`.
func NewTraceCommand(env *cli.Env) *cobra.Command {
	o := traceOptions{env: env}
	cmd := &cobra.Command{
		Use:   "trace (DEVICE | DEPLOYMENT)",
		Short: "Go back from a device or a Deployment to the commit that it runs",
		Long: `Go back from a device or a Deployment to the commit: which revision runs, the commit that
it came from and its author, the overlay and the Kustomization and GitRepository of Flux
that brought it, and when it passed each of them.

The argument is a name, or device/NAME or deployment/NAME where both exist. Run it in a
clone of the repository to see authors and subjects: the cluster knows the hash alone.
Flux remembers when it fetched and applied a commit until the next one comes.`,
		Example: `  # Who changed what runs on this device?
  kubectl fleet trace till-7 -n shops

  kubectl fleet trace deployment/telemetry -o json`,
		Args: cli.ExactName("device or deployment"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			deployments, directive := env.CompleteDeployments(cmd, nil, toComplete)
			devices, _ := env.CompleteDevices(cmd, nil, toComplete)
			return append(deployments, devices...), directive
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args[0]) },
	}
	cmd.Flags().StringVar(&o.repo, "repo", ".", "Folder in a clone of the repository, for authors and subjects.")
	o.output.AddFlags(cmd)
	return cmd
}

func (o *traceOptions) run(ctx context.Context, arg string) error {
	printer, err := o.output.Printer()
	if err != nil {
		return err
	}
	cluster, err := o.env.Connect()
	if err != nil {
		return err
	}
	g := origins{cluster: cluster}
	if g.clone, err = openClone(o.repo); err != nil {
		g.note("This is no clone of the repository, so that authors and subjects are not known.")
	}
	t, err := g.trace(ctx, arg)
	if err != nil {
		return err
	}
	if printer != nil {
		return cli.PrintStruct(printer, "Trace", t, o.env.Streams.Out)
	}
	return renderTrace(o.env.Streams.Out, o.env.Style(o.env.Streams.Out), *t, o.env.Now())
}

// origins finds out where revisions came from.
type origins struct {
	cluster *cli.Cluster
	// clone is nil outside one.
	clone *clone
	notes []string
}

func (g *origins) note(text string) {
	if !slices.Contains(g.notes, text) {
		g.notes = append(g.notes, text)
	}
}

func (g *origins) trace(ctx context.Context, arg string) (*Trace, error) {
	kind, name, given := strings.Cut(arg, "/")
	switch {
	case !given:
		kind, name = "", arg
	case slices.Contains([]string{"device", "devices", "dev", "device." + v1alpha1.GroupVersion.Group}, strings.ToLower(kind)):
		kind = v1alpha1.DeviceKind
	default:
		var err error
		if name, err = rollout.ParseName(arg); err != nil {
			return nil, fmt.Errorf("%q is neither a Device nor a Deployment: give its NAME, device/NAME or deployment/NAME", arg)
		}
		kind = v1alpha1.DeploymentKind
	}
	key := client.ObjectKey{Namespace: g.cluster.Namespace, Name: name}
	device, deployment := &v1alpha1.Device{}, &v1alpha1.Deployment{}
	deviceErr, deploymentErr := error(nil), error(nil)
	if kind != v1alpha1.DeploymentKind {
		deviceErr = g.cluster.Client.Get(ctx, key, device)
	}
	if kind != v1alpha1.DeviceKind {
		deploymentErr = g.cluster.Client.Get(ctx, key, deployment)
	}
	t := &Trace{Kind: kind, Namespace: key.Namespace, Name: name}
	switch {
	case kind == "" && deviceErr == nil && deploymentErr == nil:
		return nil, fmt.Errorf("%s is a Device and a Deployment: say device/%s or deployment/%s", key, name, name)
	case kind == "" && apierrors.IsNotFound(deviceErr) && apierrors.IsNotFound(deploymentErr) && !cli.NotInstalled(deviceErr):
		return nil, fmt.Errorf("there is neither a Device nor a Deployment %s", key)
	case kind != v1alpha1.DeploymentKind && deviceErr == nil:
		t.Kind = v1alpha1.DeviceKind
	case kind != v1alpha1.DeviceKind && deploymentErr == nil:
		t.Kind = v1alpha1.DeploymentKind
	case kind == v1alpha1.DeploymentKind || !apierrors.IsNotFound(deploymentErr) && deploymentErr != nil:
		return nil, fmt.Errorf("get deployment %s: %w", key, deploymentErr)
	default:
		return nil, fmt.Errorf("get device %s: %w", key, deviceErr)
	}
	var err error
	if t.Kind == v1alpha1.DeviceKind {
		t.Origins, err = g.ofDevice(ctx, key)
	} else {
		t.Origins, err = g.ofDeployment(ctx, deployment)
	}
	t.Notes = g.notes
	return t, err
}

// ofDeployment has the update revision, and the current one where that is another.
func (g *origins) ofDeployment(ctx context.Context, d *v1alpha1.Deployment) ([]Origin, error) {
	revisions, err := rollout.Revisions(ctx, g.cluster.Client, d)
	if err != nil {
		return nil, err
	}
	out := []Origin{}
	for _, r := range slices.Backward(revisions) {
		if r.Update || r.Current {
			o := g.of(ctx, d, &r, r.Name)
			o.Is = r.State()
			out = append(out, o)
		}
	}
	return out, nil
}

// ofDevice has what the device says that it runs, and of what it says nothing what it was
// told.
func (g *origins) ofDevice(ctx context.Context, key client.ObjectKey) ([]Origin, error) {
	objects, _, err := cli.ListAll(ctx, g.cluster.Client, &live.PlacementList{}, client.ListOptions{
		Namespace: key.Namespace, FieldSelector: fields.OneTermEqualSelector("spec.device", key.Name),
	})
	if err != nil {
		return nil, fmt.Errorf("list placements of device %s: %w", key, err)
	}
	out := []Origin{}
	for _, object := range objects {
		p := object.(*live.Placement)
		name := cmp.Or(p.Status.Revision, p.Spec.Revision)
		d := &v1alpha1.Deployment{}
		err := g.cluster.Client.Get(ctx, client.ObjectKey{Namespace: key.Namespace, Name: p.Spec.Deployment}, d)
		if apierrors.IsNotFound(err) {
			g.note(fmt.Sprintf("Deployment %s is gone, and with it what was known of its revisions.", p.Spec.Deployment))
			out = append(out, Origin{Deployment: p.Spec.Deployment, Revision: name, Is: p.Status.Phase, Steps: told(p, name)})
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("get deployment %s/%s: %w", key.Namespace, p.Spec.Deployment, err)
		}
		revisions, err := rollout.Revisions(ctx, g.cluster.Client, d)
		if err != nil {
			return nil, err
		}
		var kept *rollout.Revision
		if i := slices.IndexFunc(revisions, func(r rollout.Revision) bool { return r.Name == name }); i >= 0 {
			kept = &revisions[i]
		}
		o := g.of(ctx, d, kept, name)
		o.Is = p.Status.Phase
		o.Steps = inOrder(append(slices.DeleteFunc(o.Steps, func(s Step) bool { return s.What == stepCompleted }), told(p, name)...))
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b Origin) int { return strings.Compare(a.Deployment, b.Deployment) })
	return out, nil
}

// stepCompleted is of all devices, and not of one.
const stepCompleted = "ran on every reachable device"

// told is when a device was told a revision, and since when it is as it says.
func told(p *live.Placement, revision string) []Step {
	var out []Step
	if p.Spec.ToldTime != nil && p.Spec.Revision == revision {
		out = append(out, Step{"told the device", metav1.NewTime(p.Spec.ToldTime.Time)})
	}
	if p.Status.SinceTime != nil {
		out = append(out, Step{p.Status.Phase + " on the device", metav1.NewTime(p.Status.SinceTime.Time)})
	}
	return out
}

// of goes back from a revision; of one that is not kept the name is all there is.
func (g *origins) of(ctx context.Context, d *v1alpha1.Deployment, r *rollout.Revision, name string) Origin {
	o := Origin{Deployment: d.Name, Revision: name, Steps: []Step{}}
	if r != nil {
		o.Number, o.Commit.Hash = r.Revision, r.Commit
		o.step("rolled out", &r.Since)
		o.step(stepCompleted, r.CompletedAt)
		o.step("rolled back", r.RolledBackAt)
	} else {
		g.note(fmt.Sprintf("Revision %s is not kept any more, so that its commit is not known (spec.revisionHistoryLimit of Deployment %s).", name, d.Name))
	}
	if o.Commit.Hash != "" {
		o.Commit = g.clone.describe(o.Commit.Hash)
		if o.Commit.Time.IsZero() && g.clone != nil {
			g.note(fmt.Sprintf("This clone does not know commit %s: git fetch, or another repository.", rollout.ShortCommit(o.Commit.Hash)))
		}
		o.step("committed", &metav1.Time{Time: o.Commit.Time})
	}
	g.flux(ctx, d, &o)
	o.Steps = inOrder(o.Steps)
	return o
}

// flux adds who brought it. What can't be read is noted and left out.
func (g *origins) flux(ctx context.Context, d *v1alpha1.Deployment, o *Origin) {
	key := flux.AppliedBy(d)
	if key.Name == "" {
		g.note(fmt.Sprintf("Deployment %s was not applied by Flux.", d.Name))
		return
	}
	o.Kustomization = key.String()
	k := &kustomizev1.Kustomization{}
	if err := g.cluster.Client.Get(ctx, key, k); err != nil {
		g.note(fmt.Sprintf("Kustomization %s can't be read: %v", key, err))
		return
	}
	o.Path = k.Spec.Path
	if o.Commit.Hash != "" && flux.CommitOf(sourcev1.GitRepositoryKind, k.Status.LastAppliedRevision, "") == o.Commit.Hash {
		for _, h := range k.Status.History {
			// What was applied once before has the time of then.
			if h.Metadata["revision"] == k.Status.LastAppliedRevision && h.FirstReconciled.After(o.Commit.Time) {
				o.step("applied by Flux", &h.FirstReconciled)
			}
		}
	}
	at := sourceOf(k)
	if at.Name == "" {
		o.Source = strings.Join([]string{k.Spec.SourceRef.Kind, cmp.Or(k.Spec.SourceRef.Namespace, k.Namespace), k.Spec.SourceRef.Name}, "/")
		return
	}
	o.Source = at.String()
	s := &sourcev1.GitRepository{}
	if err := g.cluster.Client.Get(ctx, at, s); err != nil {
		g.note(fmt.Sprintf("GitRepository %s can't be read: %v", at, err))
		return
	}
	o.URL, o.Ref = s.Spec.URL, flux.RefOf(s)
	if a := s.Status.Artifact; a != nil && o.Commit.Hash != "" && flux.CommitOf(sourcev1.GitRepositoryKind, a.Revision, "") == o.Commit.Hash {
		o.step("fetched by Flux", &a.LastUpdateTime)
	}
}

func (o *Origin) step(what string, at *metav1.Time) {
	if at != nil && !at.IsZero() {
		o.Steps = append(o.Steps, Step{what, *at})
	}
}

// inOrder sorts steps by their time; those of one second stay as they are.
func inOrder(steps []Step) []Step {
	slices.SortStableFunc(steps, func(a, b Step) int { return a.Time.Compare(b.Time.Time) })
	return steps
}
