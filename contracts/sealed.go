package contracts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nkeys"
)

// CurveKey is the public half of the key that secrets are sealed to for a device, in
// the device's own word.
type CurveKey struct {
	// Key is a public NKey that begins with X.
	Key string `json:"key"`
	// Signature with the device's identity of the device's ID and the key: nobody else
	// can have secrets sealed to a key of theirs.
	Signature []byte `json:"signature"`
}

// NewCurveKey has a device's identity vouch for a curve key.
func NewCurveKey(identity nkeys.KeyPair, d DeviceID, key string) (*CurveKey, error) {
	signature, err := identity.Sign(curveStatement(d, key))
	if err != nil {
		return nil, fmt.Errorf("vouch for the curve key: %w", err)
	}
	return &CurveKey{Key: key, Signature: signature}, nil
}

// Verify reports whether the identity, a public NKey that begins with U, vouches for the
// key of the device.
func (c *CurveKey) Verify(d DeviceID, identity string) error {
	if err := verify(identity, curveStatement(d, c.Key), c.Signature); err != nil {
		if errors.Is(err, ErrBadSignature) {
			return fmt.Errorf("the identity %s does not vouch for the curve key %s", clip(identity), clip(c.Key))
		}
		return err
	}
	return nil
}

func curveStatement(d DeviceID, key string) []byte {
	return statement(kindCurve, string(d), key, nil)
}

// Sealed is bytes by name that one device can read, and nobody else.
type Sealed struct {
	// To is the device's curve key, From the one that was made for the sealing and that
	// nobody has any longer.
	To   string `json:"to"`
	From string `json:"from"`
	Data []byte `json:"data"`
}

// Same reports whether two are the same sealed bytes. What is in them may be the same
// all the same.
func (s *Sealed) Same(other *Sealed) bool {
	if s == nil || other == nil {
		return s == other
	}
	return s.To == other.To && s.From == other.From && bytes.Equal(s.Data, other.Data)
}

// Sealer seals to any number of devices, with a key of its own that goes with it: who
// learns any other key of the operator's can open nothing.
type Sealer struct {
	pair   nkeys.KeyPair
	public string
}

// NewSealer makes a Sealer.
func NewSealer() (*Sealer, error) {
	pair, err := nkeys.CreateCurveKeys()
	if err != nil {
		return nil, fmt.Errorf("make a key to seal with: %w", err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("make a key to seal with: %w", err)
	}
	return &Sealer{pair: pair, public: public}, nil
}

// Public is the public half of the Sealer's key.
func (s *Sealer) Public() string { return s.public }

// Seal seals secrets to a curve key.
func (s *Sealer) Seal(secrets map[string][]byte, to string) (*Sealed, error) {
	plain, err := json.Marshal(secrets)
	if err != nil {
		return nil, fmt.Errorf("seal secrets: %w", err)
	}
	data, err := s.pair.Seal(plain, to)
	if err != nil {
		return nil, fmt.Errorf("seal secrets to %s: %w", clip(to), err)
	}
	return &Sealed{To: to, From: s.public, Data: data}, nil
}

// NotForKeyError tells that secrets are sealed to another key than the one at hand.
type NotForKeyError struct{ To, Have string }

func (e *NotForKeyError) Error() string {
	return fmt.Sprintf("they are sealed to %s, and this device's key is %s", clip(e.To), clip(e.Have))
}

// Open opens what was sealed to the curve key.
func (s *Sealed) Open(curve nkeys.KeyPair) (map[string][]byte, error) {
	have, err := curve.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("open sealed secrets: %w", err)
	}
	if have != s.To {
		return nil, fmt.Errorf("open sealed secrets: %w", &NotForKeyError{To: s.To, Have: have})
	}
	plain, err := curve.Open(s.Data, s.From)
	if err != nil {
		return nil, fmt.Errorf("open sealed secrets: %w", err)
	}
	var secrets map[string][]byte
	if err := json.Unmarshal(plain, &secrets); err != nil {
		// Not the error itself: it may have a piece of what it could not read.
		return nil, errors.New("open sealed secrets: what was sealed can't be read")
	}
	return secrets, nil
}

// Secrets lists what the score needs of DesiredState.Sealed.
func (s *ReconcileScore) Secrets() (all []Secret) {
	switch {
	case s.KVM != nil:
		return s.KVM.secrets()
	case s.Podman == nil:
		return nil
	}
	all = append(all, s.Podman.PullSecrets...)
	for _, list := range [][]Container{s.Podman.InitContainers, s.Podman.Containers} {
		for i := range list {
			for _, e := range list[i].SecretEnv {
				all = append(all, e.Secret)
			}
		}
	}
	for i := range s.Podman.Volumes {
		if files := s.Podman.Volumes[i].SecretFiles; files != nil {
			for _, f := range *files {
				all = append(all, f.Secret)
			}
		}
	}
	return all
}

func curveKey(field, key string) error {
	if !nkeys.IsValidPublicCurveKey(key) {
		return fmt.Errorf("field %s: %q is not a public NKey that begins with X", field, clip(key))
	}
	return nil
}

func (c *CurveKey) validate() error {
	if c == nil {
		return nil
	}
	return firstError(curveKey("curve.key", c.Key), signature(c.Signature))
}

func (s *Sealed) validate(score *ReconcileScore) error {
	if s == nil {
		if needs := score.Secrets(); len(needs) > 0 {
			return fmt.Errorf("the score needs %d secrets, and none are sealed", len(needs))
		}
		return nil
	}
	if len(s.Data) == 0 {
		return errors.New("field sealed.data is empty")
	}
	return firstError(curveKey("sealed.to", s.To), curveKey("sealed.from", s.From))
}

func (s *Secret) validate() error {
	if s.Name == "" || len(s.Name) > maxSecretName {
		return fmt.Errorf("the name of a secret has %d bytes, from 1 to %d are allowed", len(s.Name), maxSecretName)
	}
	if !isHex(s.Digest, 32) {
		return fmt.Errorf("secret %q: the digest is not 32 hexadecimal digits", clip(s.Name))
	}
	return nil
}
