package plane

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

// FluxNamespace is where Flux believes to run.
const FluxNamespace = "flux-system"

var (
	crdResource       = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	namespaceResource = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	gitRepositories   = schema.GroupVersionResource{Group: "source.toolkit.fluxcd.io", Version: "v1", Resource: "gitrepositories"}
)

const fieldManager = "controlplane"

// installFlux applies the namespace and the CRDs, and waits until the API
// server serves them: the controllers give up without.
func installFlux(ctx context.Context, client dynamic.Interface, crds string) error {
	namespace := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": FluxNamespace},
	}}
	if err := apply(ctx, client.Resource(namespaceResource), namespace); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(crds, "*", "*.yaml"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no CRDs in %s (%v)", crds, err)
	}
	var names []string
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		crd := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(raw, &crd.Object); err != nil {
			return fmt.Errorf("decode %s: %w", file, err)
		}
		if err := apply(ctx, client.Resource(crdResource), crd); err != nil {
			return err
		}
		names = append(names, crd.GetName())
	}
	for _, name := range names {
		if err := awaitEstablished(ctx, client, name); err != nil {
			return err
		}
	}
	return nil
}

func apply(ctx context.Context, r dynamic.ResourceInterface, o *unstructured.Unstructured) error {
	_, err := r.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	if err != nil {
		return fmt.Errorf("apply %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	return nil
}

func awaitEstablished(ctx context.Context, client dynamic.Interface, name string) error {
	for {
		crd, err := client.Resource(crdResource).Get(ctx, name, metav1.GetOptions{})
		if err == nil && established(crd) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("CRD %s is not established (%v): %w", name, err, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func established(crd *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(crd.Object, "status", "conditions")
	for _, c := range conditions {
		if m, ok := c.(map[string]any); ok && m["type"] == "Established" && m["status"] == "True" {
			return true
		}
	}
	return false
}

// requestReconcile asks Flux to fetch every GitRepository that is the named
// repository of our Git server, and returns what it asked for.
func requestReconcile(ctx context.Context, client dynamic.Interface, gitAddr, repo string, now time.Time) ([]string, error) {
	list, err := client.Resource(gitRepositories).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil // Flux is not installed
	}
	if err != nil {
		return nil, fmt.Errorf("list GitRepositories: %w", err)
	}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"reconcile.fluxcd.io/requestedAt":%q}}}`, now.Format(time.RFC3339Nano))
	var asked []string
	for _, g := range list.Items {
		spec, _, _ := unstructured.NestedString(g.Object, "spec", "url")
		if !pointsAt(spec, gitAddr, repo) {
			continue
		}
		_, err := client.Resource(gitRepositories).Namespace(g.GetNamespace()).
			Patch(ctx, g.GetName(), types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
		if apierrors.IsNotFound(err) {
			continue // deleted meanwhile
		}
		if err != nil {
			return asked, fmt.Errorf("annotate GitRepository %s/%s: %w", g.GetNamespace(), g.GetName(), err)
		}
		asked = append(asked, g.GetNamespace()+"/"+g.GetName())
	}
	return asked, nil
}

// pointsAt reports whether a GitRepository's URL is the named repository of
// the Git server at addr (host:port).
func pointsAt(raw, addr, repo string) bool {
	u, err := url.Parse(raw)
	if err != nil {
		return false
	}
	host := u.Host
	if u.Hostname() == "localhost" {
		host = "127.0.0.1:" + u.Port()
	}
	return host == addr && strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git") == repo
}
