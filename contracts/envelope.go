package contracts

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nkeys"
)

// MaxEnvelopeSize bounds a value of BucketDesiredState, in bytes: what a device is
// told, and the signature around it.
const MaxEnvelopeSize = MaxDesiredStateSize + 1<<10

// MaxIssued is the highest number of an order, which every reader of JSON still takes
// for the number that it is. Numbers are microseconds of the operator's clock where
// that has not gone back, so they last for two centuries.
const MaxIssued = 1<<53 - 1

// What small things take at most, in bytes.
const (
	maxWithdrawalSize = 512
	maxHandoverSize   = 512
)

// Envelope is a value of BucketDesiredState: what a device is told, with the
// operator's signature. Exactly one of Value and Withdrawal is set.
type Envelope struct {
	V int `json:"v"`
	// Key is the public NKey of who signed, which begins with O.
	Key string `json:"key"`
	// Signature is over the device, the deployment and the bytes of Value or
	// Withdrawal as they are here.
	Signature []byte `json:"signature"`
	// Value is a DesiredState.
	Value json.RawMessage `json:"value,omitempty"`
	// Withdrawal tells that the deployment is not to run any longer.
	Withdrawal json.RawMessage `json:"withdrawal,omitempty"`
}

// Withdrawal takes back what a device was told for a Deployment.
type Withdrawal struct {
	V          int            `json:"v"`
	Deployment DeploymentName `json:"deployment"`
	// Issued is its number, see DesiredState.
	Issued int64 `json:"issued"`
}

// Handover tells devices to trust another key of the operator's from now on. It is
// signed with the one that they trust.
type Handover struct {
	V int `json:"v"`
	// From and To are public NKeys that begin with O.
	From string `json:"from"`
	To   string `json:"to"`
	// Issued grows from handover to handover, so that an old one does not lead back.
	Issued    int64  `json:"issued"`
	Signature []byte `json:"signature"`
}

// Order is what an envelope comes to for one Deployment of a device.
type Order struct {
	Deployment DeploymentName
	// Issued is the order's number: the higher one counts.
	Issued int64
	// Desired is nil when the deployment is not to run any longer.
	Desired *DesiredState
	// Envelope is the order as it was signed.
	Envelope []byte
}

// Same reports whether two orders with one number are one order, whoever signed them.
func (o Order) Same(other Order) bool {
	a, errA := DecodeEnvelope(o.Envelope)
	b, errB := DecodeEnvelope(other.Envelope)
	return errA == nil && errB == nil && bytes.Equal(a.Value, b.Value) && bytes.Equal(a.Withdrawal, b.Withdrawal)
}

// ErrBadSignature tells that a signature is not of what it is said to be of: the value
// was changed, or is for another device or deployment.
var ErrBadSignature = errors.New("the signature is not of this value for this device and deployment")

// UntrustedKeyError tells that something is signed with a key that is not trusted.
type UntrustedKeyError struct {
	// Got signed it, Want would have counted.
	Got, Want string
}

func (e *UntrustedKeyError) Error() string {
	return fmt.Sprintf("it is signed with %s, and %s is trusted", clip(e.Got), clip(e.Want))
}

// Signer signs what devices are told.
type Signer struct {
	public  string
	private ed25519.PrivateKey
}

// NewSigner makes a Signer of an operator's key pair. It keeps the private key ready:
// the pair itself derives it anew for each signature, which takes as long as to sign.
func NewSigner(pair nkeys.KeyPair) (*Signer, error) {
	seed, err := pair.Seed()
	if err != nil {
		return nil, fmt.Errorf("the key to sign with: %w", err)
	}
	prefix, raw, err := nkeys.DecodeSeed(seed)
	if err != nil {
		return nil, fmt.Errorf("the key to sign with: %w", err)
	}
	if prefix != nkeys.PrefixByteOperator {
		return nil, fmt.Errorf("the key to sign with is that of a %s, want an operator's", prefix)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("the key to sign with: %w", err)
	}
	return &Signer{public: public, private: ed25519.NewKeyFromSeed(raw)}, nil
}

// Public is the public half, which begins with O.
func (s *Signer) Public() string { return s.public }

// Tell signs an encoded DesiredState for a device.
func (s *Signer) Tell(d DeviceID, n DeploymentName, value []byte) ([]byte, error) {
	return Encode(Envelope{Key: s.public, Value: value, Signature: ed25519.Sign(s.private, statement(kindDesired, string(d), string(n), value))})
}

// Withdraw signs an encoded Withdrawal for a device.
func (s *Signer) Withdraw(d DeviceID, n DeploymentName, value []byte) ([]byte, error) {
	return Encode(Envelope{Key: s.public, Withdrawal: value, Signature: ed25519.Sign(s.private, statement(kindWithdrawal, string(d), string(n), value))})
}

// Again signs what another key has signed; whether that one counts is for the caller
// to look at before.
func (s *Signer) Again(d DeviceID, n DeploymentName, e Envelope) ([]byte, error) {
	if e.Withdrawal != nil {
		return s.Withdraw(d, n, e.Withdrawal)
	}
	return s.Tell(d, n, e.Value)
}

// HandOver signs that devices are to trust another key.
func (s *Signer) HandOver(to string, issued int64) (Handover, error) {
	h := Handover{V: Version, From: s.public, To: to, Issued: issued}
	h.Signature = ed25519.Sign(s.private, h.statement())
	return h, h.validate()
}

// What is signed, so that a signature of one kind never passes for another's.
const (
	kindDesired    = "desired-state"
	kindWithdrawal = "withdrawal"
	kindHandover   = "handover"
	kindCurve      = "curve-key"
)

// statement is the bytes that are signed. None of the parts but the last may have a
// line break, so they come apart in one way only.
func statement(kind, first, second string, value []byte) []byte {
	out := make([]byte, 0, 32+len(kind)+len(first)+len(second)+len(value))
	out = fmt.Appendf(out, "fleet.nationtech.io/%d %s\n%s\n%s\n", Version, kind, first, second)
	return append(out, value...)
}

func (h *Handover) statement() []byte {
	return statement(kindHandover, h.From, h.To, fmt.Append(nil, h.Issued))
}

// Verify reports whether the one who is trusted has signed the handover.
func (h *Handover) Verify(trusted string) error {
	if h.From != trusted {
		return &UntrustedKeyError{Got: h.From, Want: trusted}
	}
	return verify(h.From, h.statement(), h.Signature)
}

// Verify reports whether the one who is trusted has signed this for the device and
// deployment.
func (e *Envelope) Verify(d DeviceID, n DeploymentName, trusted string) error {
	if e.Key != trusted {
		return &UntrustedKeyError{Got: e.Key, Want: trusted}
	}
	kind, value := kindDesired, e.Value
	if e.Withdrawal != nil {
		kind, value = kindWithdrawal, e.Withdrawal
	}
	return verify(e.Key, statement(kind, string(d), string(n), value), e.Signature)
}

func verify(key string, statement, signature []byte) error {
	public, err := nkeys.FromPublicKey(key)
	if err != nil {
		return fmt.Errorf("key %q: %w", clip(key), err)
	}
	if public.Verify(statement, signature) != nil {
		return ErrBadSignature
	}
	return nil
}

// DecodeEnvelope reads a value of BucketDesiredState. What is in it is read by Order,
// after Verify where that matters.
func DecodeEnvelope(data []byte) (Envelope, error) {
	return decode[Envelope](data)
}

// DecodeHandover reads a Handover.
func DecodeHandover(data []byte) (Handover, error) { return decode[Handover](data) }

// DecodeWithdrawal reads a Withdrawal.
func DecodeWithdrawal(data []byte) (Withdrawal, error) {
	return decode[Withdrawal](data)
}

// DecodeOrder reads an envelope with the order for a deployment in it. It does not look
// at the signature.
func DecodeOrder(data []byte, n DeploymentName) (Order, error) {
	e, err := DecodeEnvelope(data)
	if err != nil {
		return Order{}, err
	}
	return e.Order(data, n)
}

// Order reads what is in the envelope, of which data are the bytes.
func (e *Envelope) Order(data []byte, n DeploymentName) (Order, error) {
	o := Order{Envelope: data}
	if e.Withdrawal != nil {
		w, err := DecodeWithdrawal(e.Withdrawal)
		if err != nil {
			return Order{}, err
		}
		o.Deployment, o.Issued = w.Deployment, w.Issued
	} else {
		d, err := DecodeDesiredState(e.Value)
		if err != nil {
			return Order{}, err
		}
		o.Deployment, o.Issued, o.Desired = d.Deployment, d.Issued, &d
	}
	if o.Deployment != n {
		return Order{}, fmt.Errorf("the value of deployment %s is of deployment %s", n, o.Deployment)
	}
	return o, nil
}

func (e *Envelope) validate() error {
	switch {
	case e.Value == nil && e.Withdrawal == nil:
		return errors.New("none of value and withdrawal is set, exactly one must be")
	case e.Value != nil && e.Withdrawal != nil:
		return errors.New("value and withdrawal are both set, exactly one must be")
	}
	return firstError(operatorKey("key", e.Key), signature(e.Signature))
}

func (w *Withdrawal) validate() error {
	if _, err := ParseDeploymentName(string(w.Deployment)); err != nil {
		return fmt.Errorf("field deployment: %w", err)
	}
	return issued(w.Issued)
}

func (h *Handover) validate() error {
	return firstError(operatorKey("from", h.From), operatorKey("to", h.To), issued(h.Issued), signature(h.Signature))
}

func issued(n int64) error {
	if n < 1 || n > MaxIssued {
		return fmt.Errorf("field issued: %d is not between 1 and %d", n, int64(MaxIssued))
	}
	return nil
}

func operatorKey(field, key string) error {
	if !nkeys.IsValidPublicOperatorKey(key) {
		return fmt.Errorf("field %s: %q is not a public NKey that begins with O", field, clip(key))
	}
	return nil
}

func signature(s []byte) error {
	if len(s) != ed25519.SignatureSize {
		return fmt.Errorf("field signature has %d bytes, a signature has %d", len(s), ed25519.SignatureSize)
	}
	return nil
}
