package manifests_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/operator/setup"
	"github.com/nationtech/fleet/pki"
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

// newAPIServer starts a real API server with nothing in it.
func newAPIServer(t *testing.T) (client.Client, *rest.Config) {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Fatal("KUBEBUILDER_ASSETS is not set: this test needs a real kube-apiserver; run `make test`")
	}
	api := &envtest.Environment{}
	// Also after a start that failed halfway.
	t.Cleanup(func() {
		if err := api.Stop(); err != nil {
			t.Error(err)
		}
	})
	config, err := api.Start()
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c, config
}

// setUp does what the Job does, with its rights.
func setUp(t *testing.T, config *rest.Config) {
	t.Helper()
	config = rest.CopyConfig(config)
	config.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:fleet-system:fleet-setup"}
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	run := func() error {
		return setup.Run(t.Context(), setup.Options{
			Client: c, Namespace: system, NATSTLSDir: "/etc/nats-tls", Clock: clock.RealClock{}, Lifetimes: pki.Usual, Report: func(string, bool) {},
		})
	}
	// The authorizer learns of new roles a moment later.
	deadline := time.Now().Add(10 * time.Second)
	for err = run(); err != nil; err = run() {
		if !apierrors.IsForbidden(err) || time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestDefaultIsInstalled applies default on a real and empty API server, lets the Job run
// in it, with its own rights, and asks then what the operator may do. Flux's kinds are
// left out: Flux has to be there.
func TestDefaultIsInstalled(t *testing.T) {
	c, config := newAPIServer(t)
	kinds, wanted := map[string]int{}, map[string]bool{}
	for _, o := range render(t, "default") {
		if strings.HasSuffix(o.GroupVersionKind().Group, "fluxcd.io") {
			kinds["Flux "+o.GetKind()]++
			continue
		}
		kinds[o.GetKind()]++
		for _, v := range podTemplate(t, o).Spec.Volumes {
			if v.Secret == nil {
				continue
			}
			for _, item := range v.Secret.Items {
				wanted[v.Secret.SecretName+"/"+item.Key] = true
			}
			if len(v.Secret.Items) == 0 {
				wanted[v.Secret.SecretName] = true
			}
		}
		if err := c.Create(t.Context(), o, client.FieldValidation("Strict")); err != nil {
			t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
	setUp(t, config)
	for want := range wanted {
		name, key, _ := strings.Cut(want, "/")
		secret := &corev1.Secret{}
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: system, Name: name}, secret); err != nil {
			t.Errorf("the pods need secret %s: %v", want, err)
		} else if _, ok := secret.Data[key]; key != "" && !ok {
			t.Errorf("the pods need %s of secret %s, which has it not", key, name)
		}
	}
	for kind, want := range map[string]int{
		"CustomResourceDefinition": 2, "Namespace": 2, "ServiceAccount": 3, "ClusterRole": 8, "ClusterRoleBinding": 3, "Role": 5, "ConfigMap": 1,
		"RoleBinding": 7, "Deployment": 1, "StatefulSet": 1, "Job": 1, "Service": 3, "APIService": 1, "NetworkPolicy": 4,
		"ValidatingAdmissionPolicy": 1, "ValidatingAdmissionPolicyBinding": 1, "Flux GitRepository": 1, "Flux Kustomization": 1,
	} {
		if kinds[kind] != want {
			t.Errorf("%d objects of kind %s, want %d", kinds[kind], kind, want)
		}
	}
	const fleet, leases = "fleet.nationtech.io", "coordination.k8s.io"
	for _, tt := range []struct {
		namespace, verb, group, resource string
		want                             bool
	}{
		{"fleet-system", "create", leases, "leases", true},
		{"shops", "create", leases, "leases", false},
		{"shops", "patch", fleet, "devices", true},
		{"shops", "create", fleet, "devices", true},
		{"shops", "delete", fleet, "devices", false},
		{"fleet-demo", "get", "", "secrets", true},
		{"fleet-demo", "list", "", "secrets", false},
		{"shops", "get", "", "secrets", false},
		{"fleet-system", "get", "", "secrets", false},
		{"shops", "patch", "", "configmaps", false},
		{"fleet-system", "create", "", "configmaps", false},
		{"fleet-system", "create", fleet, "deployments", false},
		{"shops", "delete", fleet, "deployments", false},
	} {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: "system:serviceaccount:fleet-system:fleet-operator",
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Group: tt.group, Namespace: tt.namespace, Verb: tt.verb, Resource: tt.resource,
			},
		}}
		// The authorizer learns of new roles a moment later, one by one.
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			ask := review.DeepCopy()
			if err := c.Create(t.Context(), ask); err != nil {
				t.Fatal(err)
			}
			if ask.Status.Allowed == tt.want {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("may the operator %s %s in %s? %v, want %v", tt.verb, tt.resource, tt.namespace, ask.Status.Allowed, tt.want)
				break
			}
		}
	}
}

// TestPodsAreRestricted has the API server judge our own pods by the strictest of the
// Pod Security Standards, which the namespace demands:
// https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
func TestPodsAreRestricted(t *testing.T) {
	c, _ := newAPIServer(t)
	pods := 0
	// All of default is in it, and more.
	objects := render(t, "cluster")
	for _, o := range objects {
		if o.GetKind() == "Namespace" {
			if err := c.Create(t.Context(), o.DeepCopy()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, o := range objects {
		template := podTemplate(t, o)
		if len(template.Spec.Containers) == 0 {
			continue
		}
		pods++
		pod := &corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: template.Spec}
		pod.Namespace, pod.Name = o.GetNamespace(), o.GetName()
		if err := c.Create(t.Context(), pod.DeepCopy(), client.DryRunAll); err != nil {
			t.Errorf("the pod of %s %s: %v", o.GetKind(), o.GetName(), err)
		}
		for i := range pod.Spec.Containers {
			container := &pod.Spec.Containers[i]
			// The standard does not ask for it; we do.
			if s := container.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
				t.Errorf("%s, container %s may write to its image", o.GetName(), container.Name)
			}
			if container.Name == "fleet-operator" && container.Image != "localhost/harmony-fleet-operator:latest" {
				t.Errorf("the operator's image is %s", container.Image)
			}
			container.SecurityContext.AllowPrivilegeEscalation = nil
		}
		if err := c.Create(t.Context(), pod, client.DryRunAll); !apierrors.IsForbidden(err) {
			t.Errorf("the API server does not demand what it should: %v", err)
		}
	}
	if pods != 3 {
		t.Errorf("%d pods, want those of operator, NATS and setup", pods)
	}
}

// podTemplate is what the pods of an object are made of; empty when it makes none.
func podTemplate(t *testing.T, o *unstructured.Unstructured) corev1.PodTemplateSpec {
	t.Helper()
	switch o.GetKind() {
	case "Deployment":
		d := &appsv1.Deployment{}
		convert(t, o, d)
		return d.Spec.Template
	case "StatefulSet":
		s := &appsv1.StatefulSet{}
		convert(t, o, s)
		for _, claim := range s.Spec.VolumeClaimTemplates {
			s.Spec.Template.Spec.Volumes = append(s.Spec.Template.Spec.Volumes, corev1.Volume{Name: claim.Name, VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name + "-" + s.Name + "-0"},
			}})
		}
		return s.Spec.Template
	case "Job":
		j := &batchv1.Job{}
		convert(t, o, j)
		return j.Spec.Template
	}
	return corev1.PodTemplateSpec{}
}

func convert(t *testing.T, from *unstructured.Unstructured, to any) {
	t.Helper()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(from.Object, to, true); err != nil {
		t.Fatal(err)
	}
}

// TestCertManagerTakesTheSecretsOver holds the overlay to what the pods mount and to what
// setup leaves alone.
func TestCertManagerTakesTheSecretsOver(t *testing.T) {
	certificates := map[string]*unstructured.Unstructured{}
	for _, o := range render(t, "cert-manager") {
		switch o.GetKind() {
		case "Certificate":
			name, _, _ := unstructured.NestedString(o.Object, "spec", "secretName")
			certificates[name] = o
		case "Job":
			if args := podTemplate(t, o).Spec.Containers[0].Args; args[len(args)-1] != "--external-certificates" {
				t.Errorf("setup is run with %q", args)
			}
		case "APIService":
			if from := o.GetAnnotations()["cert-manager.io/inject-ca-from"]; from != system+"/"+setup.SecretLiveTLS {
				t.Errorf("the API server checks the live API against %q", from)
			}
		}
	}
	for secret, name := range map[string]string{setup.SecretNATSTLS: "fleet-nats.fleet-system.svc", setup.SecretLiveTLS: "fleet-operator-live.fleet-system.svc"} {
		c := certificates[secret]
		if c == nil {
			t.Errorf("nobody issues %s", secret)
			continue
		}
		names, _, _ := unstructured.NestedStringSlice(c.Object, "spec", "dnsNames")
		if !slices.Contains(names, name) || c.GetNamespace() != system {
			t.Errorf("%s of namespace %s is for %q", secret, c.GetNamespace(), names)
		}
	}
}

// TestClusterIsWhatSetupMakesItsConfigurationFor holds the overlay to the names that setup
// puts into the certificate and the routes.
func TestClusterIsWhatSetupMakesItsConfigurationFor(t *testing.T) {
	c, _ := newAPIServer(t)
	for _, o := range render(t, "cluster") {
		if o.GetKind() == "Namespace" {
			if err := c.Create(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}
	}
	var (
		set      *appsv1.StatefulSet
		operator []string
		servers  int
	)
	services := map[string]*corev1.Service{}
	for _, o := range render(t, "cluster") {
		switch o.GetKind() {
		case "StatefulSet":
			set = &appsv1.StatefulSet{}
			convert(t, o, set)
		case "Service":
			services[o.GetName()] = &corev1.Service{}
			convert(t, o, services[o.GetName()])
		case "Deployment":
			operator = podTemplate(t, o).Spec.Containers[0].Args
		case "Job":
			for _, arg := range podTemplate(t, o).Spec.Containers[0].Args {
				fmt.Sscanf(arg, "--nats-servers=%d", &servers)
			}
		case "PodDisruptionBudget":
			budget := &policyv1.PodDisruptionBudget{}
			convert(t, o, budget)
			if at := budget.Spec.MaxUnavailable; at == nil || at.IntValue() != 1 || !selects(budget.Spec.Selector, set.Spec.Template.Labels) {
				t.Errorf("servers may be taken down like this: %+v", budget.Spec)
			}
		default:
			continue
		}
		// The API server's word on all that the overlay changes.
		if err := c.Create(t.Context(), o, client.FieldValidation("Strict"), client.DryRunAll); err != nil {
			t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
	if servers != int(*set.Spec.Replicas) || servers != 3 {
		t.Errorf("setup makes a cluster of %d servers, and there are %d", servers, *set.Spec.Replicas)
	}
	if s := services[set.Spec.ServiceName]; s == nil || s.Spec.ClusterIP != corev1.ClusterIPNone || !s.Spec.PublishNotReadyAddresses {
		t.Errorf("the servers' names come from %+v, want a headless Service that has them before they are ready", s)
	}
	if set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement {
		t.Error("the second server waits for the first, which waits for it")
	}
	if err := setup.Run(t.Context(), setup.Options{
		Client: c, Namespace: system, NATSServers: servers, NATSTLSDir: "/etc/nats-tls", Clock: clock.RealClock{}, Lifetimes: pki.Usual, Report: func(string, bool) {},
	}); err != nil {
		t.Fatal(err)
	}
	config, certificate := &corev1.Secret{}, &corev1.Secret{}
	for name, into := range map[string]*corev1.Secret{setup.SecretNATS: config, setup.SecretNATSTLS: certificate} {
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: system, Name: name}, into); err != nil {
			t.Fatal(err)
		}
	}
	chain, err := pki.ParseCertificates(certificate.Data[pki.CertificateKey])
	if err != nil {
		t.Fatal(err)
	}
	var urls []string
	for n := range servers {
		name := fmt.Sprintf("%s-%d.%s", set.Name, n, set.Spec.ServiceName)
		urls = append(urls, "tls://"+name+":4222")
		if !strings.Contains(string(config.Data[setup.ConfigFile]), `"tls://`+name+`:6222"`) {
			t.Errorf("there is no route to %s:\n%s", name, config.Data[setup.ConfigFile])
		}
		if chain[0].VerifyHostname(name) != nil {
			t.Errorf("the certificate is not for %s", name)
		}
	}
	if want := "--nats-url=" + strings.Join(urls, ","); !slices.Contains(operator, want) || !slices.Contains(operator, fmt.Sprintf("--nats-replicas=%d", servers)) {
		t.Errorf("the operator is run with %q, want %s", operator, want)
	}
	port := slices.ContainsFunc(set.Spec.Template.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool {
		return p.Name == "cluster" && p.ContainerPort == bus.ClusterPort
	})
	items := slices.ContainsFunc(set.Spec.Template.Spec.Volumes, func(v corev1.Volume) bool {
		return v.Name == "tls" && slices.ContainsFunc(v.Secret.Items, func(k corev1.KeyToPath) bool { return k.Key == pki.TrustedKey })
	})
	if !port || !items {
		t.Errorf("the servers have no cluster port, or nothing to check one another against: %v, %v", port, items)
	}
}

// TestCertManagerIssuesForACluster holds the component to what servers check one another by.
func TestCertManagerIssuesForACluster(t *testing.T) {
	for _, o := range render(t, "testdata/cert-manager-cluster") {
		if o.GetKind() != "Certificate" || o.GetName() != setup.SecretNATSTLS {
			continue
		}
		names, _, _ := unstructured.NestedStringSlice(o.Object, "spec", "dnsNames")
		usages, _, _ := unstructured.NestedStringSlice(o.Object, "spec", "usages")
		for n := range 3 {
			if name := fmt.Sprintf("fleet-nats-%d.fleet-nats-nodes", n); !slices.Contains(names, name) {
				t.Errorf("it is not for %s but for %q", name, names)
			}
		}
		if !slices.Contains(usages, "client auth") {
			t.Errorf("it is for %q, and servers show it to one another as clients", usages)
		}
		return
	}
	t.Error("nobody issues the servers' certificate")
}
