// Package pki makes the certificates that a fleet's servers prove themselves with, and
// says when which of them is to be made anew. It imports nothing else of the fleet and
// does no I/O.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
)

// Authority signs the certificates of servers.
type Authority struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// NewAuthority makes an authority with a name of its own, which holds from one moment to
// another.
func NewAuthority(from, until time.Time) (*Authority, error) {
	key, serial, err := random()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"fleet"}, CommonName: fmt.Sprintf("fleet authority %x", serial.Bytes()[:4])},
		NotBefore:             from,
		NotAfter:              until,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	c, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &Authority{c, key}, nil
}

// CrossSign returns a certificate of the authority that another one has signed: who
// trusts only the other trusts this one with it.
func (a *Authority) CrossSign(by *Authority) (*x509.Certificate, error) {
	_, serial, err := random()
	if err != nil {
		return nil, err
	}
	c := a.Certificate
	return sign(&x509.Certificate{
		SerialNumber: serial, Subject: c.Subject, SubjectKeyId: c.SubjectKeyId, NotBefore: c.NotBefore, NotAfter: earlier(c.NotAfter, by.Certificate.NotAfter),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: c.KeyUsage,
	}, by.Certificate, a.Key.Public(), by.Key)
}

// Issue makes a key and the certificate of a server with it, for DNS names and IP
// addresses. It does not outlive the authority.
func (a *Authority) Issue(names []string, from, until time.Time) (*x509.Certificate, crypto.Signer, error) {
	if len(names) == 0 {
		return nil, nil, errors.New("a certificate needs a name")
	}
	key, serial, err := random()
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{"fleet"}}, NotBefore: from, NotAfter: earlier(until, a.Certificate.NotAfter),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		// The servers of a cluster show it to one another, whichever of two has called.
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	c, err := sign(template, a.Certificate, key.Public(), a.Key)
	return c, key, err
}

func random() (*ecdsa.PrivateKey, *big.Int, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	serial := make([]byte, 16)
	if _, err := rand.Read(serial); err != nil {
		return nil, nil, fmt.Errorf("make a serial number: %w", err)
	}
	// Positive, and never shorter than what a name is made of.
	serial[0] = serial[0]&0x7f | 0x40
	return key, new(big.Int).SetBytes(serial), nil
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// EncodeCertificates writes certificates as PEM, in their order.
func EncodeCertificates(certificates ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certificates {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: c.Raw})...)
	}
	return out
}

// ParseCertificates reads certificates as PEM. What is between them is an error: it might
// be a key that was to be kept.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != pemCertificate {
			return nil, fmt.Errorf("certificates hold a %s", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(out)+1, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("no certificate as PEM")
	}
	return out, nil
}

// EncodeKey writes a key as PEM.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}

// ParseAuthority reads an authority's certificate and key as PEM.
func ParseAuthority(certificate, key []byte) (*Authority, error) {
	all, err := ParseCertificates(certificate)
	if err != nil {
		return nil, err
	}
	c := all[0]
	if !c.IsCA {
		return nil, fmt.Errorf("the certificate of %q is not an authority's", c.Subject)
	}
	block, _ := pem.Decode(key)
	if block == nil {
		return nil, errors.New("no key as PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T can't sign", parsed)
	}
	if public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(c.PublicKey) {
		return nil, fmt.Errorf("the key is not that of the certificate of %q", c.Subject)
	}
	return &Authority{c, signer}, nil
}
