package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/flux"
)

// kustomizations are Flux's in the cluster.
type kustomizations struct {
	items []kustomizev1.Kustomization
	// chosen is the only one that counts, where somebody has said which.
	chosen bool
	// where they were looked for, in words.
	where string
	// unread is why they can't be read.
	unread error
}

// readKustomizations reads the one that was named, or all; where that is not allowed, as
// it is not for a team that has a namespace, those of the namespace.
func readKustomizations(ctx context.Context, cluster *cli.Cluster, named string) (kustomizations, error) {
	c := cluster.Client
	if named == "" {
		list, out := &kustomizev1.KustomizationList{}, kustomizations{where: "in this cluster"}
		out.unread = c.List(ctx, list)
		if apierrors.IsForbidden(out.unread) {
			out.where = "in namespace " + cluster.Namespace
			out.unread = c.List(ctx, list, client.InNamespace(cluster.Namespace))
		}
		out.items = list.Items
		return out, nil
	}
	namespace, name, ok := strings.Cut(named, "/")
	if !ok {
		return kustomizations{}, fmt.Errorf("--kustomization %q: write NAMESPACE/NAME", named)
	}
	k := kustomizev1.Kustomization{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &k); err != nil {
		return kustomizations{}, fmt.Errorf("get Kustomization %s: %w", named, err)
	}
	return kustomizations{items: []kustomizev1.Kustomization{k}, chosen: true}, nil
}

// of is the Kustomization that applies an overlay; nil when there is none.
func (k kustomizations) of(overlay gitops.Overlay) (*kustomizev1.Kustomization, error) {
	var found []*kustomizev1.Kustomization
	for i := range k.items {
		if k.chosen || cleaned(k.items[i].Spec.Path) == cleaned(overlay.Path) {
			found = append(found, &k.items[i])
		}
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return found[0], nil
	}
	var names []string
	for _, one := range found {
		names = append(names, client.ObjectKeyFromObject(one).String())
	}
	slices.Sort(names)
	return nil, fmt.Errorf("overlay %s is applied by several Kustomizations (%s): say which with --kustomization", overlay.Name, strings.Join(names, ", "))
}

// missing says why there is none, and what that means.
func (k kustomizations) missing(overlay gitops.Overlay) string {
	const so = "what would be removed is not shown"
	switch {
	case cli.NotInstalled(k.unread):
		return "Flux is not installed in this cluster: " + so
	case k.unread != nil:
		return fmt.Sprintf("Flux's Kustomizations can't be read (%s): %s", k.unread, so)
	}
	return fmt.Sprintf("no Kustomization of Flux %s has the path %s: %s", k.where, overlay.Path, so)
}

// cleaned is a path as all that mean the same have it.
func cleaned(p string) string { return strings.Trim(path.Clean("/"+p), "/") }

// untold is what a Kustomization does that the comparison does not take into account.
func untold(k *kustomizev1.Kustomization) []string {
	var out []string
	name := "Kustomization " + client.ObjectKeyFromObject(k).String()
	if k.Spec.PostBuild != nil {
		out = append(out, name+" substitutes variables after the build (spec.postBuild): that is not taken into account")
	}
	if k.Spec.KubeConfig != nil {
		out = append(out, name+" applies to another cluster (spec.kubeConfig): this one is compared")
	}
	if k.Spec.Suspend {
		out = append(out, name+" is suspended: nothing of this happens until it is resumed")
	}
	return out
}

// own labels an object as the Kustomization's, as Flux does.
func own(k *kustomizev1.Kustomization, o *unstructured.Unstructured) {
	labels := o.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[flux.LabelName], labels[flux.LabelNamespace] = k.Name, k.Namespace
	o.SetLabels(labels)
}

// leftAlone reports whether Flux leaves an object that exists as it is.
func leftAlone(live, declared *unstructured.Unstructured) bool {
	for _, o := range []*unstructured.Unstructured{live, declared} {
		if says(o, flux.AnnotationReconcile, kustomizev1.DisabledValue) || says(o, flux.AnnotationSSA, kustomizev1.IgnoreValue) {
			return true
		}
	}
	return says(declared, flux.AnnotationSSA, kustomizev1.IfNotPresentValue)
}

// says reports whether a label or annotation has a value.
func says(o *unstructured.Unstructured, key, value string) bool {
	return strings.EqualFold(cmp.Or(o.GetAnnotations()[key], o.GetLabels()[key]), value)
}

// inventory lists what a Kustomization has applied, without content.
func inventory(k *kustomizev1.Kustomization) ([]*unstructured.Unstructured, error) {
	if k.Status.Inventory == nil {
		return nil, nil
	}
	var out []*unstructured.Unstructured
	for _, entry := range k.Status.Inventory.Entries {
		o, err := fromInventory(entry)
		if err != nil {
			return nil, fmt.Errorf("inventory of Kustomization %s: %w", client.ObjectKeyFromObject(k), err)
		}
		out = append(out, o)
	}
	return out, nil
}

// fromInventory takes an entry apart: namespace_name_group_kind, and two underscores
// in a name are a colon, which names of RBAC may have.
// https://fluxcd.io/flux/components/kustomize/kustomizations/#inventory
func fromInventory(entry kustomizev1.ResourceRef) (*unstructured.Unstructured, error) {
	namespace, rest, ok := strings.Cut(entry.ID, "_")
	i := strings.LastIndex(rest, "_")
	if !ok || i < 0 {
		return nil, errors.New("can't read " + entry.ID)
	}
	rest, kind := rest[:i], rest[i+1:]
	if i = strings.LastIndex(rest, "_"); i < 0 {
		return nil, errors.New("can't read " + entry.ID)
	}
	name, group := strings.ReplaceAll(rest[:i], "__", ":"), rest[i+1:]
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(schema.GroupVersionKind{Group: group, Version: entry.Version, Kind: kind})
	o.SetNamespace(namespace)
	o.SetName(name)
	return o, nil
}

// prunes reports whether Flux would remove an object that it does not apply any more.
func prunes(k *kustomizev1.Kustomization, live *unstructured.Unstructured) bool {
	return flux.AppliedBy(live) == client.ObjectKeyFromObject(k) && !says(live, flux.AnnotationPrune, kustomizev1.DisabledValue) && !says(live, flux.AnnotationReconcile, kustomizev1.DisabledValue)
}
