package repo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/preview"
)

// live compares one revision, or the working tree, with the cluster.
func (o *diffOptions) live(ctx context.Context, args []string) (Diff, []error, error) {
	declared, err := o.openSide(o.rev)
	if err != nil {
		return Diff{}, nil, err
	}
	var overlays []gitops.Overlay
	if len(args) == 1 {
		overlay, err := declared.tree.Find(args[0])
		if err != nil {
			return Diff{}, nil, err
		}
		overlays = append(overlays, overlay)
	} else if overlays, err = declared.tree.Here(); err != nil {
		return Diff{}, nil, err
	}
	cluster, err := o.env.Connect()
	if err != nil {
		return Diff{}, nil, err
	}
	flux, err := readKustomizations(ctx, cluster, o.kustomization)
	if err != nil {
		return Diff{}, nil, err
	}
	if overlays, err = applied(overlays, flux); err != nil {
		return Diff{}, nil, err
	}
	diff := Diff{From: "cluster", To: declared.name, Overlays: []OverlayDiff{}}
	var failed []error
	for _, overlay := range overlays {
		c, err := newComparer(o.env, cluster)
		if err != nil {
			return Diff{}, nil, err
		}
		out, err := c.overlay(ctx, declared, overlay, flux)
		if err != nil {
			return Diff{}, nil, err
		}
		diff.add(out)
		failed = append(failed, c.failed...)
	}
	return diff, failed, nil
}

// applied leaves out, of several overlays, those that this cluster does not have.
func applied(overlays []gitops.Overlay, flux kustomizations) ([]gitops.Overlay, error) {
	if len(overlays) == 1 {
		return overlays, nil
	}
	if flux.chosen {
		return nil, fmt.Errorf("which overlay does the Kustomization apply? There are: %s", names(overlays))
	}
	var out []gitops.Overlay
	for _, overlay := range overlays {
		k, err := flux.of(overlay)
		if err != nil {
			return nil, err
		}
		if k != nil {
			out = append(out, overlay)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("which overlay? Flux applies none of them to this cluster; there are: %s", names(overlays))
	}
	return out, nil
}

// comparer compares one overlay with the cluster.
type comparer struct {
	cluster *cli.Cluster
	// client knows every kind that the cluster has.
	client        client.Client
	kustomization *kustomizev1.Kustomization
	warnings      *warnings
	out           OverlayDiff
	failed        []error
}

func newComparer(env *cli.Env, cluster *cli.Cluster) (*comparer, error) {
	mapper, err := env.Config.ToRESTMapper()
	if err != nil {
		return nil, fmt.Errorf("ask the cluster for its kinds: %w", err)
	}
	c := &comparer{cluster: cluster, warnings: &warnings{}}
	config := rest.CopyConfig(cluster.Config)
	config.WarningHandler = c.warnings
	if c.client, err = client.New(config, client.Options{Mapper: mapper}); err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", config.Host, err)
	}
	return c, nil
}

func (c *comparer) overlay(ctx context.Context, declared side, overlay gitops.Overlay, flux kustomizations) (OverlayDiff, error) {
	c.out = newOverlayDiff(overlay)
	k, err := flux.of(overlay)
	if err != nil {
		return c.out, err
	}
	c.kustomization = k
	spec := &kustomizev1.KustomizationSpec{}
	if k != nil {
		spec = &k.Spec
		c.out.Kustomization = client.ObjectKeyFromObject(k).String()
		c.out.Notes = append(c.out.Notes, untold(k)...)
	} else {
		c.out.Notes = append(c.out.Notes, flux.missing(overlay))
	}
	rendered, err := gitops.RenderFor(declared.tree, overlay, spec)
	if err != nil {
		return c.out, fmt.Errorf("at %s: %w", declared.name, err)
	}
	pairs := c.applyAll(ctx, contents(rendered))
	if k != nil {
		removed, err := c.removed(ctx, pairs)
		if err != nil {
			return c.out, err
		}
		pairs = append(pairs, removed...)
	}
	if ctx.Err() != nil {
		return c.out, ctx.Err()
	}
	if err := c.compare(pairs); err != nil {
		return c.out, err
	}
	if err := c.devices(ctx, pairs); err != nil {
		c.fail("devices that would change", err)
	}
	c.out.Notes = append(c.out.Notes, c.warnings.sorted()...)
	return c.out, nil
}

// compare notes the differences, and what could not be compared.
func (c *comparer) compare(pairs []pair) error {
	for i := range pairs {
		p := &pairs[i]
		if p.note != "" && !slices.Contains(c.out.Notes, p.note) {
			c.out.Notes = append(c.out.Notes, p.note)
		}
		if p.err != nil {
			c.fail(p.id.String(), p.err)
			continue
		}
		if p.before == nil && p.after == nil {
			continue
		}
		d, differs, err := gitops.Compare(p.before, p.after)
		if err != nil {
			return err
		}
		if p.differs = differs; differs {
			c.out.Objects = append(c.out.Objects, d)
		}
	}
	slices.SortFunc(c.out.Objects, func(a, b gitops.Difference) int {
		return gitops.ObjectID{Group: a.Group, Kind: a.Kind, Namespace: a.Namespace, Name: a.Name}.Compare(
			gitops.ObjectID{Group: b.Group, Kind: b.Kind, Namespace: b.Namespace, Name: b.Name})
	})
	return nil
}

func (c *comparer) fail(object string, err error) {
	c.out.Failures = append(c.out.Failures, DiffFailure{Object: object, Message: err.Error()})
	c.failed = append(c.failed, fmt.Errorf("%s: %w", object, err))
}

// devices tells whom the differences reach.
func (c *comparer) devices(ctx context.Context, pairs []pair) error {
	before, after, err := c.states(ctx, pairs)
	if err != nil {
		return err
	}
	out, err := preview.Changes(before, after, preview.Options{Touched: touched(c.out.Objects)})
	if err != nil {
		return err
	}
	if out != nil {
		c.out.Deployments = out
	}
	return nil
}

// warnings are what the API server has to say about what it takes.
type warnings struct {
	mu    sync.Mutex
	texts []string
}

// HandleWarningHeader keeps a warning.
func (w *warnings) HandleWarningHeader(code int, _ string, text string) {
	const miscellaneous = 299
	if code != miscellaneous || text == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if note := "the API server warns: " + text; !slices.Contains(w.texts, note) {
		w.texts = append(w.texts, note)
	}
}

func (w *warnings) sorted() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortFunc(w.texts, strings.Compare)
	return w.texts
}
