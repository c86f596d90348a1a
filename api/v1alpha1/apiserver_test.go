package v1alpha1_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"
)

// apiServer is a client of the kube-apiserver that this package's tests share.
// Fields that the schema does not know are refused, as kubectl and Flux do.
var apiServer client.Client

func TestMain(m *testing.M) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		fmt.Fprintln(os.Stderr, "KUBEBUILDER_ASSETS is not set: these tests need a kube-apiserver; run `make test`")
		os.Exit(1)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	// Start waits until every CRD is established, so this also proves that the API
	// server accepts the schemas and what their CEL rules cost.
	env := &envtest.Environment{
		CRDDirectoryPaths:     []string{"../../manifests/crd"},
		ErrorIfCRDPathMissing: true,
	}
	// Also after a start that failed halfway.
	defer func() {
		if err := env.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop kube-apiserver:", err)
		}
	}()
	config, err := env.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, "start kube-apiserver:", err)
		return 1
	}
	c, err := client.New(config, client.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, "client of kube-apiserver:", err)
		return 1
	}
	apiServer = client.WithFieldValidation(c, metav1.FieldValidationStrict)
	return m.Run()
}

// tryCreate asks the API server what it would make of the manifest, without
// keeping it.
func tryCreate(t *testing.T, manifest string) (*unstructured.Unstructured, error) {
	t.Helper()
	obj := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(manifest), &obj.Object); err != nil {
		t.Fatalf("manifest of the test: %v\n%s", err, manifest)
	}
	obj.SetNamespace("default")
	err := apiServer.Create(context.Background(), obj, client.DryRunAll)
	return obj, err
}
