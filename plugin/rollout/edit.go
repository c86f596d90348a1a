package rollout

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/kubernetes/scheme"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/flux"
	"github.com/nationtech/fleet/plugin/screen"
)

// lentOwner is whose the fields become that are lent from Git: Flux takes away what is of
// such an owner and not in Git, or else of a score that Flux puts back the fields would
// stay that Git's does not have. Everything else is to stay, see flux.FieldOwner.
const lentOwner client.FieldOwner = "kubectl-fleet"

// attempts is how often a write is tried that somebody was faster than.
const attempts = 5

// editor are the flags of a command that changes a Deployment, as kubectl has them.
type editor struct {
	env   *cli.Env
	print *genericclioptions.PrintFlags
	// dryRun is none, client or server.
	dryRun cmdutil.DryRunStrategy
}

func (e *editor) addTo(cmd *cobra.Command, env *cli.Env) {
	e.env, e.print = env, genericclioptions.NewPrintFlags("").WithTypeSetter(scheme.Scheme)
	cmd.Args = cli.ExactName("deployment")
	cmd.ValidArgsFunction = env.CompleteDeployments
	e.print.AddFlags(cmd)
	cmdutil.AddDryRunFlag(cmd)
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(e.print.AllowedFormats(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("dry-run", cobra.FixedCompletions([]string{"none", "client", "server"}, cobra.ShellCompDirectiveNoFileComp))
}

// edit is what a command makes of a Deployment.
type edit struct {
	// did is what was done, in kubectl's way: paused.
	did string
	// notes say what somebody should know beside.
	notes []string
	flux.Change
	// whole tells that all of the field goes back when Flux puts it back, with what Git
	// does not have of it.
	whole bool
}

// decision looks at a Deployment and changes the other form of it.
type decision func(d *v1alpha1.Deployment, object *unstructured.Unstructured) (edit, error)

// target is the Deployment that a command is about.
type target struct {
	*cli.Cluster
	key client.ObjectKey
}

func (e *editor) target(cmd *cobra.Command, arg string) (target, error) {
	var err error
	if e.dryRun, err = cmdutil.GetDryRunStrategy(cmd); err != nil {
		return target{}, err
	}
	return connect(e.env, arg)
}

func connect(env *cli.Env, arg string) (target, error) {
	name, err := ParseName(arg)
	if err != nil {
		return target{}, err
	}
	cluster, err := env.Connect()
	if err != nil {
		return target{}, err
	}
	return target{cluster, client.ObjectKey{Namespace: cluster.Namespace, Name: name}}, nil
}

// read returns the Deployment as it is, and as our type. What a newer version of it
// has in addition is in the first alone.
func (t target) read(ctx context.Context) (*unstructured.Unstructured, *v1alpha1.Deployment, error) {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.DeploymentKind))
	if err := t.Client.Get(ctx, t.key, object); err != nil {
		return nil, nil, fmt.Errorf("get deployment %s: %w", t.key, err)
	}
	d := &v1alpha1.Deployment{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, d); err != nil {
		return nil, nil, fmt.Errorf("read deployment %s: %w", t.key, err)
	}
	return object, d, nil
}

// run changes a Deployment as it was decided, and says so. A write that the status
// was faster than is decided anew; one that another spec or revision was faster than
// is not what anybody asked for.
func (e *editor) run(ctx context.Context, t target, decide decision) error {
	var first *v1alpha1.Deployment
	for attempt := 1; ; attempt++ {
		before, d, err := t.read(ctx)
		if err != nil {
			return err
		}
		if first == nil {
			first = d
		}
		if d.Generation != first.Generation || d.Status.UpdateRevision != first.Status.UpdateRevision {
			return fmt.Errorf("deployment %s was changed at the same time: look at it again, and repeat the command", t.key)
		}
		after := before.DeepCopy()
		made, err := decide(d, after)
		if err != nil {
			return err
		}
		err = e.write(ctx, t, before, after, ownerOf(d, made))
		if apierrors.IsConflict(err) && attempt < attempts {
			continue
		}
		if err != nil {
			return fmt.Errorf("change deployment %s: %w", t.key, err)
		}
		e.say(ctx, t, d, made)
		return e.show(after, made.did)
	}
}

func (e *editor) write(ctx context.Context, t target, before, after *unstructured.Unstructured, owner client.FieldOwner) error {
	if e.dryRun == cmdutil.DryRunClient || apiequality.Semantic.DeepEqual(before, after) {
		return nil
	}
	options := []client.PatchOption{owner, client.FieldValidation(metav1.FieldValidationStrict)}
	if e.dryRun == cmdutil.DryRunServer {
		options = append(options, client.DryRunAll)
	}
	return t.Client.Patch(ctx, after, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}), options...)
}

// ownerOf is whose the fields become.
func ownerOf(d *v1alpha1.Deployment, made edit) client.FieldOwner {
	if a := flux.Of(d); a != nil && made.whole {
		if undone, _ := a.Opinion(d, made.Change); undone {
			return lentOwner
		}
	}
	return flux.FieldOwner
}

// show prints the Deployment as kubectl does.
func (e *editor) show(object *unstructured.Unstructured, did string) error {
	e.print.NamePrintFlags.Operation = did
	printer, err := cmdutil.PrintFlagsWithDryRunStrategy(e.print, e.dryRun).ToPrinter()
	if err != nil {
		return err
	}
	return printer.PrintObj(object, e.env.Streams.Out)
}

// say tells what somebody should know, on stderr: what is on stdout may be for a
// program.
func (e *editor) say(ctx context.Context, t target, d *v1alpha1.Deployment, made edit) {
	out := e.env.Streams.ErrOut
	style := e.env.Style(out)
	for _, note := range made.notes {
		style.Note(out, screen.Warn, note)
	}
	made.Noun = v1alpha1.DeploymentKind
	if a := flux.Of(d); a != nil {
		a.Look(ctx, t.Cluster)
		a.Tell(out, style, d, made.Change)
	}
}

// held says that nobody hears of a change yet.
func held(d *v1alpha1.Deployment) []string {
	r := Rollout{Namespace: d.Namespace, Name: d.Name}
	switch {
	case d.Spec.Suspend:
		return []string{"spec.suspend is true: no device hears of it until it is false."}
	case d.Spec.Paused:
		return []string{"spec.paused is true: no device hears of it until " + r.command("resume")}
	}
	return nil
}

// answered is an error while the operator has not seen the spec yet: what the status
// calls the update revision is of another.
func answered(d *v1alpha1.Deployment) error {
	if d.Status.ObservedGeneration < d.Generation {
		return fmt.Errorf("the operator has not answered generation %d of deployment %s/%s yet: try again in a moment, or see whether it runs with kubectl fleet version", d.Generation, d.Namespace, d.Name)
	}
	return nil
}
