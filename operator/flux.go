package operator

import (
	"context"
	"errors"
	"time"

	"github.com/go-logr/logr"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	ctrl "sigs.k8s.io/controller-runtime"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
)

const lookForFlux = time.Minute

// ErrFluxHasCome ends an operator that was started before Flux was there: its
// caches and watches are set up once, so it is to be started again.
var ErrFluxHasCome = errors.New("this cluster has Kustomizations of Flux now: start again to follow them")

// hasFlux reports whether the cluster has Kustomizations.
func hasFlux(mgr ctrl.Manager) (bool, error) {
	_, err := mgr.GetRESTMapper().RESTMapping(kustomizev1.GroupVersion.WithKind(kustomizev1.KustomizationKind).GroupKind(), kustomizev1.GroupVersion.Version)
	if apimeta.IsNoMatchError(err) {
		return false, nil
	}
	return err == nil, err
}

// fluxAwaiter ends the operator when Flux has come.
type fluxAwaiter struct {
	every time.Duration
	has   func() (bool, error)
	log   logr.Logger
}

// NeedLeaderElection says that every replica waits: each may lead one day.
func (f *fluxAwaiter) NeedLeaderElection() bool { return false }

// Start waits until Flux has come or the context ends.
func (f *fluxAwaiter) Start(ctx context.Context) error {
	ticker := time.NewTicker(f.every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		switch has, err := f.has(); {
		case err != nil:
			f.log.Error(err, "look whether Flux has come")
		case has:
			return ErrFluxHasCome
		}
	}
}
