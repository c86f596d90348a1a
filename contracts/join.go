package contracts

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nkeys"
)

// JoinRequest is what a device asks that wants to join, or to know how it stands. The
// subject that it comes by has the device's public key.
type JoinRequest struct {
	V int `json:"v"`
	// Device is which device it is, or wants to be.
	Device DeviceID `json:"device"`
	// Nonce is repeated in the answer, which nobody can have recorded before therefore.
	Nonce string `json:"nonce"`
	// Claim is a JoinClaim, sealed to the operator by the curve key Sender; without one
	// the device only asks.
	Claim  []byte `json:"claim,omitempty"`
	Sender string `json:"sender,omitempty"`
}

// JoinClaim is what a device wants to join with.
type JoinClaim struct {
	V int `json:"v"`
	// Device and PublicKey are again those of the request and of its subject: nobody
	// else can use what was sealed.
	Device    DeviceID `json:"device"`
	PublicKey string   `json:"publicKey"`
	// Token is a join token's text.
	Token string `json:"token"`
	// Time is what the device takes for now.
	Time time.Time `json:"time"`
}

// JoinReply carries a JoinStatement as it was signed.
type JoinReply struct {
	V         int    `json:"v"`
	Statement []byte `json:"statement"`
	Signature []byte `json:"signature"`
}

// JoinStatement is the operator's answer.
type JoinStatement struct {
	V int `json:"v"`
	// Nonce and PublicKey are those of the request.
	Nonce     string `json:"nonce"`
	PublicKey string `json:"publicKey"`
	// Operator is the public key that signs this and everything that the device is told,
	// Curve the one that secrets for the operator are sealed to.
	Operator string `json:"operator"`
	Curve    string `json:"curve"`
	// CA are the certificates, as PEM, that the server's is signed with; empty for those
	// that every system trusts.
	CA string `json:"ca,omitempty"`
	// Time is now, as the operator takes it.
	Time time.Time `json:"time"`
	// Standing is how the device stands, Reason why a claim was refused, and Message
	// both in words.
	Standing JoinStanding `json:"standing"`
	Reason   JoinReason   `json:"reason,omitempty"`
	Message  string       `json:"message,omitempty"`
	// Namespace is where the Device is.
	Namespace string `json:"namespace,omitempty"`
}

// JoinStanding is how a device stands.
type JoinStanding string

// Standings.
const (
	// StandingUnknown: no Device has the ID and the key.
	StandingUnknown JoinStanding = "Unknown"
	// StandingPending: it has joined, and waits for approval.
	StandingPending JoinStanding = "Pending"
	// StandingApproved: it may connect.
	StandingApproved JoinStanding = "Approved"
	// StandingShutOut: somebody has said that it may not.
	StandingShutOut JoinStanding = "ShutOut"
	// StandingRefused: its claim was refused, the reason says why.
	StandingRefused JoinStanding = "Refused"
)

// JoinReason is why a claim was refused.
type JoinReason string

// Reasons. They are those of the operator's events as well.
const (
	// JoinUnknownToken: there is no such token, or its secret is another.
	JoinUnknownToken JoinReason = "UnknownToken"
	// JoinTokenExpired: the token has been valid once.
	JoinTokenExpired JoinReason = "TokenExpired"
	// JoinTokenUsedUp: as many devices have joined with it as may.
	JoinTokenUsedUp JoinReason = "TokenUsedUp"
	// JoinIDTaken: another fleet's namespace has a Device of this ID.
	JoinIDTaken JoinReason = "IDTaken"
	// JoinKeyMismatch: the Device of this ID has another key; it was set up anew.
	JoinKeyMismatch JoinReason = "PublicKeyMismatch"
	// JoinShutOut: somebody has said that the device may not connect.
	JoinShutOut JoinReason = "ShutOut"
	// JoinClockOff: the device's clock is wrong.
	JoinClockOff JoinReason = "ClockOff"
	// JoinBadRequest: the request can't be read.
	JoinBadRequest JoinReason = "BadRequest"
	// JoinUnavailable: the operator can't say now; asking again may help.
	JoinUnavailable JoinReason = "Unavailable"
)

// Limits of what is asked and answered, in bytes.
const (
	MaxJoinRequestSize = 4 << 10
	MaxJoinReplySize   = 64 << 10
	maxJoinToken       = 256
	minNonce, maxNonce = 16, 64
)

// MaxClockSkew is how far a device's clock may be off when it joins.
const MaxClockSkew = 5 * time.Minute

func (r *JoinRequest) validate() error {
	if _, err := ParseDeviceID(string(r.Device)); err != nil {
		return fmt.Errorf("field device: %w", err)
	}
	if len(r.Nonce) < minNonce || len(r.Nonce) > maxNonce {
		return fmt.Errorf("field nonce has %d characters, want %d to %d", len(r.Nonce), minNonce, maxNonce)
	}
	if len(r.Claim) > 0 && !nkeys.IsValidPublicCurveKey(r.Sender) {
		return errors.New("field sender is not a public curve key (it begins with X)")
	}
	return nil
}

func (c *JoinClaim) validate() error {
	if _, err := ParseDeviceID(string(c.Device)); err != nil {
		return fmt.Errorf("field device: %w", err)
	}
	if !nkeys.IsValidPublicUserKey(c.PublicKey) {
		return errors.New("field publicKey is not a user's public key (it begins with U)")
	}
	if len(c.Token) > maxJoinToken {
		return &TooLargeError{Got: len(c.Token), Limit: maxJoinToken}
	}
	return nil
}

func (r *JoinReply) validate() error { return nil }

func (s *JoinStatement) validate() error {
	if !nkeys.IsValidPublicOperatorKey(s.Operator) {
		return errors.New("field operator is not an operator's public key (it begins with O)")
	}
	if !nkeys.IsValidPublicCurveKey(s.Curve) {
		return errors.New("field curve is not a public curve key (it begins with X)")
	}
	switch s.Standing {
	case StandingUnknown, StandingPending, StandingApproved, StandingShutOut, StandingRefused:
		return nil
	}
	return fmt.Errorf("field standing: %q is not known", clip(string(s.Standing)))
}

// DecodeJoinRequest reads what a device asks.
func DecodeJoinRequest(data []byte) (JoinRequest, error) {
	return decode[JoinRequest](data)
}

// DecodeJoinClaim reads an unsealed claim.
func DecodeJoinClaim(data []byte) (JoinClaim, error) {
	return decode[JoinClaim](data)
}

// joinDomain is what sets the signature of a statement apart from any other's.
const joinDomain = "fleet join statement\n"

// SignJoin makes the reply that carries a statement.
func SignJoin(s JoinStatement, operator nkeys.KeyPair) ([]byte, error) {
	statement, err := Encode(s)
	if err != nil {
		return nil, err
	}
	signature, err := operator.Sign(append([]byte(joinDomain), statement...))
	if err != nil {
		return nil, fmt.Errorf("sign the answer to a device that joins: %w", err)
	}
	return Encode(JoinReply{Statement: statement, Signature: signature})
}

// OpenJoin reads a reply and checks that it answers the request, and that whoever it
// says is the operator has signed it. Whether that is the right one is up to the caller.
func OpenJoin(data []byte, nonce, publicKey string) (JoinStatement, error) {
	reply, err := decode[JoinReply](data)
	if err != nil {
		return JoinStatement{}, err
	}
	s, err := decode[JoinStatement](reply.Statement)
	if err != nil {
		return JoinStatement{}, err
	}
	key, err := nkeys.FromPublicKey(s.Operator)
	if err != nil {
		return JoinStatement{}, fmt.Errorf("field operator: %w", err)
	}
	if err := key.Verify(append([]byte(joinDomain), reply.Statement...), reply.Signature); err != nil {
		return JoinStatement{}, errors.New("the answer is not signed by the operator that it names")
	}
	if s.Nonce != nonce || s.PublicKey != publicKey {
		return JoinStatement{}, errors.New("the answer is to another question")
	}
	return s, nil
}

// JoinToken lets a device join the fleet: it is made by `kubectl fleet token create` and
// given to `fleet-agent join`.
type JoinToken struct {
	// Namespace and ID say which token it is.
	Namespace, ID string
	// Secret is what only its holder knows.
	Secret string
	// Fingerprint is that of the operator which the device is to trust.
	Fingerprint string
}

const joinTokenPrefix = "fleet-join"

// String is the token's text.
func (t JoinToken) String() string {
	return strings.Join([]string{joinTokenPrefix, t.Namespace, t.ID, t.Secret, t.Fingerprint}, ".")
}

// ParseJoinToken reads a token's text. No error repeats its secret.
func ParseJoinToken(s string) (JoinToken, error) {
	parts := strings.Split(strings.TrimSpace(s), ".")
	if len(s) > maxJoinToken || len(parts) != 5 || parts[0] != joinTokenPrefix {
		return JoinToken{}, errors.New("this is not a join token: it has five parts with dots between, the first is " + joinTokenPrefix)
	}
	t := JoinToken{Namespace: parts[1], ID: parts[2], Secret: parts[3], Fingerprint: parts[4]}
	for _, part := range []struct{ name, text string }{{"namespace", t.Namespace}, {"ID", t.ID}} {
		if !isDNSLabel(part.text, 63) {
			return JoinToken{}, fmt.Errorf("this is not a join token: its %s %q is not a DNS label", part.name, clip(part.text))
		}
	}
	if len(t.Secret) != secretLength || !isBase32(t.Secret) {
		return JoinToken{}, errors.New("this is not a join token: its secret is not whole")
	}
	if _, err := ParseFingerprint(t.Fingerprint); err != nil {
		return JoinToken{}, fmt.Errorf("this is not a join token: %w", err)
	}
	return t, nil
}

// secretLength and fingerprintLength are of 128 bits each, in characters.
const secretLength, fingerprintLength = 26, 26

var base32Text = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func isBase32(s string) bool {
	_, err := base32Text.DecodeString(s)
	return err == nil
}

// NewJoinSecret makes a token's secret.
func NewJoinSecret() string {
	var random [16]byte
	_, _ = rand.Read(random[:]) // it never fails
	return base32Text.EncodeToString(random[:])
}

// Fingerprint is that of an operator's public key, short enough to be read out loud: 128
// bits of its SHA-256.
func Fingerprint(operator string) (string, error) {
	if !nkeys.IsValidPublicOperatorKey(operator) {
		return "", fmt.Errorf("%q is not an operator's public key (it begins with O)", clip(operator))
	}
	sum := sha256.Sum256([]byte(operator))
	return base32Text.EncodeToString(sum[:16]), nil
}

// ParseFingerprint accepts what Fingerprint makes.
func ParseFingerprint(s string) (string, error) {
	if len(s) != fingerprintLength || !isBase32(s) {
		return "", fmt.Errorf("%q is not the fingerprint of an operator: that has %d letters and digits", clip(s), fingerprintLength)
	}
	return s, nil
}
