package setup

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/pki"
)

// certificates are those of a fleet's servers, and the authority's that signs them.
type certificates struct {
	client    client.Client
	reader    client.Reader
	namespace string
	now       func() time.Time
	lifetimes pki.Lifetimes
	report    Report
}

// endpoint is a server, which has a certificate in a secret.
type endpoint struct {
	secret string
	// names of the certificate; nil for those that it has.
	names []string
}

// ensure makes certificates anew that are due, and those that are missing where it may
// create. It returns when to look again: zero for never, when all are somebody else's.
func (c *certificates) ensure(ctx context.Context, create bool, servers []endpoint) (time.Time, error) {
	var wake time.Time
	// The leader and a setup that somebody runs may meet.
	again := func(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }
	err := retry.OnError(retry.DefaultRetry, again, func() (err error) {
		wake, err = c.once(ctx, create, servers)
		return err
	})
	return wake, err
}

func (c *certificates) once(ctx context.Context, create bool, servers []endpoint) (time.Time, error) {
	s := secrets{client: c.client, reader: c.reader, namespace: c.namespace, report: c.report, create: create}
	existing := map[string]*corev1.Secret{}
	mine := servers[:0:0]
	for _, v := range servers {
		secret, err := s.get(ctx, v.secret)
		if err != nil {
			return time.Time{}, err
		}
		if secret != nil && !ours(secret) {
			s.say(v.secret, "left as it is: somebody else has made it", false)
			continue
		}
		if secret == nil && !create {
			continue
		}
		existing[v.secret] = secret
		mine = append(mine, v)
	}
	if len(mine) == 0 {
		return time.Time{}, nil
	}
	ring, err := c.authority(ctx, s)
	if err != nil {
		return time.Time{}, err
	}
	var all []*x509.Certificate
	for _, v := range mine {
		chained, err := c.serve(ctx, s, ring, v, existing[v.secret])
		if err != nil {
			return time.Time{}, err
		}
		chain, err := pki.ParseCertificates(chained)
		if err != nil {
			return time.Time{}, fmt.Errorf("secret %s/%s, %s: %w", c.namespace, v.secret, pki.CertificateKey, err)
		}
		all = append(all, chain[0])
		if v.secret == SecretLiveTLS {
			if err := c.bundle(ctx, pki.EncodeCertificates(ring.Trusted...)); err != nil {
				return time.Time{}, err
			}
		}
	}
	return ring.Wake(c.lifetimes, all...), nil
}

// authority is the one that signs now. One that somebody else has made signs, and is not
// replaced.
func (c *certificates) authority(ctx context.Context, s secrets) (pki.Ring, error) {
	existing, err := s.get(ctx, SecretAuthority)
	if err != nil {
		return pki.Ring{}, err
	}
	var ring pki.Ring
	if existing != nil {
		if ring, err = pki.ParseRing(existing.Data); err != nil {
			return pki.Ring{}, fmt.Errorf("secret %s/%s: %w", c.namespace, SecretAuthority, err)
		}
		if !ours(existing) {
			s.say(SecretAuthority, "signs, and is left as it is: somebody else has made it", false)
			return ring, nil
		}
	}
	ring, changes, err := ring.Advance(c.now(), c.lifetimes)
	if err != nil {
		return pki.Ring{}, err
	}
	data, err := ring.Encode()
	if err != nil {
		return pki.Ring{}, err
	}
	// Before anything is signed with it.
	if err := s.put(ctx, existing, SecretAuthority, corev1.SecretTypeOpaque, data); err != nil {
		return pki.Ring{}, err
	}
	for _, change := range changes {
		c.report(change, true)
	}
	return ring, nil
}

// serve sees to one server's certificate, and returns it.
func (c *certificates) serve(ctx context.Context, s secrets, ring pki.Ring, v endpoint, existing *corev1.Secret) ([]byte, error) {
	data := map[string][]byte{}
	if existing != nil {
		data = maps.Clone(existing.Data)
		if data == nil {
			data = map[string][]byte{}
		}
	}
	names := v.names
	if names == nil && existing != nil {
		chain, err := pki.ParseCertificates(data[pki.CertificateKey])
		if err != nil {
			return nil, fmt.Errorf("secret %s/%s, %s: %w; delete the secret and run fleet-operator setup", c.namespace, v.secret, pki.CertificateKey, err)
		}
		names = pki.Names(chain[0])
	}
	if why := ring.Stale(data[pki.CertificateKey], names, c.now()); existing == nil || why != "" {
		if existing != nil {
			s.say(v.secret, "its certificate is made anew: "+why, true)
		}
		var err error
		if data[pki.CertificateKey], data[pki.PrivateKey], err = ring.Issue(names, c.now(), c.lifetimes); err != nil {
			return nil, fmt.Errorf("certificate %s: %w", v.secret, err)
		}
	}
	data[pki.TrustedKey] = pki.EncodeCertificates(ring.Trusted...)
	return data[pki.CertificateKey], s.put(ctx, existing, v.secret, corev1.SecretTypeTLS, data)
}

// bundle has the API server check the live API's certificate against these, unless
// cert-manager says what it is checked against.
func (c *certificates) bundle(ctx context.Context, trusted []byte) error {
	api := &unstructured.Unstructured{}
	api.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiregistration.k8s.io", Version: "v1", Kind: "APIService"})
	name := live.GroupVersion.Version + "." + live.GroupVersion.Group
	err := c.reader.Get(ctx, types.NamespacedName{Name: name}, api)
	if apierrors.IsNotFound(err) {
		c.report(fmt.Sprintf("apiservice %s: is not there, the live API is not installed; run this again when it is", name), false)
		return nil
	}
	if err != nil {
		return fmt.Errorf("get apiservice %s: %w", name, err)
	}
	for a := range api.GetAnnotations() {
		if strings.HasPrefix(a, certManager) {
			c.report(fmt.Sprintf("apiservice %s: left to cert-manager", name), false)
			return nil
		}
	}
	var spec struct {
		CABundle []byte `json:"caBundle"`
		Skip     bool   `json:"insecureSkipTLSVerify"`
	}
	was, _, err := unstructured.NestedMap(api.Object, "spec")
	if err != nil {
		return fmt.Errorf("apiservice %s: %w", name, err)
	}
	text, err := json.Marshal(was)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &spec); err != nil {
		return fmt.Errorf("apiservice %s: %w", name, err)
	}
	if bytes.Equal(spec.CABundle, trusted) && !spec.Skip {
		c.report(fmt.Sprintf("apiservice %s: is there", name), false)
		return nil
	}
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"caBundle": trusted, "insecureSkipTLSVerify": false}})
	if err != nil {
		return err
	}
	if err := c.client.Patch(ctx, api, client.RawPatch(types.MergePatchType, patch), fieldOwner); err != nil {
		return fmt.Errorf("patch apiservice %s: %w", name, err)
	}
	c.report(fmt.Sprintf("apiservice %s: updated", name), true)
	return nil
}
