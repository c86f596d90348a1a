package env

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/api/v1alpha1"
)

// fieldOwner is who owns the fields of what is applied here.
const fieldOwner = client.FieldOwner("fleet-setup")

// newClient is a client of everything that a fleet consists of.
func newClient(kubeconfig string) (client.WithWatch, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, v1alpha1.AddToScheme,
		sourcev1.AddToScheme, kustomizev1.AddToScheme, live.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	// The harness shall not wait for its own rate limit.
	config.QPS = -1
	return client.NewWithWatch(config, client.Options{Scheme: scheme})
}

// applyDir does what `kubectl apply --server-side -k dir` does, and waits until
// the API server serves every kind that came with it.
func applyDir(ctx context.Context, c client.WithWatch, dir string) error {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return fmt.Errorf("build %s: %w", dir, err)
	}
	for _, resource := range resources.Resources() {
		object := &unstructured.Unstructured{}
		raw, err := resource.AsYAML()
		if err != nil {
			return err
		}
		if err := decodeYAML(raw, object); err != nil {
			return fmt.Errorf("%s: %w", resource.CurId(), err)
		}
		err = Until(ctx, 20*time.Second, "apply "+resource.CurId().String(), func(ctx context.Context) error {
			err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(object.DeepCopy()), fieldOwner, client.ForceOwnership)
			// A kind that has just come is known to the API server a moment later.
			if err != nil && !meta.IsNoMatchError(err) {
				return Permanent(err)
			}
			return err
		})
		if err != nil {
			return err
		}
		if object.GetKind() != "CustomResourceDefinition" {
			continue
		}
		if err := established(ctx, c, object.GetName()); err != nil {
			return err
		}
	}
	return nil
}

func established(ctx context.Context, c client.Client, name string) error {
	return Until(ctx, 20*time.Second, "kind "+name+" served", func(ctx context.Context) error {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := c.Get(ctx, client.ObjectKey{Name: name}, crd); err != nil {
			return err
		}
		for _, condition := range crd.Status.Conditions {
			if condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("not established yet")
	})
}
