package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/flux"
	"github.com/nationtech/fleet/plugin/rollout"
	"github.com/nationtech/fleet/plugin/screen"
)

type waitOptions struct {
	env            *cli.Env
	repo, commit   string
	kustomizations []string
	timeout        time.Duration
	reconcile      bool
	output         cli.Output
}

// NewWaitCommand is `kubectl fleet wait`.
func NewWaitCommand(env *cli.Env) *cobra.Command {
	o := waitOptions{env: env}
	cmd := &cobra.Command{
		Use:   "wait [--commit REVISION]",
		Short: "Follow a commit until every reachable device runs it",
		Long: `Follow a commit from Git to the devices: until Flux has fetched it and applied it, the
operator has rolled it out, and every reachable device runs it. A line on stderr says
what each on the way does.

It follows the GitRepositories of Flux that fetch the repository that it runs in, and
all that is applied from them; a later commit that contains the one that is waited for
counts as well. Flux is asked to fetch at once, where you may do that.

It ends as soon as something on the way fails, with the reason: the commit was not
pushed, Flux can't fetch or apply it, or so many devices fail that the rollout halts. An
offline device holds nothing: it gets the commit when it returns. To soak and to wait for
an approval is to be on the way.

Exit codes: 0 every reachable device runs it, 1 something has failed, 2 --timeout is over,
3 there is no answer.`,
		Example: `  # A pipeline
  git push && kubectl fleet wait

  # Another commit, one overlay of it, at most ten minutes
  kubectl fleet wait --commit v1.2 --kustomization shops-field --timeout 10m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.StringVar(&o.commit, "commit", "HEAD", "Git revision to wait for: a branch, a tag, a commit. Outside a clone a whole hash.")
	f.StringVar(&o.repo, "repo", ".", "Folder in the clone of the repository.")
	f.StringSliceVar(&o.kustomizations, "kustomization", nil, "Only what these Kustomizations of Flux apply, as [NAMESPACE/]NAME. May be several, separated by commas.")
	f.DurationVar(&o.timeout, "timeout", 0, "How long to wait at most, such as 90s or 10m. 0 is for ever.")
	f.BoolVar(&o.reconcile, "reconcile", true, "Ask Flux to fetch at once, instead of at its next interval.")
	o.output.AddFlags(cmd)
	return cmd
}

func (o *waitOptions) run(ctx context.Context) error {
	printer, err := o.output.Printer()
	if err != nil {
		return err
	}
	if o.timeout < 0 {
		return errors.New("--timeout must not be negative")
	}
	commit, clone, err := resolve(o.repo, o.commit)
	if err != nil {
		return err
	}
	cluster, err := o.env.Connect()
	if err != nil {
		return err
	}
	namespace := cluster.Namespace
	if *o.env.Config.Namespace == "" {
		if namespace, err = readable(ctx, cluster); err != nil {
			return err
		}
	}
	w := waiting{waitOptions: o, cluster: cluster, commit: commit, clone: clone, told: map[string]string{}, after: map[string]float64{}, asked: map[client.ObjectKey]string{}, began: o.env.Now()}
	d, err := w.follow(ctx, namespace)
	if d != nil && printer != nil {
		if err := cli.PrintStruct(printer, "Delivery", d, o.env.Streams.Out); err != nil {
			return err
		}
	}
	return err
}

// waiting is one commit that is waited for.
type waiting struct {
	*waitOptions
	cluster *cli.Cluster
	commit  gitops.Commit
	clone   *clone
	began   time.Time
	// asked is what each source was asked by, told what was last said of each hop.
	asked map[client.ObjectKey]string
	told  map[string]string
	// after is how long each hop was waited for, in seconds.
	after map[string]float64
}

// follow waits for the end. The Delivery is nil when nothing was learned.
func (w *waiting) follow(parent context.Context, namespace string) (*Delivery, error) {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	over := make(<-chan time.Time)
	if w.timeout > 0 {
		timer := time.NewTimer(w.timeout)
		defer timer.Stop()
		over = timer.C
	}
	watched := newWatched(w.cluster, namespace, w.connection)
	failed := make(chan error, 1)
	go func() { failed <- watched.run(ctx) }()
	var d *Delivery
	for {
		select {
		case <-watched.changed:
		case err := <-failed:
			if parent.Err() != nil {
				return d, parent.Err()
			}
			return d, err
		case <-over:
			return d, &cli.ExitError{Code: cli.CodeUnfinished, Err: fmt.Errorf("commit %s has not arrived within %s%s", rollout.ShortCommit(w.commit.Hash), w.timeout, held(d))}
		}
		next, err := w.look(ctx, watched)
		if err != nil {
			return d, err
		}
		d = next
		switch d.State {
		case Done:
			w.say(screen.Good, fmt.Sprintf("%s runs on every reachable device of %s%s", rollout.ShortCommit(w.commit.Hash), rollouts(d), w.elapsed()))
			return d, nil
		case Failed:
			return d, &cli.ExitError{Code: cli.CodeBad, Err: failure(d)}
		}
	}
}

// look judges what is seen now, and tells what is new of it.
func (w *waiting) look(ctx context.Context, watched *watched) (*Delivery, error) {
	o := watched.observe(w.clone.fetches, w.chosen)
	if len(o.sources) == 0 {
		return nil, w.nothing(watched)
	}
	if w.reconcile && len(w.told) == 0 {
		if err := w.ask(ctx, o); err != nil {
			return nil, err
		}
	}
	d := w.judge(o)
	if d.State == Done {
		if err := watched.refresh(ctx); err != nil {
			return nil, err
		}
		d = w.judge(watched.observe(w.clone.fetches, w.chosen))
	}
	for i := range d.Hops {
		w.tell(&d.Hops[i])
	}
	w.tellBehind()
	return d, nil
}

func (w *waiting) judge(o observed) *Delivery {
	j := judgement{
		carries:   func(commit string) bool { return w.clone.carries(w.commit.Hash, commit) },
		published: func(s *sourcev1.GitRepository) error { return w.clone.published(s, w.commit.Hash) },
		asked:     w.asked,
	}
	d := &Delivery{Commit: w.commit, Hops: j.judge(o), Began: metav1.NewTime(w.began), Seconds: w.env.Now().Sub(w.began).Seconds()}
	d.conclude()
	return d
}

// chosen reports whether a Kustomization is one of --kustomization.
func (w *waiting) chosen(k *kustomizev1.Kustomization) bool {
	return len(w.kustomizations) == 0 || slices.Contains(w.kustomizations, k.Name) || slices.Contains(w.kustomizations, k.Namespace+"/"+k.Name)
}

// nothing says that nobody would bring the commit anywhere.
func (w *waiting) nothing(watched *watched) error {
	where := cli.Scope{Namespace: watched.namespace}
	if len(w.kustomizations) > 0 {
		return fmt.Errorf("in %s there is no Kustomization %s that applies this repository", where, strings.Join(w.kustomizations, ", "))
	}
	if w.clone == nil {
		return fmt.Errorf("in %s no Kustomization of Flux applies anything from a GitRepository", where)
	}
	var known []string
	for _, s := range watched.observe(func(*sourcev1.GitRepository) bool { return true }, w.chosen).sources {
		known = append(known, fmt.Sprintf("%s/%s %s", s.Namespace, s.Name, s.Spec.URL))
	}
	if len(known) == 0 {
		known = []string{"none"}
	}
	return fmt.Errorf("in %s no Kustomization of Flux applies this repository (%s); GitRepositories that are applied: %s", where, w.clone.urls(), strings.Join(known, ", "))
}

// ask has Flux fetch what it has not yet. Who may not ask waits for the interval.
func (w *waiting) ask(ctx context.Context, o observed) error {
	hops := w.judge(observed{sources: o.sources}).Hops
	for i := range o.sources {
		s := &o.sources[i]
		if hops[i].State == Done || s.Spec.Suspend {
			continue
		}
		token, err := flux.Ask(ctx, w.cluster.Client, s, w.env.Now())
		if apierrors.IsForbidden(err) {
			w.say(screen.Dim, fmt.Sprintf("You may not ask Flux to fetch %s/%s: it does within %s.", s.Namespace, s.Name, screen.Duration(s.Spec.Interval.Duration)))
			continue
		}
		if err != nil {
			return err
		}
		w.asked[client.ObjectKeyFromObject(s)] = token
	}
	return nil
}

// tell says what is new of a hop.
func (w *waiting) tell(h *Hop) {
	key := string(h.State) + h.Reason
	before, known := w.told[h.Object()]
	if before == key {
		h.After = w.after[h.Object()]
		return
	}
	if h.State != Waiting && known {
		h.After = w.env.Now().Sub(w.began).Seconds()
		w.after[h.Object()] = h.After
	}
	w.told[h.Object()] = key
	tone, after := screen.Busy, ""
	switch h.State {
	case Done:
		tone, after = screen.Good, w.elapsed()
	case Failed:
		tone, after = screen.Bad, w.elapsed()
	}
	w.say(tone, h.Object()+": "+h.Message+after)
}

// tellBehind says that the clone does not know what the cluster has, once for each commit.
func (w *waiting) tellBehind() {
	if w.clone == nil {
		return
	}
	for commit := range w.clone.behind {
		if key := "behind " + commit; w.told[key] == "" {
			w.told[key] = "told"
			w.say(screen.Dim, fmt.Sprintf("The cluster has commit %s, which this clone does not know: if it is a later one, git fetch tells.", rollout.ShortCommit(commit)))
		}
	}
}

func (w *waiting) connection(err error) {
	if err != nil {
		w.say(screen.Warn, "connection lost, trying again: "+err.Error())
	}
}

func (w *waiting) say(tone screen.Tone, text string) {
	out := w.env.Streams.ErrOut
	w.env.Style(out).Note(out, tone, text)
}

func (w *waiting) elapsed() string {
	return fmt.Sprintf(" (%.1fs)", w.env.Now().Sub(w.began).Seconds())
}

// held is what a commit that has not arrived waits for.
func held(d *Delivery) string {
	if d == nil {
		return ": the cluster has not answered"
	}
	var out []string
	for _, h := range d.Hops {
		if h.State == Waiting {
			out = append(out, h.Object()+": "+strings.TrimSuffix(h.Message, "."))
		}
	}
	return "; it waits for " + strings.Join(out, "; ")
}

// rollouts counts the Deployments that a commit has passed.
func rollouts(d *Delivery) string {
	n := 0
	for _, h := range d.Hops {
		if h.Kind == v1alpha1.DeploymentKind {
			n++
		}
	}
	return screen.Plural(n, "Deployment")
}

// failure says what has failed, on which devices, and what to do about it.
func failure(d *Delivery) error {
	var lines []string
	for _, h := range d.Hops {
		if h.State != Failed {
			continue
		}
		lines = append(lines, fmt.Sprintf("%s: %s: %s", h.Object(), h.Reason, screen.Safe(h.Message)))
		for _, f := range h.Failures {
			lines = append(lines, strings.TrimSuffix(fmt.Sprintf("  device %s: %s: %s", f.Device, f.Reason, screen.Safe(f.Message)), ": "))
		}
		for _, n := range h.Next {
			lines = append(lines, "  > "+n)
		}
	}
	return fmt.Errorf("commit %s does not arrive:\n%s", rollout.ShortCommit(d.Commit.Hash), strings.Join(lines, "\n"))
}
