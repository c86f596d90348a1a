package setup

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	labelManagedBy = "app.kubernetes.io/managed-by"
	labelPartOf    = "app.kubernetes.io/part-of"
	manager        = "fleet-operator"
	fieldOwner     = client.FieldOwner("fleet-setup")
	// certManager is what begins the annotations with which cert-manager marks what it
	// writes.
	certManager = "cert-manager.io/"
)

// secrets are those of one namespace.
type secrets struct {
	client    client.Client
	reader    client.Reader
	namespace string
	report    Report
	// create lets missing ones be made.
	create bool
}

// get returns nil for one that is not there.
func (s secrets) get(ctx context.Context, name string) (*corev1.Secret, error) {
	var reader client.Reader = s.client
	if s.reader != nil {
		reader = s.reader
	}
	secret := &corev1.Secret{}
	err := reader.Get(ctx, types.NamespacedName{Namespace: s.namespace, Name: name}, secret)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get secret %s/%s: %w", s.namespace, name, err)
	}
	return secret, nil
}

// ours reports whether a secret was made here and belongs to nobody else since.
func ours(secret *corev1.Secret) bool {
	if secret.Labels[labelManagedBy] != manager {
		return false
	}
	for a := range secret.Annotations {
		if strings.HasPrefix(a, certManager) {
			return false
		}
	}
	return true
}

// put makes or updates one, unless it is somebody else's. existing is what get has
// returned; what has changed since is a conflict.
func (s secrets) put(ctx context.Context, existing *corev1.Secret, name string, kind corev1.SecretType, data map[string][]byte) error {
	switch {
	case existing == nil && !s.create:
		return fmt.Errorf("secret %s/%s is missing: run fleet-operator setup", s.namespace, name)
	case existing == nil:
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name, Labels: map[string]string{labelManagedBy: manager, labelPartOf: "fleet"}},
			Type:       kind, Data: data,
		}
		if err := s.client.Create(ctx, secret, fieldOwner); err != nil {
			return fmt.Errorf("create secret %s/%s: %w", s.namespace, name, err)
		}
		s.say(name, "made", true)
	case !ours(existing):
		s.say(name, "left as it is: somebody else has made it", false)
	case maps.EqualFunc(existing.Data, data, bytes.Equal):
		s.say(name, "is there", false)
	default:
		changed := existing.DeepCopy()
		changed.Data = data
		if err := s.client.Update(ctx, changed, fieldOwner); err != nil {
			return fmt.Errorf("update secret %s/%s: %w", s.namespace, name, err)
		}
		s.say(name, "updated", true)
	}
	return nil
}

func (s secrets) say(name, what string, changed bool) {
	s.report(fmt.Sprintf("secret %s: %s", name, what), changed)
}
