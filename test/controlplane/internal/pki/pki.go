// Package pki makes the certificates of a control plane: one authority for the
// API server and its clients, and another for the front proxy, because a
// certificate of the latter may claim to be any user.
package pki

import (
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
	"os"
	"path/filepath"
	"time"
)

const validity = 10 * 365 * 24 * time.Hour

// Dir is the folder of keys and certificates.
type Dir string

// Path returns the path of a file in the folder.
func (d Dir) Path(file string) string { return filepath.Join(string(d), file) }

// Files that Ensure makes, next to a .key for each .crt.
const (
	CA               = "ca.crt"
	FrontProxyCA     = "front-proxy-ca.crt"
	FrontProxyClient = "front-proxy-client.crt"
	Serving          = "serving.crt"
	ServingKey       = "serving.key"
	// ServiceAccountKey signs tokens; ServiceAccountPub verifies them.
	ServiceAccountKey = "service-account.key"
	ServiceAccountPub = "service-account.pub"
)

// Ensure makes what is missing. The marker is written last, so that a folder
// from a killed start is made anew, whole.
func (d Dir) Ensure() error {
	marker := d.Path("complete")
	if _, err := os.Stat(marker); err == nil {
		return nil
	}
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return err
	}
	for _, ca := range []string{"ca", "front-proxy-ca"} {
		if err := d.newAuthority(ca); err != nil {
			return fmt.Errorf("make authority %s: %w", ca, err)
		}
	}
	serving := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	frontProxy := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "front-proxy-client"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, leaf := range []struct {
		ca, name string
		cert     *x509.Certificate
	}{{"ca", "serving", serving}, {"front-proxy-ca", "front-proxy-client", frontProxy}} {
		cert, key, err := d.sign(leaf.ca, leaf.cert)
		if err == nil {
			err = d.write(leaf.name, cert, key)
		}
		if err != nil {
			return fmt.Errorf("make certificate %s: %w", leaf.name, err)
		}
	}
	if err := d.newServiceAccountKey(); err != nil {
		return fmt.Errorf("make the service account key: %w", err)
	}
	return os.WriteFile(marker, nil, 0o600)
}

// Client makes a client certificate for a user and its groups, in PEM.
func (d Dir) Client(user string, groups []string) (cert, key []byte, err error) {
	if user == "" {
		return nil, nil, errors.New("a client certificate needs a user name")
	}
	return d.sign("ca", &x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func (d Dir) newAuthority(name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "controlplane-" + name},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	if err := stamp(template); err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return err
	}
	return d.write(name, encode("CERTIFICATE", der), keyPEM)
}

func (d Dir) newServiceAccountKey() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := encodeKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.Path(ServiceAccountKey), private, 0o600); err != nil {
		return err
	}
	return os.WriteFile(d.Path(ServiceAccountPub), encode("PUBLIC KEY", public), 0o644)
}

// sign completes the template and signs it with the named authority.
func (d Dir) sign(authority string, template *x509.Certificate) (cert, key []byte, err error) {
	ca, caKey, err := d.load(authority)
	if err != nil {
		return nil, nil, fmt.Errorf("load authority %s: %w", authority, err)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	if err := stamp(template); err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, private.Public(), caKey)
	if err != nil {
		return nil, nil, err
	}
	key, err = encodeKey(private)
	return encode("CERTIFICATE", der), key, err
}

func (d Dir) load(name string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certDER, err := decode(d.Path(name + ".crt"))
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := decode(d.Path(name + ".key"))
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParseECPrivateKey(keyDER)
	return cert, key, err
}

func (d Dir) write(name string, cert, key []byte) error {
	if err := os.WriteFile(d.Path(name+".key"), key, 0o600); err != nil {
		return err
	}
	return os.WriteFile(d.Path(name+".crt"), cert, 0o644)
}

// stamp sets the serial number and the validity; it begins in the past for
// machines that set their clock back after start.
func stamp(c *x509.Certificate) error {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	c.SerialNumber = serial
	c.NotBefore = time.Now().Add(-time.Hour)
	c.NotAfter = time.Now().Add(validity)
	return err
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	return encode("EC PRIVATE KEY", der), err
}

func decode(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM", path)
	}
	return block.Bytes, nil
}
