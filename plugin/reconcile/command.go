package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/flux"
	"github.com/nationtech/fleet/plugin/screen"
)

// patience is how long an object is waited for by default, as by Flux's own command.
const patience = 5 * time.Minute

type options struct {
	env        *cli.Env
	withSource bool
	wait       bool
	timeout    time.Duration
}

// NewCommand is `kubectl fleet reconcile`.
func NewCommand(env *cli.Env) *cobra.Command {
	o := options{env: env, wait: true}
	cmd := &cobra.Command{
		Use:   "reconcile KIND NAME...",
		Short: "Have Flux or the operator reconcile something now",
		Long: `Have Flux fetch a GitRepository or apply a Kustomization now and not at its next interval,
or the operator look at a Deployment, and wait until that is done. --with-source has the
source of a Kustomization fetched first, as flux reconcile does.

Exit codes: 0 it is reconciled, 1 that has failed, 2 --timeout is over, 3 there is no
answer.`,
		Example: `  # After a push, without waiting for the interval
  kubectl fleet reconcile kustomization shops-field --with-source -n shops

  kubectl fleet reconcile deployment/telemetry`,
		RunE: func(cmd *cobra.Command, args []string) error { return o.reconcile(cmd.Context(), args) },
	}
	cmd.Flags().BoolVar(&o.withSource, "with-source", false, "Of a Kustomization, have its source fetched first.")
	o.addTo(cmd)
	return cmd
}

// NewSuspendCommand is `kubectl fleet suspend`.
func NewSuspendCommand(env *cli.Env) *cobra.Command {
	o := options{env: env}
	cmd := &cobra.Command{
		Use:   "suspend KIND NAME...",
		Short: "Have Flux or the operator leave something alone",
		Long: `Have Flux fetch or apply nothing any more, or the operator do nothing for a Deployment:
sets spec.suspend. Devices go on with what they were told. kubectl fleet resume ends it.`,
		Example: `  # Hold everything that Git says for the shops
  kubectl fleet suspend kustomization shops-field -n shops`,
		RunE: func(cmd *cobra.Command, args []string) error { return o.suspend(cmd.Context(), args, true) },
	}
	o.complete(cmd)
	return cmd
}

// NewResumeCommand is `kubectl fleet resume`.
func NewResumeCommand(env *cli.Env) *cobra.Command {
	o := options{env: env}
	cmd := &cobra.Command{
		Use:   "resume KIND NAME...",
		Short: "End what suspend began, and wait until it is reconciled",
		Long: `End what kubectl fleet suspend began: takes spec.suspend away, and waits until the object
is reconciled.

Exit codes: 0 it is reconciled, 1 that has failed, 2 --timeout is over, 3 there is no
answer.`,
		Example: `  kubectl fleet resume kustomization shops-field -n shops`,
		RunE:    func(cmd *cobra.Command, args []string) error { return o.suspend(cmd.Context(), args, false) },
	}
	cmd.Flags().BoolVar(&o.wait, "wait", true, "Wait until it is reconciled.")
	o.addTo(cmd)
	return cmd
}

func (o *options) addTo(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&o.timeout, "timeout", patience, "How long to wait for each at most.")
	o.complete(cmd)
}

// complete completes the kind, and then names of it.
func (o *options) complete(cmd *cobra.Command) {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return kindWords(), cobra.ShellCompDirectiveNoFileComp
		}
		k, err := kindOf(args[0])
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return o.env.CompleteNames(cmd, k.empty(), args[1:], toComplete)
	}
}

func (o *options) reconcile(ctx context.Context, args []string) error {
	cluster, all, err := o.targets(args)
	if err != nil {
		return err
	}
	if o.withSource {
		if all, err = withSources(ctx, cluster, all); err != nil {
			return err
		}
	}
	for _, t := range all {
		object, err := get(ctx, cluster, t)
		if err != nil {
			return err
		}
		if *t.suspend(object) {
			return &cli.ExitError{Code: cli.CodeBad, Err: fmt.Errorf("%s is suspended: kubectl fleet resume %s %s -n %s", t, t.aliases[0], t.key.Name, t.key.Namespace)}
		}
		o.say(screen.Bold, "%s is asked to reconcile %s", t.who, t)
		token, err := flux.Ask(ctx, cluster.Client, object, o.env.Now())
		if err != nil {
			return err
		}
		if err := o.await(ctx, cluster, t, token); err != nil {
			return err
		}
	}
	return nil
}

// withSources has the sources of Kustomizations before them, each once.
func withSources(ctx context.Context, cluster *cli.Cluster, all []target) ([]target, error) {
	source, err := kindOf(sourcev1.GitRepositoryKind)
	if err != nil {
		return nil, err
	}
	var out []target
	asked := map[client.ObjectKey]bool{}
	for _, t := range all {
		if t.name != kustomizev1.KustomizationKind {
			return nil, fmt.Errorf("--with-source is for Kustomizations: %s has no source", t)
		}
		object, err := get(ctx, cluster, t)
		if err != nil {
			return nil, err
		}
		ref := object.(*kustomizev1.Kustomization).Spec.SourceRef
		if ref.Kind != source.name {
			return nil, fmt.Errorf("%s is applied from a %s, which kubectl fleet does not reconcile: use flux", t, ref.Kind)
		}
		key := client.ObjectKey{Namespace: cmp.Or(ref.Namespace, t.key.Namespace), Name: ref.Name}
		if !asked[key] {
			asked[key] = true
			out = append(out, target{source, key})
		}
	}
	return append(out, all...), nil
}

func (o *options) suspend(ctx context.Context, args []string, suspend bool) error {
	cluster, all, err := o.targets(args)
	if err != nil {
		return err
	}
	for _, t := range all {
		object, err := get(ctx, cluster, t)
		if err != nil {
			return err
		}
		word := map[bool]string{true: "suspended", false: "resumed"}[suspend]
		if *t.suspend(object) == suspend {
			fmt.Fprintf(o.env.Streams.Out, "%s already %s\n", objectName(t), word)
		} else {
			written := object.DeepCopyObject().(client.Object)
			*t.suspend(object) = suspend
			if err := cluster.Client.Patch(ctx, object, client.MergeFrom(written), flux.FieldOwner); err != nil {
				return fmt.Errorf("change %s: %w", t, err)
			}
			fmt.Fprintf(o.env.Streams.Out, "%s %s\n", objectName(t), word)
			o.warn(ctx, cluster, t, written, suspend)
		}
		if o.wait && !suspend {
			if err := o.await(ctx, cluster, t, ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// warn says what Flux makes of the change, where it applies the object itself from Git.
func (o *options) warn(ctx context.Context, cluster *cli.Cluster, t target, before client.Object, suspend bool) {
	applier := flux.Of(before)
	if applier == nil {
		return
	}
	applier.Look(ctx, cluster)
	out := o.env.Streams.ErrOut
	applier.Tell(out, o.env.Style(out), before, flux.Change{
		Noun: t.name, Field: "spec.suspend", Path: flux.Path("spec", "suspend"), Gone: !suspend, InGit: []string{"spec:", fmt.Sprintf("  suspend: %t", suspend)},
	})
}

// objectName is an object's name as kubectl takes and prints it.
func objectName(t target) string { return t.aliases[len(t.aliases)-1] + "/" + t.key.Name }

func (o *options) await(ctx context.Context, cluster *cli.Cluster, t target, token string) error {
	object, err := await(ctx, cluster, t, token, o.timeout)
	if err != nil {
		return err
	}
	o.say(screen.Good, "%s: %s", t, t.ready(object).Message)
	return nil
}

func (o *options) targets(args []string) (*cli.Cluster, []target, error) {
	if o.timeout < 0 {
		return nil, nil, errors.New("--timeout must not be negative")
	}
	cluster, err := o.env.Connect()
	if err != nil {
		return nil, nil, err
	}
	all, err := targets(cluster.Namespace, args)
	return cluster, all, err
}

func get(ctx context.Context, cluster *cli.Cluster, t target) (client.Object, error) {
	object := t.empty()
	if err := cluster.Client.Get(ctx, t.key, object); err != nil {
		return nil, fmt.Errorf("get %s: %w", t, err)
	}
	return object, nil
}

func (o *options) say(tone screen.Tone, format string, args ...any) {
	out := o.env.Streams.ErrOut
	o.env.Style(out).Note(out, tone, fmt.Sprintf(format, args...))
}
