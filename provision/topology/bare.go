package topology

import (
	"fmt"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// K8sBare is a Kubernetes cluster that somebody else looks after: it is a client, and
// prepares nothing. It is for a step that only has to apply objects.
type K8sBare struct {
	Config *rest.Config
	Client client.Client
}

// K8sBareFromEnv is the cluster of KUBECONFIG, of ~/.kube/config, or of the pod that this
// program runs in, in this order.
func K8sBareFromEnv() (*K8sBare, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w; set KUBECONFIG", err)
	}
	return NewK8sBare(cfg)
}

// NewK8sBare is the cluster of a configuration.
func NewK8sBare(cfg *rest.Config) (*K8sBare, error) {
	c, err := client.New(cfg, client.Options{})
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", cfg.Host, err)
	}
	return &K8sBare{Config: cfg, Client: c}, nil
}
