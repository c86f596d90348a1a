package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/nationtech/fleet/api/jointoken"
	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/api/v1alpha1"
)

const (
	// CompletionTimeout is how long a shell may hang on a Tab.
	CompletionTimeout = 2 * time.Second
	// completionLimit bounds what a Tab reads from a large fleet.
	completionLimit = 5000
)

// ExactName wants one argument and says which.
func ExactName(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch len(args) {
		case 1:
			return nil
		case 0:
			return fmt.Errorf("the name of a %s is missing: %s", what, cmd.UseLine())
		}
		return fmt.Errorf("one %s at a time: %s", what, cmd.UseLine())
	}
}

// CompleteDeployments completes the name of one Deployment.
func (e *Env) CompleteDeployments(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return e.completeNames(cmd.Context(), v1alpha1.GroupVersion.WithKind(v1alpha1.DeploymentKind), nil, toComplete)
}

// CompleteDevices completes the names of Devices that are not among the arguments
// yet.
func (e *Env) CompleteDevices(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	return e.completeNames(cmd.Context(), v1alpha1.GroupVersion.WithKind(v1alpha1.DeviceKind), args, toComplete)
}

// CompletePlacements completes the names of placements that are not among the
// arguments yet.
func (e *Env) CompletePlacements(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	return e.completeNames(cmd.Context(), live.GroupVersion.WithKind("Placement"), args, toComplete)
}

// CompleteJoinTokens completes the IDs of join tokens that are not among the arguments
// yet.
func (e *Env) CompleteJoinTokens(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	prefix := jointoken.SecretName("")
	var taken []string
	for _, id := range args {
		taken = append(taken, prefix+id)
	}
	names, directive := e.completeNames(cmd.Context(), corev1.SchemeGroupVersion.WithKind("Secret"), taken, prefix+toComplete, client.HasLabels{jointoken.Label})
	for i := range names {
		names[i] = strings.TrimPrefix(names[i], prefix)
	}
	return names, directive
}

// CompleteDevice completes the value of a flag that is one Device.
func (e *Env) CompleteDevice(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	return e.CompleteDevices(cmd, nil, toComplete)
}

// CompleteDeployment completes the value of a flag that is one Deployment.
func (e *Env) CompleteDeployment(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	return e.CompleteDeployments(cmd, nil, toComplete)
}

// CompleteNames completes the names of objects of a kind that are not among the arguments
// yet.
func (e *Env) CompleteNames(cmd *cobra.Command, kind client.Object, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	scheme, err := newScheme()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	gvk, err := apiutil.GVKForObject(kind, scheme)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return e.completeNames(cmd.Context(), gvk, args, toComplete)
}

// CompleteNamespaces completes the value of --namespace.
func (e *Env) CompleteNamespaces(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	return e.completeNames(cmd.Context(), corev1.SchemeGroupVersion.WithKind("Namespace"), nil, toComplete)
}

// completeNames asks for metadata alone: that is the fastest list there is. It
// says nothing when it fails, for a Tab is no place for errors.
func (e *Env) completeNames(ctx context.Context, kind schema.GroupVersionKind, taken []string, prefix string, only ...client.ListOption) ([]string, cobra.ShellCompDirective) {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, CompletionTimeout)
	defer cancel()
	cluster, err := e.Connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	options := append(only, client.Limit(completionLimit))
	if kind.Kind != "Namespace" {
		options = append(options, client.InNamespace(cluster.Namespace))
	}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kind)
	if err := cluster.Client.List(ctx, list, options...); err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	used := map[string]bool{}
	for _, name := range taken {
		used[name] = true
	}
	var names []string
	for _, item := range list.Items {
		if strings.HasPrefix(item.Name, prefix) && !used[item.Name] {
			names = append(names, item.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// CompleteContexts completes the value of --context from the kubeconfig.
func (e *Env) CompleteContexts(_ *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	config, err := e.Config.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for name := range config.Contexts {
		if strings.HasPrefix(name, toComplete) {
			names = append(names, name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
