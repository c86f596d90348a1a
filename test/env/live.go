package env

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// registerLive has the API server pass requests for the live API on to the operator,
// with the APIService of the manifests. There are no pods that its Service could
// select, so that is another name of this machine.
func (f *Fleet) registerLive(ctx context.Context, manifest string) (*unstructured.Unstructured, error) {
	raw, err := os.ReadFile(manifest)
	if err != nil {
		return nil, err
	}
	api := &unstructured.Unstructured{}
	if err := decodeYAML(raw, api); err != nil {
		return nil, fmt.Errorf("%s: %w", manifest, err)
	}
	_, port, err := net.SplitHostPort(f.operatorLive)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseInt(port, 10, 64)
	if err != nil {
		return nil, err
	}
	name, _, _ := unstructured.NestedString(api.Object, "spec", "service", "name")
	if err := unstructured.SetNestedField(api.Object, number, "spec", "service", "port"); err != nil {
		return nil, err
	}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"},
	}
	if err := f.Client.Create(ctx, service); err != nil {
		return nil, err
	}
	if err := f.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(api.DeepCopy()), fieldOwner, client.ForceOwnership); err != nil {
		return nil, err
	}
	return api, nil
}

// awaitLive waits until the API server has found the live API trustworthy.
func (f *Fleet) awaitLive(ctx context.Context, api *unstructured.Unstructured) error {
	return Until(ctx, 30*time.Second, "the live API is available", func(ctx context.Context) error {
		if err := f.Client.Get(ctx, client.ObjectKeyFromObject(api), api); err != nil {
			return err
		}
		conditions, _, err := unstructured.NestedSlice(api.Object, "status", "conditions")
		if err != nil {
			return Permanent(err)
		}
		for _, c := range conditions {
			if c, ok := c.(map[string]any); ok && c["type"] == "Available" && c["status"] == "True" {
				return nil
			}
		}
		return fmt.Errorf("its conditions are %v; log: %s", conditions, f.Operator.Log)
	})
}
