// Package jointoken is how a join token is kept: in a Secret of its namespace, from which
// nobody can make the token again. Whoever may delete the Secret may revoke the token.
package jointoken

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

const (
	// SecretType is the type of the Secrets.
	SecretType corev1.SecretType = "fleet.nationtech.io/join-token"
	// Label is on each of them, with the token's ID.
	Label = "fleet.nationtech.io/join-token"
	// AnnotationToken is on a Device that joined with a token, with its ID.
	AnnotationToken = "fleet.nationtech.io/join-token"
)

// What devices are to trust is in a ConfigMap in the operator's namespace that everybody
// can read.
const (
	TrustConfigMap = "fleet-trust"
	// TrustOperator is the public key that signs what devices are told, TrustServer the
	// URL that they connect to, and TrustCA are the certificates that its is signed with.
	TrustOperator = "operator"
	TrustServer   = "server"
	TrustCA       = "ca.crt"
)

// Who approves a device that has joined with a token.
const (
	// ApproveAuto: the token does.
	ApproveAuto = "auto"
	// ApproveManual: somebody does, later.
	ApproveManual = "manual"
)

// Keys of the Secret's data.
const (
	keyHash    = "hash"
	keyExpires = "expires"
	keyUses    = "uses"
	keyUsed    = "used"
	keyApprove = "approve"
	keyLabels  = "labels"
)

// Token is what is kept of a token.
type Token struct {
	Namespace, ID string
	// Hash is the SHA-256 of the token's secret, which is random and long: nothing slower
	// is of use.
	Hash [sha256.Size]byte
	// Expires is when it ceases to be valid.
	Expires time.Time
	// Uses is how many devices may join with it, 0 any number, and Used how many have.
	Uses, Used int
	// AutoApprove approves who joins with it.
	AutoApprove bool
	// Labels are those of the Devices that are made with it.
	Labels map[string]string
	// Created is when it was made.
	Created time.Time
}

// SecretName is the name of the Secret of a token.
func SecretName(id string) string { return "fleet-join-" + id }

// HashOf is what is kept of a secret.
func HashOf(secret string) [sha256.Size]byte { return sha256.Sum256([]byte(secret)) }

// Holds reports whether the secret is this token's.
func (t *Token) Holds(secret string) bool {
	hash := HashOf(secret)
	return subtle.ConstantTimeCompare(hash[:], t.Hash[:]) == 1
}

// UsedUp reports whether n more devices are too many.
func (t *Token) UsedUp(n int) bool { return t.Uses > 0 && t.Used+n > t.Uses }

// Secret keeps a token.
func (t *Token) Secret() *corev1.Secret {
	approve := ApproveManual
	if t.AutoApprove {
		approve = ApproveAuto
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: t.Namespace, Name: SecretName(t.ID), Labels: map[string]string{Label: t.ID}},
		Type:       SecretType,
		Data: map[string][]byte{
			keyHash:    []byte(hex.EncodeToString(t.Hash[:])),
			keyExpires: []byte(t.Expires.UTC().Format(time.RFC3339)),
			keyUses:    []byte(strconv.Itoa(t.Uses)),
			keyUsed:    []byte(strconv.Itoa(t.Used)),
			keyApprove: []byte(approve),
			keyLabels:  []byte(labels.Set(t.Labels).String()),
		},
	}
}

// SetUsed says in a Secret how many devices have joined.
func SetUsed(s *corev1.Secret, used int) { s.Data[keyUsed] = []byte(strconv.Itoa(used)) }

// FromSecret reads the token that a Secret keeps.
func FromSecret(s *corev1.Secret) (*Token, error) {
	fail := func(err error) (*Token, error) {
		return nil, fmt.Errorf("secret %s/%s is no join token: %w", s.Namespace, s.Name, err)
	}
	if s.Type != SecretType {
		return fail(fmt.Errorf("its type is %s, not %s", s.Type, SecretType))
	}
	t := &Token{Namespace: s.Namespace, ID: s.Labels[Label], Created: s.CreationTimestamp.Time}
	if s.Name != SecretName(t.ID) {
		return fail(fmt.Errorf("its label %s is %q, its name another", Label, t.ID))
	}
	if n, err := hex.Decode(t.Hash[:], s.Data[keyHash][:min(len(s.Data[keyHash]), 2*len(t.Hash))]); err != nil || n != len(t.Hash) {
		return fail(errors.New(keyHash + " is not a SHA-256 in hexadecimal"))
	}
	var err error
	if t.Expires, err = time.Parse(time.RFC3339, string(s.Data[keyExpires])); err != nil {
		return fail(fmt.Errorf("%s: %w", keyExpires, err))
	}
	for key, into := range map[string]*int{keyUses: &t.Uses, keyUsed: &t.Used} {
		if *into, err = strconv.Atoi(string(s.Data[key])); err != nil || *into < 0 {
			return fail(fmt.Errorf("%s is not a number of devices", key))
		}
	}
	switch approve := string(s.Data[keyApprove]); approve {
	case ApproveAuto:
		t.AutoApprove = true
	case ApproveManual:
	default:
		return fail(fmt.Errorf("%s is %q, want %s or %s", keyApprove, approve, ApproveAuto, ApproveManual))
	}
	set, err := labels.ConvertSelectorToLabelsMap(string(s.Data[keyLabels]))
	if err != nil {
		return fail(fmt.Errorf("%s: %w", keyLabels, err))
	}
	t.Labels = set
	return t, nil
}
