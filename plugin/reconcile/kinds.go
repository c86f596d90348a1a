// Package reconcile is `kubectl fleet reconcile`, `suspend` and `resume`: what Flux and the
// operator do with an object now, and whether they do anything with it.
package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/flux"
)

// kind is a kind of objects that are reconciled and can be suspended.
type kind struct {
	name string
	// who reconciles it.
	who string
	// aliases are what people write for it, in lower case.
	aliases []string
	empty   func() client.Object
	list    func() client.ObjectList
	// suspend is the field of the spec, handled what it was last asked by and answered,
	// ready its condition.
	suspend func(client.Object) *bool
	handled func(client.Object) string
	ready   func(client.Object) flux.Condition
}

var kinds = []kind{
	{
		name: sourcev1.GitRepositoryKind, who: "Flux", aliases: []string{"gitrepository", "gitrepositories", "gitrepo", "source", "gitrepository." + sourcev1.GroupVersion.Group},
		empty: func() client.Object { return &sourcev1.GitRepository{} }, list: func() client.ObjectList { return &sourcev1.GitRepositoryList{} },
		suspend: func(o client.Object) *bool { return &o.(*sourcev1.GitRepository).Spec.Suspend },
		handled: func(o client.Object) string { return o.(*sourcev1.GitRepository).Status.LastHandledReconcileAt },
		ready: func(o client.Object) flux.Condition {
			s := o.(*sourcev1.GitRepository).Status
			return flux.ReadyOf(s.Conditions, s.ObservedGeneration, o.GetGeneration())
		},
	},
	{
		name: kustomizev1.KustomizationKind, who: "Flux", aliases: []string{"kustomization", "kustomizations", "ks", "kustomization." + kustomizev1.GroupVersion.Group},
		empty: func() client.Object { return &kustomizev1.Kustomization{} }, list: func() client.ObjectList { return &kustomizev1.KustomizationList{} },
		suspend: func(o client.Object) *bool { return &o.(*kustomizev1.Kustomization).Spec.Suspend },
		handled: func(o client.Object) string { return o.(*kustomizev1.Kustomization).Status.LastHandledReconcileAt },
		ready: func(o client.Object) flux.Condition {
			s := o.(*kustomizev1.Kustomization).Status
			return flux.ReadyOf(s.Conditions, s.ObservedGeneration, o.GetGeneration())
		},
	},
	{
		name: v1alpha1.DeploymentKind, who: "The operator", aliases: []string{"deployment", "deployments", "fleetdep", "deployment." + v1alpha1.GroupVersion.Group},
		empty: func() client.Object { return &v1alpha1.Deployment{} }, list: func() client.ObjectList { return &v1alpha1.DeploymentList{} },
		suspend: func(o client.Object) *bool { return &o.(*v1alpha1.Deployment).Spec.Suspend },
		handled: func(o client.Object) string { return o.(*v1alpha1.Deployment).Status.LastHandledReconcileAt },
		ready: func(o client.Object) flux.Condition {
			s := o.(*v1alpha1.Deployment).Status
			c := flux.ReadyOf(s.Conditions, s.ObservedGeneration, o.GetGeneration())
			if c.Status == metav1.ConditionFalse && !stalled(s.Conditions) {
				c.Status = metav1.ConditionTrue // the operator has done its part, and a rollout is on its way
			}
			return c
		},
	},
}

func stalled(conditions []metav1.Condition) bool {
	return slices.ContainsFunc(conditions, func(c metav1.Condition) bool {
		return c.Type == v1alpha1.ConditionStalled && c.Status == metav1.ConditionTrue
	})
}

// kindOf finds a kind by what people write.
func kindOf(word string) (*kind, error) {
	for i := range kinds {
		if slices.Contains(kinds[i].aliases, strings.ToLower(word)) {
			return &kinds[i], nil
		}
	}
	return nil, fmt.Errorf("%q is not a kind that is reconciled: %s", word, strings.Join(kindWords(), ", "))
}

// kindWords are the words for the kinds, for completion and errors.
func kindWords() []string {
	var out []string
	for _, k := range kinds {
		out = append(out, k.aliases[0])
	}
	return out
}

// target is one object that a command is about.
type target struct {
	*kind
	key client.ObjectKey
}

func (t target) String() string { return t.name + " " + t.key.String() }

// targets reads KIND NAME..., or KIND/NAME..., as kubectl does.
func targets(namespace string, args []string) ([]target, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("say what: KIND NAME or KIND/NAME, where KIND is one of %s", strings.Join(kindWords(), ", "))
	}
	found := map[string]target{}
	add := func(word, name string) error {
		k, err := kindOf(word)
		if err != nil {
			return err
		}
		if name == "" {
			return fmt.Errorf("the name of a %s is missing", k.name)
		}
		t := target{k, client.ObjectKey{Namespace: namespace, Name: name}}
		found[t.String()] = t
		return nil
	}
	if !strings.Contains(args[0], "/") {
		if len(args) == 1 {
			return nil, add(args[0], "")
		}
		for _, name := range args[1:] {
			if strings.Contains(name, "/") {
				return nil, fmt.Errorf("%q: either KIND NAME... or KIND/NAME..., not both", name)
			}
			if err := add(args[0], name); err != nil {
				return nil, err
			}
		}
	} else {
		for _, arg := range args {
			word, name, ok := strings.Cut(arg, "/")
			if !ok {
				return nil, fmt.Errorf("%q: either KIND NAME... or KIND/NAME..., not both", arg)
			}
			if err := add(word, name); err != nil {
				return nil, err
			}
		}
	}
	var out []target
	for _, key := range slices.Sorted(maps.Keys(found)) {
		out = append(out, found[key])
	}
	return out, nil
}
