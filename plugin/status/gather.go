package status

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/devices"
)

// Observed is what was read of the cluster, before anything is made of it.
type Observed struct {
	Scope cli.Scope
	Time  time.Time

	Sources        []client.Object
	Kustomizations []kustomizev1.Kustomization
	Deployments    []v1alpha1.Deployment
	Devices        Devices

	// Live tells that the devices were counted by the live API, LiveError why they were
	// not although there is one that this user may ask.
	Live      bool
	LiveError error

	// NoFlux is true when the cluster has no Flux.
	NoFlux bool
	// FluxNamespace is set when Flux objects could only be read there.
	FluxNamespace string
	// Unread are the parts that could not be read.
	Unread []Unread
}

// Unread is a part of the report that could not be read.
type Unread struct {
	What string
	Err  error
}

// Gather reads everything at the same time. A part that can't be read is noted and
// leaves the others as they are; only when nothing of the fleet can be read there
// is an error.
func Gather(ctx context.Context, cluster *cli.Cluster, scope cli.Scope, now time.Time) (Observed, error) {
	g := gatherer{Cluster: cluster, scope: scope, observed: Observed{Scope: scope, Time: now}}
	var all sync.WaitGroup
	all.Go(func() { g.note("Flux", g.flux(ctx)) })
	var deployments, devices error
	all.Go(func() { deployments = g.deployments(ctx) })
	all.Go(func() { devices = g.devices(ctx) })
	all.Wait()
	if deployments != nil && devices != nil {
		return Observed{}, deployments
	}
	g.note("Deployments", deployments)
	g.note("Devices", devices)
	return g.observed, nil
}

// gatherer fills in Observed; each of its parts is written by one goroutine.
type gatherer struct {
	*cli.Cluster
	scope    cli.Scope
	observed Observed
	noting   sync.Mutex
}

func (g *gatherer) note(what string, err error) {
	if err == nil {
		return
	}
	g.noting.Lock()
	defer g.noting.Unlock()
	g.observed.Unread = append(g.observed.Unread, Unread{what, err})
}

func (g *gatherer) deployments(ctx context.Context) error {
	options, err := g.scope.ListOptions()
	if err != nil {
		return err
	}
	objects, _, err := cli.ListAll(ctx, g.Client, &v1alpha1.DeploymentList{}, options)
	if err != nil {
		return fmt.Errorf("list deployments in %s: %w", g.scope, err)
	}
	for _, o := range objects {
		g.observed.Deployments = append(g.observed.Deployments, *o.(*v1alpha1.Deployment))
	}
	return nil
}

func (g *gatherer) devices(ctx context.Context) error {
	counted, err := liveDevices(ctx, g.Config, g.scope)
	if err == nil {
		g.observed.Devices, g.observed.Live = counted, true
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !cli.NotInstalled(err) && !apierrors.IsForbidden(err) {
		g.observed.LiveError = err
	}
	api, err := restClient(g.Config, v1alpha1.GroupVersion)
	if err != nil {
		return err
	}
	counted, err = countDevices(ctx, api, g.scope)
	if err != nil {
		return fmt.Errorf("in %s: %w", g.scope, err)
	}
	if err := g.describe(ctx, counted.Gone); err != nil {
		return err
	}
	// The ages in a table are rounded.
	slices.SortFunc(counted.Gone, compareGone)
	g.observed.Devices = counted
	return nil
}

// restClient asks for what is decoded elsewhere.
func restClient(of *rest.Config, version schema.GroupVersion) (rest.Interface, error) {
	config := rest.CopyConfig(of)
	config.GroupVersion, config.APIPath = &version, "/apis"
	config.NegotiatedSerializer = serializer.WithoutConversionCodecFactory{CodecFactory: scheme.Codecs}
	api, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", config.Host, err)
	}
	return api, nil
}

// describe fetches what the table does not hold of the few devices that a report
// names.
func (g *gatherer) describe(ctx context.Context, gone []Gone) error {
	var all sync.WaitGroup
	failed := make([]error, len(gone))
	for i := range gone {
		all.Go(func() {
			list := &v1alpha1.DeviceList{}
			// By field and not by name: a table has no namespaces in it.
			failed[i] = g.Client.List(ctx, list, &client.ListOptions{
				Namespace: g.scope.Namespace, FieldSelector: fields.OneTermEqualSelector("metadata.name", gone[i].Name),
			})
			for _, d := range list.Items {
				if devices.Of(&d) != devices.NotReady {
					continue // it has the same name in another namespace
				}
				gone[i].Namespace = d.Namespace
				gone[i].LastHeartbeat = d.Status.LastHeartbeatTime
				if c := apimeta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionReady); c != nil {
					gone[i].Reason, gone[i].Message = c.Reason, c.Message
				}
			}
		})
	}
	all.Wait()
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("get devices that are not ready: %w", err)
	}
	return nil
}

// flux reads Flux objects of all namespaces, for a Kustomization may apply to
// another one than its own; when that is not allowed, of the namespace alone.
func (g *gatherer) flux(ctx context.Context) error {
	namespace := ""
	kustomizations, err := g.list(ctx, &kustomizev1.KustomizationList{}, namespace)
	if apierrors.IsForbidden(err) && !g.scope.All() {
		namespace = g.scope.Namespace
		g.observed.FluxNamespace = namespace
		kustomizations, err = g.list(ctx, &kustomizev1.KustomizationList{}, namespace)
	}
	if cli.NotInstalled(err) {
		g.observed.NoFlux = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("list kustomizations: %w", err)
	}
	for _, o := range kustomizations {
		g.observed.Kustomizations = append(g.observed.Kustomizations, *o.(*kustomizev1.Kustomization))
	}
	for kind, list := range map[string]client.ObjectList{
		sourcev1.GitRepositoryKind: &sourcev1.GitRepositoryList{},
		sourcev1.OCIRepositoryKind: &sourcev1.OCIRepositoryList{},
		sourcev1.BucketKind:        &sourcev1.BucketList{},
	} {
		if !g.refers(kind) {
			continue
		}
		sources, err := g.list(ctx, list, namespace)
		if err != nil && !cli.NotInstalled(err) {
			return fmt.Errorf("list %s: %w", strings.ToLower(kind), err)
		}
		g.observed.Sources = append(g.observed.Sources, sources...)
	}
	return nil
}

func (g *gatherer) list(ctx context.Context, kind client.ObjectList, namespace string) ([]client.Object, error) {
	objects, _, err := cli.ListAll(ctx, g.Client, kind, client.ListOptions{Namespace: namespace})
	return objects, err
}

func (g *gatherer) refers(kind string) bool {
	for i := range g.observed.Kustomizations {
		if g.observed.Kustomizations[i].Spec.SourceRef.Kind == kind {
			return true
		}
	}
	return false
}
