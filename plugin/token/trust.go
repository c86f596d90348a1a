package token

import (
	"context"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/jointoken"
	"github.com/nationtech/fleet/contracts"
)

// Operator is what the operator says of itself to whoever makes tokens.
type Operator struct {
	// Fingerprint is that of the key by which devices know the operator.
	Fingerprint string `json:"fingerprint"`
	// Server is the URL that devices connect to.
	Server string `json:"server"`
}

// readOperator reads what the operator in a namespace has published.
func readOperator(ctx context.Context, c client.Reader, namespace string) (Operator, error) {
	name := "ConfigMap " + namespace + "/" + jointoken.TrustConfigMap
	cm := &corev1.ConfigMap{}
	switch err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: jointoken.TrustConfigMap}, cm); {
	case apierrors.IsNotFound(err):
		return Operator{}, fmt.Errorf("there is no %s, in which the operator says what devices are to trust: is it installed there? Else give its --operator-namespace", name)
	case err != nil:
		return Operator{}, fmt.Errorf("read what devices are to trust: get %s: %w", name, err)
	}
	key := cm.Data[jointoken.TrustOperator]
	if key == "" {
		return Operator{}, fmt.Errorf("%s says nothing yet: the operator, which writes into it what devices are to trust, has not run. Does it run now? kubectl get pods -n %s", name, namespace)
	}
	fingerprint, err := contracts.Fingerprint(key)
	if err != nil {
		return Operator{}, fmt.Errorf("%s: %s: %w", name, jointoken.TrustOperator, err)
	}
	server := cm.Data[jointoken.TrustServer]
	if server == "" {
		return Operator{}, fmt.Errorf("%s does not say which server devices connect to: start the operator with --nats-public-url", name)
	}
	return Operator{Fingerprint: fingerprint, Server: server}, nil
}

// The operator's own account, and the role that lets it read the tokens of a namespace.
const operatorAccount, operatorRole = "fleet-operator", "fleet-operator-team"

// unreadable says what to do when the operator in a namespace may not read a token;
// nothing when it may, and when whoever makes the token may not know that.
func unreadable(ctx context.Context, c client.Client, operatorNamespace, namespace string) string {
	review := &authorizationv1.LocalSubjectAccessReview{}
	review.Namespace = namespace
	review.Spec.User = "system:serviceaccount:" + operatorNamespace + ":" + operatorAccount
	review.Spec.ResourceAttributes = &authorizationv1.ResourceAttributes{Namespace: namespace, Verb: "get", Version: "v1", Resource: "secrets"}
	if err := c.Create(ctx, review); err != nil || review.Status.Allowed {
		return ""
	}
	return fmt.Sprintf("The operator may not read tokens in namespace %s, so no device can join there with this one, until: kubectl -n %s create rolebinding %s --clusterrole=%s --serviceaccount=%s:%s",
		namespace, namespace, operatorAccount, operatorRole, operatorNamespace, operatorAccount)
}
