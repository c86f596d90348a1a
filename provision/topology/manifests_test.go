package topology_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleet/provision/score"
	"github.com/nationtech/fleet/provision/topology"
)

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestManifestsAreAppliedToAClusterThatIsThere applies the fleet's kinds, and an object of
// one, to a real API server.
func TestManifestsAreAppliedToAClusterThatIsThere(t *testing.T) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Skip("KUBEBUILDER_ASSETS is not set, and this needs a real kube-apiserver: run `make test`")
	}
	api := &envtest.Environment{}
	config, err := api.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := api.Stop(); err != nil {
			t.Error(err)
		}
	})
	admin, err := api.AddUser(envtest.User{Name: "admin", Groups: []string{"system:masters"}}, config)
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := admin.KubeConfig()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", path)
	bare, err := topology.K8sBareFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	m, err := topology.FromKustomization("the fleet's kinds", "../../manifests/crd")
	if err != nil {
		t.Fatal(err)
	}
	kinds := len(m.Objects)
	// What needs the kinds and the namespace stands before them.
	m.Objects = append([]*unstructured.Unstructured{
		object(t, "apiVersion: fleet.nationtech.io/v1alpha1\nkind: Device\nmetadata: {name: till-7, namespace: shops}\nspec: {approved: true}\n"),
		object(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: shops}\ndata: {a: b}\n"),
		object(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shops}\n"),
	}, m.Objects...)
	interpret := func() score.Outcome {
		t.Helper()
		outcome, err := score.Score[*topology.K8sBare](m).Interpret(t.Context(), bare)
		if err != nil {
			t.Fatal(err)
		}
		return outcome
	}
	if first := interpret(); !first.Changed || kinds == 0 {
		t.Errorf("%+v of %d kinds", first, kinds)
	}
	if second := interpret(); second.Changed {
		t.Errorf("the second time: %+v", second)
	}
	drifted := &corev1.ConfigMap{}
	if err := bare.Client.Get(t.Context(), client.ObjectKey{Namespace: "shops", Name: "c"}, drifted); err != nil {
		t.Fatal(err)
	}
	drifted.Data["a"] = "x"
	if err := bare.Client.Update(t.Context(), drifted); err != nil {
		t.Fatal(err)
	}
	if third := interpret(); !third.Changed || !strings.Contains(third.What, "1 of") {
		t.Errorf("after drift: %+v", third)
	}
}

func TestWithoutAClusterItSaysWhatIsMissing(t *testing.T) {
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := topology.K8sBareFromEnv(); err == nil || !strings.Contains(err.Error(), "KUBECONFIG") {
		t.Errorf("%v", err)
	}
}
