package bus

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"os"

	"github.com/nats-io/nkeys"
)

// Keys are the operator's. All are made from one seed, so that there is one secret to
// keep: the user's key is the seed's own, the others are derived from it.
type Keys struct {
	// User connects to the account of operators, System to the system's.
	User, System nkeys.KeyPair
	// Issuer signs the answers to the server's question who may connect.
	Issuer nkeys.KeyPair
	// Signer signs what devices are told. Its public key is what a device pins when it
	// joins.
	Signer nkeys.KeyPair
	// Curve opens what devices seal to the operator.
	Curve nkeys.KeyPair
}

// ReadKeys reads the operator's keys from the file with its seed, see NewSeed.
func ReadKeys(seedFile string) (*Keys, error) {
	text, err := os.ReadFile(seedFile)
	if err != nil {
		return nil, fmt.Errorf("read the operator's seed: %w", err)
	}
	keys, err := KeysOf(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", seedFile, err)
	}
	return keys, nil
}

// KeysOf derives the operator's keys from its seed.
func KeysOf(seed []byte) (*Keys, error) {
	seed = bytes.TrimSpace(seed)
	prefix, raw, err := nkeys.DecodeSeed(seed)
	if err != nil {
		return nil, fmt.Errorf("the operator's seed is no NKey seed: %w", err)
	}
	if prefix != nkeys.PrefixByteUser {
		return nil, fmt.Errorf("the operator's seed is that of a %s, want a user's (it begins with SU)", prefix)
	}
	k := &Keys{}
	if k.User, err = nkeys.FromSeed(seed); err != nil {
		return nil, fmt.Errorf("the operator's seed: %w", err)
	}
	for _, d := range []struct {
		purpose string
		prefix  nkeys.PrefixByte
		into    *nkeys.KeyPair
	}{
		{"system account", nkeys.PrefixByteUser, &k.System},
		{"auth callout", nkeys.PrefixByteAccount, &k.Issuer},
		{"desired state", nkeys.PrefixByteOperator, &k.Signer},
		{"sealed to the operator", nkeys.PrefixByteCurve, &k.Curve},
	} {
		secret, err := hkdf.Key(sha256.New, raw, nil, "fleet "+d.purpose, 32)
		if err != nil {
			return nil, fmt.Errorf("derive the operator's keys: %w", err)
		}
		if *d.into, err = keyPair(d.prefix, secret); err != nil {
			return nil, fmt.Errorf("derive the operator's keys: %w", err)
		}
	}
	return k, nil
}

// ServerConfig is what the server of an operator with these keys has to know: who the
// operator is, and that it says which devices may connect. Without TLS it speaks in
// clear, and without a cluster it is by itself. Sites are the public NKeys of sites'
// servers, by the site's name.
func (k *Keys) ServerConfig(tls *ServerTLS, cluster *ServerCluster, sites map[string]string) ([]byte, error) {
	var public [3]string
	for n, pair := range []nkeys.KeyPair{k.User, k.System, k.Issuer} {
		var err error
		if public[n], err = pair.PublicKey(); err != nil {
			return nil, fmt.Errorf("the operator's keys: %w", err)
		}
	}
	return ServerConfig(ServerAuth{OperatorKeys: public[:1], SystemKeys: public[1:2], Issuer: public[2], TLS: tls, Cluster: cluster, Sites: sites})
}

func keyPair(prefix nkeys.PrefixByte, secret []byte) (nkeys.KeyPair, error) {
	seed, err := nkeys.EncodeSeed(prefix, secret)
	if err != nil {
		return nil, err
	}
	if prefix == nkeys.PrefixByteCurve {
		return nkeys.FromCurveSeed(seed)
	}
	return nkeys.FromSeed(seed)
}
