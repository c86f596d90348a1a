package join

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/jointoken"
	"github.com/nationtech/fleet/contracts"
)

// ticket is a claim that waits for its token.
type ticket struct {
	claim contracts.JoinClaim
	token contracts.JoinToken
	done  chan<- outcome
}

type outcome struct {
	verdict
	// kept is what is known of the token, and secret what keeps it, without its data; nil
	// if there is none.
	kept   *jointoken.Token
	secret *corev1.Secret
	err    error
}

// counter redeems tokens: a token is read once, and its use is written once, for all who
// ask meanwhile. Uses that are counted and then come to nothing are lost.
type counter struct {
	client.Client
	judge func(contracts.JoinClaim, contracts.JoinToken, *jointoken.Token, int) verdict
	log   *slog.Logger

	mu      sync.Mutex
	waiting map[types.NamespacedName][]ticket
}

// redeem decides on a claim, and counts it when it is accepted.
func (c *counter) redeem(ctx context.Context, claim contracts.JoinClaim, token contracts.JoinToken) (outcome, error) {
	done := make(chan outcome, 1)
	key := types.NamespacedName{Namespace: token.Namespace, Name: jointoken.SecretName(token.ID)}
	c.mu.Lock()
	tickets, running := c.waiting[key]
	if c.waiting == nil {
		c.waiting = map[types.NamespacedName][]ticket{}
	}
	c.waiting[key] = append(tickets, ticket{claim, token, done})
	c.mu.Unlock()
	if !running {
		// Not for this one alone: it must not end with this one's context.
		go c.run(context.WithoutCancel(ctx), key)
	}
	select {
	case o := <-done:
		return o, o.err
	case <-ctx.Done():
		return outcome{}, context.Cause(ctx)
	}
}

// run redeems a token until nobody waits for it.
func (c *counter) run(ctx context.Context, key types.NamespacedName) {
	for {
		c.mu.Lock()
		tickets := c.waiting[key]
		if len(tickets) == 0 {
			delete(c.waiting, key)
			c.mu.Unlock()
			return
		}
		c.waiting[key] = nil
		c.mu.Unlock()
		outcomes, err := c.batch(ctx, key, tickets)
		for n, t := range tickets {
			if err != nil {
				t.done <- outcome{err: err}
				continue
			}
			t.done <- outcomes[n]
		}
	}
}

const (
	batchTimeout = 10 * time.Second
	maxConflicts = 5
)

func (c *counter) batch(ctx context.Context, key types.NamespacedName, tickets []ticket) ([]outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	for conflicts := 0; ; conflicts++ {
		outcomes, err := c.try(ctx, key, tickets)
		if apierrors.IsConflict(err) && conflicts < maxConflicts {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("redeem join token %s: %w", key, err)
		}
		return outcomes, nil
	}
}

func (c *counter) try(ctx context.Context, key types.NamespacedName, tickets []ticket) ([]outcome, error) {
	secret := &corev1.Secret{}
	var kept *jointoken.Token
	switch err := c.Get(ctx, key, secret); {
	case apierrors.IsNotFound(err):
		secret = nil
	case apierrors.IsForbidden(err):
		// A namespace that nobody has devices join. Whoever makes up a token shall not learn
		// which those are.
		c.log.Warn("join tokens of this namespace can't be read: bind the ClusterRole fleet-operator-team there", "namespace", key.Namespace, "error", err)
		secret = nil
	case err != nil:
		return nil, err
	default:
		if kept, err = jointoken.FromSecret(secret); err != nil {
			return nil, err
		}
	}
	outcomes, taken := make([]outcome, len(tickets)), 0
	for n, t := range tickets {
		outcomes[n] = outcome{verdict: c.judge(t.claim, t.token, kept, taken), kept: kept}
		if a := outcomes[n].action; a == create || a == pin {
			taken++
		}
	}
	if secret == nil {
		return outcomes, nil
	}
	if taken > 0 {
		patch := client.MergeFromWithOptions(secret.DeepCopy(), client.MergeFromWithOptimisticLock{})
		jointoken.SetUsed(secret, kept.Used+taken)
		if err := c.Patch(ctx, secret, patch, fieldOwner); err != nil {
			return nil, err
		}
	}
	secret.Data = nil
	for n := range outcomes {
		outcomes[n].secret = secret
	}
	return outcomes, nil
}
