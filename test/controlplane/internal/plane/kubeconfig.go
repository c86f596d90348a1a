package plane

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/nationtech/fleet/test/controlplane/internal/pki"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// kubeconfig renders a self-contained file: it works wherever it is copied.
func kubeconfig(server string, dir pki.Dir, user string, auth *clientcmdapi.AuthInfo) ([]byte, error) {
	ca, err := os.ReadFile(dir.Path(pki.CA))
	if err != nil {
		return nil, err
	}
	const cluster = "controlplane"
	config := clientcmdapi.NewConfig()
	config.Clusters[cluster] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	config.AuthInfos[user] = auth
	config.Contexts[cluster] = &clientcmdapi.Context{Cluster: cluster, AuthInfo: user}
	config.CurrentContext = cluster
	return clientcmd.Write(*config)
}

// UserKubeconfig mints a client certificate for a user and its groups.
func UserKubeconfig(server string, dir pki.Dir, user string, groups []string) ([]byte, error) {
	cert, key, err := dir.Client(user, groups)
	if err != nil {
		return nil, err
	}
	return kubeconfig(server, dir, user, &clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key})
}

// ServiceAccountKubeconfig asks the API server for a token of a service
// account, which has to exist.
func ServiceAccountKubeconfig(ctx context.Context, client dynamic.Interface, server string, dir pki.Dir, namespace, name string, validity time.Duration) ([]byte, error) {
	request := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authentication.k8s.io/v1",
		"kind":       "TokenRequest",
		"metadata":   map[string]any{"name": name},
		"spec":       map[string]any{"expirationSeconds": int64(validity.Seconds())},
	}}
	accounts := schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
	answer, err := client.Resource(accounts).Namespace(namespace).Create(ctx, request, metav1.CreateOptions{}, "token")
	if err != nil {
		return nil, fmt.Errorf("request a token for service account %s/%s: %w", namespace, name, err)
	}
	token, _, _ := unstructured.NestedString(answer.Object, "status", "token")
	return kubeconfig(server, dir, "system:serviceaccount:"+namespace+":"+name, &clientcmdapi.AuthInfo{Token: token})
}

// writeKubeconfigs makes those of the administrator and of the components.
func writeKubeconfigs(l Layout) error {
	for path, who := range map[string]struct {
		user   string
		groups []string
	}{
		l.Kubeconfig(): {"admin", []string{"system:masters"}},
		l.path("kube-controller-manager.kubeconfig"): {"system:kube-controller-manager", nil},
	} {
		if _, err := os.Stat(path); err == nil {
			continue
		}
		raw, err := UserKubeconfig(l.APIServer(), l.PKI(), who.user, who.groups)
		if err != nil {
			return fmt.Errorf("kubeconfig of %s: %w", who.user, err)
		}
		if err := os.WriteFile(path+".tmp", raw, 0o600); err != nil {
			return err
		}
		if err := os.Rename(path+".tmp", path); err != nil {
			return err
		}
	}
	return nil
}

// DynamicClient returns a client that is not throttled.
func DynamicClient(kubeconfig string) (dynamic.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	return dynamic.NewForConfig(config)
}
