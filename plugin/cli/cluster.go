package cli

import (
	"fmt"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/api/v1alpha1"
)

// Cluster is the way to one cluster.
type Cluster struct {
	Client client.WithWatch
	Config *rest.Config
	// Namespace is the one that the flags or the context choose.
	Namespace string
}

// Connect reads the kubeconfig. It does not talk to the cluster yet.
func (e *Env) Connect() (*Cluster, error) {
	// As in kubectl: a person waits, and the API server protects itself.
	return e.connect(50, 300)
}

// ConnectForBulk is Connect for whoever writes many objects, and bounds how many at the
// same time: nothing else slows these down but the API server, which protects itself.
func (e *Env) ConnectForBulk() (*Cluster, error) { return e.connect(-1, 0) }

func (e *Env) connect(qps float32, burst int) (*Cluster, error) {
	config, err := e.Config.ToRESTConfig()
	if err != nil {
		return nil, &configError{err}
	}
	namespace, _, err := e.Config.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, fmt.Errorf("read the namespace of the current context: %w", err)
	}
	config.QPS, config.Burst = qps, burst
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme, Mapper: newMapper()})
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", config.Host, err)
	}
	return &Cluster{Client: c, Config: config, Namespace: namespace}, nil
}

// configError tells that there is no kubeconfig, or one that is of no use.
type configError struct{ err error }

// Error says what is wrong with the kubeconfig.
func (e *configError) Error() string { return "read the cluster's configuration: " + e.err.Error() }

// Unwrap is what is wrong with the kubeconfig.
func (e *configError) Unwrap() error { return e.err }

// Scope is the namespace that was chosen, or all of them.
func (c *Cluster) Scope(all bool) Scope {
	if all {
		return Scope{}
	}
	return Scope{Namespace: c.Namespace}
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		v1alpha1.AddToScheme, live.AddToScheme, kustomizev1.AddToScheme, sourcev1.AddToScheme, appsv1.AddToScheme, authorizationv1.AddToScheme, corev1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register kinds: %w", err)
		}
	}
	return scheme, nil
}

// newMapper knows the few kinds that the plugin asks for. It saves the discovery
// of everything that the cluster has, and a kind that is not installed is a clear
// "not found" of the API server.
func newMapper() meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper(nil)
	for _, kind := range []string{v1alpha1.DeviceKind, v1alpha1.DeploymentKind} {
		mapper.Add(v1alpha1.GroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	for _, kind := range []string{"Heartbeat", "Placement"} {
		mapper.Add(live.GroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	for _, kind := range []string{sourcev1.GitRepositoryKind, sourcev1.OCIRepositoryKind, sourcev1.BucketKind} {
		mapper.Add(sourcev1.GroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	mapper.Add(kustomizev1.GroupVersion.WithKind(kustomizev1.KustomizationKind), meta.RESTScopeNamespace)
	mapper.Add(appsv1.SchemeGroupVersion.WithKind("Deployment"), meta.RESTScopeNamespace)
	mapper.Add(appsv1.SchemeGroupVersion.WithKind("ControllerRevision"), meta.RESTScopeNamespace)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("ConfigMap"), meta.RESTScopeNamespace)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Secret"), meta.RESTScopeNamespace)
	mapper.Add(authorizationv1.SchemeGroupVersion.WithKind("LocalSubjectAccessReview"), meta.RESTScopeNamespace)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Event"), meta.RESTScopeNamespace)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Namespace"), meta.RESTScopeRoot)
	return mapper
}
