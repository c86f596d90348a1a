package operator_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const (
	// nobodys is a namespace in which the operator has no rights of a team's.
	nobodys      = "nobodys"
	operatorUser = "system:serviceaccount:" + systemNamespace + ":fleet-operator"
	// auditPolicy has what the operator asks for written down, with what it sends.
	auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Request
  users: ["` + operatorUser + `"]
- level: None
`
)

// configure has the API server write down what the operator asks for, check owners as
// OpenShift does, and show the live API who asks.
func configure(args *envtest.Arguments, dir, audit string) error {
	policy, front, key := filepath.Join(dir, "audit-policy.yaml"), filepath.Join(dir, "front-proxy.crt"), filepath.Join(dir, "front-proxy.key")
	for name, value := range map[string]string{
		"audit-policy-file": policy, "audit-log-path": audit,
		"enable-admission-plugins":           "OwnerReferencesPermissionEnforcement",
		"requestheader-client-ca-file":       front,
		"proxy-client-cert-file":             front,
		"proxy-client-key-file":              key,
		"requestheader-allowed-names":        "front-proxy",
		"requestheader-group-headers":        "X-Remote-Group",
		"requestheader-username-headers":     "X-Remote-User",
		"requestheader-extra-headers-prefix": "X-Remote-Extra-",
	} {
		args.Append(name, value)
	}
	return errors.Join(os.WriteFile(policy, []byte(auditPolicy), 0o600), writeFrontProxy(front, key))
}

// writeFrontProxy makes the certificate by which the live API knows the API server; it
// is its own authority.
func writeFrontProxy(certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "front-proxy"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

// shipped is what a folder of the manifests installs.
func shipped(dir string) ([]*unstructured.Unstructured, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join("..", "manifests", dir))
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	for _, r := range resources.Resources() {
		raw, err := r.AsYAML()
		if err != nil {
			return nil, err
		}
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(raw, &o.Object); err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

// grant gives the operator the rights of the manifests and a token, and nothing else.
func (w *world) grant(ctx context.Context) error {
	objects, err := shipped("rbac")
	if err != nil {
		return err
	}
	for _, o := range objects {
		// The API server makes kube-system a moment after it is ready.
		deadline := time.Now().Add(20 * time.Second)
		for {
			if err = w.client.Create(ctx, o.DeepCopy()); !apierrors.IsNotFound(err) || time.Now().After(deadline) {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err != nil {
			return fmt.Errorf("install %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	token := &authenticationv1.TokenRequest{}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: "fleet-operator"}}
	if err := w.client.SubResource("token").Create(ctx, account, token); err != nil {
		return fmt.Errorf("ask for the operator's token: %w", err)
	}
	file := clientcmdapi.NewConfig()
	file.Clusters["test"] = &clientcmdapi.Cluster{Server: w.config.Host, CertificateAuthorityData: w.config.CAData}
	file.AuthInfos["operator"] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	file.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "operator"}
	file.CurrentContext = "test"
	w.kubeconfig = filepath.Join(w.seeds, "kubeconfig")
	if err := clientcmd.WriteToFile(*file, w.kubeconfig); err != nil {
		return err
	}
	w.operatorConfig, err = clientcmd.BuildConfigFromFlags("", w.kubeconfig)
	if err != nil {
		return err
	}
	w.operatorConfig.QPS, w.operatorConfig.UserAgent = -1, "fleet-operator"
	return nil
}

// asked is what the operator has asked the API server for since the test server began.
func (w *world) asked() ([]auditv1.Event, error) {
	raw, err := os.ReadFile(w.audit)
	if err != nil {
		return nil, err
	}
	var out []auditv1.Event
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, len(raw)+1)
	for lines.Scan() {
		var e auditv1.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
		if e.UserAgent != replayer {
			out = append(out, e)
		}
	}
	return out, nil
}

// refused is the exit code of the tests: 1 when anything was refused that an operator
// has asked for in any of them.
func (w *world) refused() int {
	all, err := w.asked()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := 0
	for _, e := range all {
		if e.Annotations["authorization.k8s.io/decision"] != "allow" && (e.ObjectRef == nil || e.ObjectRef.Namespace != nobodys) {
			fmt.Fprintf(os.Stderr, "the operator may not %s %s: %s\n", e.Verb, e.RequestURI, e.Annotations["authorization.k8s.io/reason"])
			code = 1
		}
	}
	return code
}

// newLiveFleet starts an operator with the live API, which the API server passes
// requests on to until the test ends.
func newLiveFleet(t *testing.T) *fleet {
	t.Helper()
	listener, err := net.Listen("tcp", "localhost:0")
	must(t, err)
	address := listener.Addr().String()
	must(t, listener.Close())
	f := newFleetAt(t, address)
	_, port, err := net.SplitHostPort(address)
	must(t, err)
	number, err := strconv.ParseInt(port, 10, 64)
	must(t, err)
	objects, err := shipped("live")
	must(t, err)
	for _, o := range objects {
		switch o.GetKind() {
		case "APIService":
			must(t, unstructured.SetNestedField(o.Object, number, "spec", "service", "port"))
			// This operator makes its own certificate, which nobody has signed.
			must(t, unstructured.SetNestedField(o.Object, true, "spec", "insecureSkipTLSVerify"))
			unstructured.RemoveNestedField(o.Object, "spec", "caBundle")
		case "Service":
			// There are no pods that it could select, so it is another name of this machine.
			o.Object["spec"] = map[string]any{"type": "ExternalName", "externalName": "localhost"}
		}
		must(t, f.client.Create(t.Context(), o))
		t.Cleanup(func() {
			if err := f.client.Delete(context.Background(), o); err != nil {
				t.Error(err)
			}
		})
		if o.GetKind() == "APIService" {
			eventually(t, func() string { return available(f, o) })
		}
	}
	return f
}

func available(f *fleet, api *unstructured.Unstructured) string {
	if err := f.client.Get(f.Context(), client.ObjectKeyFromObject(api), api); err != nil {
		return err.Error()
	}
	conditions, _, err := unstructured.NestedSlice(api.Object, "status", "conditions")
	must(f.T, err)
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == "Available" && c["status"] == "True" {
			return ""
		}
	}
	return fmt.Sprintf("the live API is not available: %v", conditions)
}

// as is a client of somebody.
func (w *world) as(t *testing.T, user string) client.WithWatch {
	t.Helper()
	config := rest.CopyConfig(w.config)
	config.Impersonate.UserName = user
	c, err := client.NewWithWatch(config, client.Options{Scheme: w.client.Scheme()})
	must(t, err)
	return c
}
