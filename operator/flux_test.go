package operator_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/pkg/runtime/leaderelection"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/operator"
)

// kustomizations is the kind of Flux, as far as its name goes.
func kustomizations() *apiextensionsv1.CustomResourceDefinition {
	keep := true
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "kustomizations.kustomize.toolkit.fluxcd.io"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "kustomize.toolkit.fluxcd.io", Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "kustomizations", Singular: "kustomization", Kind: "Kustomization", ListKind: "KustomizationList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true, Schema: &apiextensionsv1.CustomResourceValidation{
					OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &keep},
				},
			}},
		},
	}
}

// installFlux makes the kind until the test ends: the other tests' operators shall not
// wait for objects of a kind that goes.
func installFlux(t *testing.T) {
	t.Helper()
	scheme := runtime.NewScheme()
	must(t, apiextensionsv1.AddToScheme(scheme))
	c, err := client.New(shared.config, client.Options{Scheme: scheme})
	must(t, err)
	crd := kustomizations()
	must(t, c.Create(t.Context(), crd))
	t.Cleanup(func() {
		ctx := context.Background()
		if err := c.Delete(ctx, crd); err != nil {
			t.Error(err)
		}
		eventually(t, func() string {
			if err := c.Get(ctx, client.ObjectKeyFromObject(crd), crd); !apierrors.IsNotFound(err) {
				return "the kind is still there"
			}
			return ""
		})
	})
	eventually(t, func() string {
		must(t, c.Get(t.Context(), client.ObjectKeyFromObject(crd), crd))
		for _, condition := range crd.Status.Conditions {
			if condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue {
				return ""
			}
		}
		return fmt.Sprintf("the kind is not established: %+v", crd.Status.Conditions)
	})
}

func TestAnOperatorThatWasThereBeforeFluxEndsWhenItComes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// What it logs tells that it has looked.
	ended, looked := make(chan error, 1), make(chan struct{}, 1)
	log := funcr.New(func(_, line string) {
		if strings.Contains(line, "no Kustomizations of Flux") {
			looked <- struct{}{}
		}
	}, funcr.Options{})
	go func() {
		ended <- operator.Run(ctx, rest.CopyConfig(shared.operatorConfig), log, operator.Options{
			Bus:       bus.Options{URL: shared.nats, SeedFile: filepath.Join(shared.seeds, "operator")},
			Namespace: systemNamespace, MetricsAddr: "0", HealthAddr: "0",
			Metrics: prometheus.NewRegistry(), LookForFlux: 100 * time.Millisecond,
			LeaderElection: leaderelection.Options{LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 100 * time.Millisecond},
		})
	}()
	select {
	case err := <-ended:
		t.Fatalf("it has ended before Flux came: %v", err)
	case <-looked:
	}
	installFlux(t)
	select {
	case err := <-ended:
		if !errors.Is(err, operator.ErrFluxHasCome) {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it goes on 30 s after Flux has come")
	}
}
