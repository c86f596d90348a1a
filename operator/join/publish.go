package join

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/jointoken"
	"github.com/nationtech/fleet/bus"
)

// look is how often to look whether the certificates have changed.
const look = time.Minute

//+kubebuilder:rbac:groups="",namespace=fleet-system,resources=configmaps,resourceNames=fleet-trust,verbs=patch

// Publisher publishes what devices are to trust and where their server is, so that whoever
// makes a join token need not know. The leader does.
type Publisher struct {
	client.Client
	Namespace string
	// Operator is the public key that signs, Server the URL that devices connect to.
	Operator, Server string
	// Authorities are as those of Service.
	Authorities bus.Authorities
}

// Start publishes until the context ends, and again whenever something changes.
func (p *Publisher) Start(ctx context.Context) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	last := map[string]string{}
	for {
		now := map[string]string{jointoken.TrustOperator: p.Operator, jointoken.TrustServer: p.Server}
		ca, err := p.Authorities()
		if err != nil {
			return err
		}
		if len(ca) > 0 {
			now[jointoken.TrustCA] = string(ca)
		}
		if !maps.Equal(last, now) {
			cm := corev1ac.ConfigMap(jointoken.TrustConfigMap, p.Namespace).WithData(now)
			if err := p.Apply(ctx, cm, fieldOwner, client.ForceOwnership); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("publish what devices are to trust: %w", err)
			}
			last = now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
