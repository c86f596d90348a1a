package pki

import (
	"crypto/x509"
	"fmt"
)

// Names of what a ring is kept as. Those of Kubernetes' TLS secrets mean the same as
// there: TrustedKey is what servers are checked against.
const (
	CertificateKey = "tls.crt"
	PrivateKey     = "tls.key"
	TrustedKey     = "ca.crt"

	nextCertificateKey = "next.crt"
	nextPrivateKey     = "next.key"
	crossKey           = "cross.crt"
)

// Encode writes a ring as named PEMs.
func (r Ring) Encode() (map[string][]byte, error) {
	key, err := EncodeKey(r.Current.Key)
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{
		CertificateKey: EncodeCertificates(r.Current.Certificate), PrivateKey: key, TrustedKey: EncodeCertificates(r.Trusted...),
	}
	if len(r.Cross) > 0 {
		out[crossKey] = EncodeCertificates(r.Cross...)
	}
	if r.Next == nil {
		return out, nil
	}
	if out[nextPrivateKey], err = EncodeKey(r.Next.Key); err != nil {
		return nil, err
	}
	out[nextCertificateKey] = EncodeCertificates(r.Next.Certificate)
	return out, nil
}

// ParseRing reads a ring from named PEMs. Two are enough: an authority's certificate and
// its key.
func ParseRing(data map[string][]byte) (Ring, error) {
	var r Ring
	var err error
	if r.Current, err = ParseAuthority(data[CertificateKey], data[PrivateKey]); err != nil {
		return Ring{}, fmt.Errorf("%s and %s: %w", CertificateKey, PrivateKey, err)
	}
	r.Trusted = []*x509.Certificate{r.Current.Certificate}
	if text, ok := data[TrustedKey]; ok {
		if r.Trusted, err = ParseCertificates(text); err != nil {
			return Ring{}, fmt.Errorf("%s: %w", TrustedKey, err)
		}
	}
	if text, ok := data[crossKey]; ok {
		if r.Cross, err = ParseCertificates(text); err != nil {
			return Ring{}, fmt.Errorf("%s: %w", crossKey, err)
		}
	}
	text, ok := data[nextCertificateKey]
	if !ok {
		return r, nil
	}
	if r.Next, err = ParseAuthority(text, data[nextPrivateKey]); err != nil {
		return Ring{}, fmt.Errorf("%s and %s: %w", nextCertificateKey, nextPrivateKey, err)
	}
	if len(r.Cross) == 0 || !signed(r.Cross[0], r.Current) {
		return Ring{}, fmt.Errorf("%s does not begin with what the current authority has signed of the next", crossKey)
	}
	return r, nil
}

func signed(c *x509.Certificate, by *Authority) bool {
	return c.CheckSignatureFrom(by.Certificate) == nil
}
