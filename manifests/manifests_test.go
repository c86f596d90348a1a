package manifests_test

import (
	"os"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// render builds one of the folders as `kubectl apply -k` does.
func render(t *testing.T, dir string) []*unstructured.Unstructured {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []*unstructured.Unstructured
	for _, r := range resources.Resources() {
		raw, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(raw, &u.Object); err != nil {
			t.Fatal(err)
		}
		out = append(out, u)
	}
	return out
}

// TestDefaultIsAcceptedByAnAPIServer applies everything, strictly, to a real one.
// Flux's kinds are left out: Flux has to be there.
func TestDefaultIsAcceptedByAnAPIServer(t *testing.T) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Fatal("KUBEBUILDER_ASSETS is not set: this test needs a real kube-apiserver; run `make test`")
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
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, o := range render(t, "default") {
		if strings.HasSuffix(o.GroupVersionKind().Group, "fluxcd.io") {
			kinds["Flux "+o.GetKind()]++
			continue
		}
		kinds[o.GetKind()]++
		if err := c.Create(t.Context(), o, client.FieldValidation("Strict")); err != nil {
			t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
	for kind, want := range map[string]int{
		"CustomResourceDefinition": 2, "Namespace": 1, "ServiceAccount": 1, "ClusterRole": 1, "ClusterRoleBinding": 1, "Role": 1,
		"RoleBinding": 1, "Deployment": 1, "StatefulSet": 1, "Service": 1, "Flux GitRepository": 1, "Flux Kustomization": 1,
	} {
		if kinds[kind] != want {
			t.Errorf("%d objects of kind %s, want %d", kinds[kind], kind, want)
		}
	}
}

// TestPodsAreRestricted holds our own pods to what the namespace's label demands:
// https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
func TestPodsAreRestricted(t *testing.T) {
	pods := 0
	for _, o := range render(t, "default") {
		var spec corev1.PodSpec
		switch o.GetKind() {
		case "Deployment":
			d := &appsv1.Deployment{}
			convert(t, o, d)
			spec = d.Spec.Template.Spec
		case "StatefulSet":
			s := &appsv1.StatefulSet{}
			convert(t, o, s)
			spec = s.Spec.Template.Spec
		default:
			continue
		}
		pods++
		if p := spec.SecurityContext; p == nil || p.RunAsNonRoot == nil || !*p.RunAsNonRoot || p.SeccompProfile == nil {
			t.Errorf("%s: pod security context %+v", o.GetName(), p)
		}
		for _, c := range spec.Containers {
			s := c.SecurityContext
			if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.Capabilities == nil ||
				len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
				t.Errorf("%s, container %s: security context %+v", o.GetName(), c.Name, s)
			}
			if c.Name == "fleet-operator" && c.Image != "localhost/harmony-fleet-operator:latest" {
				t.Errorf("the operator's image is %s", c.Image)
			}
		}
	}
	if pods != 2 {
		t.Errorf("%d pods, want those of operator and NATS", pods)
	}
}

func convert(t *testing.T, from *unstructured.Unstructured, to any) {
	t.Helper()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(from.Object, to, true); err != nil {
		t.Fatal(err)
	}
}
