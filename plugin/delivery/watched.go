package delivery

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
)

// watched are the objects on a commit's way, as they are now.
type watched struct {
	cluster *cli.Cluster
	// namespace that is looked at; empty for all.
	namespace string
	// changed receives when something has changed, once everything is there.
	changed chan struct{}
	// lost is told when the connection is lost, and with nil when it is back.
	lost func(error)

	mu             sync.Mutex
	listed         map[string]bool
	sources        map[client.ObjectKey]*sourcev1.GitRepository
	kustomizations map[client.ObjectKey]*kustomizev1.Kustomization
	deployments    map[client.ObjectKey]*v1alpha1.Deployment
}

func newWatched(cluster *cli.Cluster, namespace string, lost func(error)) *watched {
	return &watched{
		cluster: cluster, namespace: namespace, changed: make(chan struct{}, 1), lost: lost,
		listed: map[string]bool{}, sources: map[client.ObjectKey]*sourcev1.GitRepository{},
		kustomizations: map[client.ObjectKey]*kustomizev1.Kustomization{}, deployments: map[client.ObjectKey]*v1alpha1.Deployment{},
	}
}

// kinds are what there is to watch.
func (w *watched) kinds() map[string]client.ObjectList {
	return map[string]client.ObjectList{
		"GitRepositories": &sourcev1.GitRepositoryList{}, "Kustomizations": &kustomizev1.KustomizationList{}, "Deployments": &v1alpha1.DeploymentList{},
	}
}

// readable finds out where all of it may be read: everywhere, or in one namespace.
func readable(ctx context.Context, cluster *cli.Cluster) (namespace string, err error) {
	w := newWatched(cluster, "", nil)
	for what, list := range w.kinds() {
		err := cluster.Client.List(ctx, list, client.Limit(1))
		if apierrors.IsForbidden(err) {
			return cluster.Namespace, nil
		}
		if err != nil {
			return "", fmt.Errorf("list %s: %w", what, err)
		}
	}
	return "", nil
}

// run watches until the context ends or something can't be watched.
func (w *watched) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	for what, list := range w.kinds() {
		all.Go(func() {
			f := cli.Follower{
				Client: w.cluster.Client, List: list, Options: client.ListOptions{Namespace: w.namespace}, Connection: w.lost,
				Listed: func(objects []client.Object) error {
					w.replace(what, objects)
					return nil
				},
				Changed: func(event watch.EventType, o client.Object) error {
					w.change(event, o)
					return nil
				},
			}
			if err := f.Run(ctx); err != nil {
				cancel(fmt.Errorf("watch %s: %w", what, err))
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// replace takes in a whole list.
func (w *watched) replace(what string, objects []client.Object) {
	w.mu.Lock()
	switch what {
	case "GitRepositories":
		clear(w.sources)
	case "Kustomizations":
		clear(w.kustomizations)
	default:
		clear(w.deployments)
	}
	for _, o := range objects {
		w.put(o)
	}
	w.listed[what] = true
	w.mu.Unlock()
	w.poke()
}

func (w *watched) change(event watch.EventType, o client.Object) {
	w.mu.Lock()
	if event == watch.Deleted {
		key := client.ObjectKeyFromObject(o)
		switch o.(type) {
		case *sourcev1.GitRepository:
			delete(w.sources, key)
		case *kustomizev1.Kustomization:
			delete(w.kustomizations, key)
		case *v1alpha1.Deployment:
			delete(w.deployments, key)
		}
	} else {
		w.put(o)
	}
	w.mu.Unlock()
	w.poke()
}

// put keeps an object. The lock is held.
func (w *watched) put(o client.Object) {
	key := client.ObjectKeyFromObject(o)
	switch o := o.(type) {
	case *sourcev1.GitRepository:
		w.sources[key] = o
	case *kustomizev1.Kustomization:
		w.kustomizations[key] = o
	case *v1alpha1.Deployment:
		w.deployments[key] = o
	}
}

func (w *watched) poke() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.listed) < len(w.kinds()) {
		return
	}
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// refresh reads the Deployments anew: the watches of several kinds are not in step, and a
// Deployment that a Kustomization has just made may not have been heard of.
func (w *watched) refresh(ctx context.Context) error {
	objects, _, err := cli.ListAll(ctx, w.cluster.Client, &v1alpha1.DeploymentList{}, client.ListOptions{Namespace: w.namespace})
	if err != nil {
		return fmt.Errorf("list deployments: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.deployments)
	for _, o := range objects {
		w.put(o)
	}
	return nil
}

// observe is all of it, in order, as far as the sources and Kustomizations are chosen.
func (w *watched) observe(source func(*sourcev1.GitRepository) bool, kustomization func(*kustomizev1.Kustomization) bool) observed {
	w.mu.Lock()
	defer w.mu.Unlock()
	var o observed
	for _, k := range w.kustomizations {
		if kustomization(k) {
			o.kustomizations = append(o.kustomizations, *k)
		}
	}
	for _, s := range w.sources {
		used := slices.ContainsFunc(o.kustomizations, func(k kustomizev1.Kustomization) bool { return sourceOf(&k) == client.ObjectKeyFromObject(s) })
		if used && source(s) {
			o.sources = append(o.sources, *s)
		}
	}
	for _, d := range w.deployments {
		o.deployments = append(o.deployments, *d)
	}
	slices.SortFunc(o.sources, func(a, b sourcev1.GitRepository) int { return byKey(&a, &b) })
	slices.SortFunc(o.kustomizations, func(a, b kustomizev1.Kustomization) int { return byKey(&a, &b) })
	slices.SortFunc(o.deployments, func(a, b v1alpha1.Deployment) int { return byKey(&a, &b) })
	return o
}

func byKey(a, b client.Object) int {
	return cmp.Or(strings.Compare(a.GetNamespace(), b.GetNamespace()), strings.Compare(a.GetName(), b.GetName()))
}
