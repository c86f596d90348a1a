package env

import (
	"context"
	"fmt"
	"sync"
	"time"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
)

// Hop is one stage between `git push` and the containers.
type Hop struct {
	Name string
	// After is the time since `git push` began.
	After time.Duration
}

// Delivery is one push and how it went through the hops.
type Delivery struct {
	Commit string
	Hops   []Hop
	// Total is the time until every device served the new version.
	Total time.Duration
}

// Deliver changes the version of hello to an image that the registry has, pushes,
// and follows the change until every device serves it and the Deployment says so.
func (f *Fleet) Deliver(ctx context.Context, from, to string) (*Delivery, error) {
	if err := f.Repository.Edit(Overlay+"/kustomization.yaml", "newTag: "+from, "newTag: "+to); err != nil {
		return nil, err
	}
	return f.follow(ctx, to, func() (string, error) {
		return f.Repository.Push(ctx, "Roll out hello "+to)
	})
}

func (f *Fleet) follow(ctx context.Context, version string, push func() (string, error)) (*Delivery, error) {
	ctx, cancel := context.WithTimeout(ctx, f.patience())
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)

	before := &v1alpha1.Deployment{}
	if err := f.Client.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: "hello"}, before); err != nil {
		return nil, err
	}
	source := &sourcev1.GitRepository{}
	if err := f.Client.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: RepositoryName}, source); err != nil {
		return nil, err
	}
	delivery := &Delivery{}
	var mu sync.Mutex
	var start time.Time
	seen := map[string]time.Duration{}
	mark := func(hop string) {
		mu.Lock()
		defer mu.Unlock()
		if _, ok := seen[hop]; !ok {
			seen[hop] = time.Since(start)
		}
	}

	// The watches are open before the push, so that none of them sees it late.
	sources, err := f.Client.Watch(ctx, &sourcev1.GitRepositoryList{}, client.InNamespace(Namespace))
	if err != nil {
		return nil, err
	}
	defer sources.Stop()
	deployments, err := f.Client.Watch(ctx, &v1alpha1.DeploymentList{}, client.InNamespace(Namespace),
		client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", "hello")})
	if err != nil {
		return nil, err
	}
	defer deployments.Stop()

	start = time.Now()
	group.Go(func() error {
		commit, err := push()
		delivery.Commit = commit
		mark("git push returned")
		return err
	})
	group.Go(func() error {
		return each(ctx, sources, "GitRepository with the new commit", func(object client.Object) bool {
			if fetched(object.(*sourcev1.GitRepository)) == fetched(source) {
				return false
			}
			mark("Flux fetched the commit")
			return true
		})
	})
	group.Go(func() error {
		return each(ctx, deployments, "Deployment hello Ready with the new version", func(object client.Object) bool {
			d := object.(*v1alpha1.Deployment)
			if d.Generation == before.Generation {
				return false
			}
			mark("Flux applied the Deployment")
			if d.Status.ObservedGeneration != d.Generation {
				return false
			}
			mark("operator rolls out the revision")
			if !meta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionReady) {
				return false
			}
			mark("Deployment is Ready")
			return true
		})
	})
	var serving sync.WaitGroup
	for _, d := range f.servers() {
		serving.Add(1)
		group.Go(func() error {
			defer serving.Done()
			if err := d.Serves(ctx, version); err != nil {
				return err
			}
			mark("first device serves " + version)
			return nil
		})
	}
	group.Go(func() error {
		serving.Wait()
		if ctx.Err() == nil {
			mark("all devices serve " + version)
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, name := range []string{
		"git push returned", "Flux fetched the commit", "Flux applied the Deployment", "operator rolls out the revision",
		"first device serves " + version, "all devices serve " + version, "Deployment is Ready",
	} {
		delivery.Hops = append(delivery.Hops, Hop{Name: name, After: seen[name]})
	}
	delivery.Total = seen["all devices serve "+version]
	return delivery, nil
}

// fetched is the revision that Flux has of a repository.
func fetched(r *sourcev1.GitRepository) string {
	if r.Status.Artifact == nil {
		return ""
	}
	return r.Status.Artifact.Revision
}

// each calls done with every state that the watch delivers, until it says yes.
func each(ctx context.Context, w watch.Interface, what string, done func(client.Object) bool) error {
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
		case event, ok := <-w.ResultChan():
			if !ok {
				return fmt.Errorf("wait for %s: the API server ended the watch", what)
			}
			if object, ok := event.Object.(client.Object); ok && done(object) {
				return nil
			}
		}
	}
}

// server is a device, of whatever kind, that answers as hello.
type server interface {
	// Serves waits until it answers with the version.
	Serves(ctx context.Context, version string) error
}

func (f *Fleet) servers() []server {
	var all []server
	for _, d := range f.Devices {
		all = append(all, d)
	}
	for _, m := range f.Machines {
		all = append(all, m)
	}
	return all
}

// patience is how long a delivery may take. A machine may be emulated.
func (f *Fleet) patience() time.Duration {
	if len(f.Machines) > 0 {
		return machinePatience
	}
	return time.Minute
}

// Serves waits until the device's hello answers with the version.
func (d *Device) Serves(ctx context.Context, version string) error {
	return Until(ctx, time.Minute, d.ID+" serves "+version, func(ctx context.Context) error {
		g, err := d.Greet(ctx)
		if err == nil && g.Version != version {
			return fmt.Errorf("it serves %q; the agent's log is %s", g.Version, d.Agent.Log)
		}
		return err
	})
}
