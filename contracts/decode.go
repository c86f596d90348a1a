package contracts

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxSnapshotSize bounds one page of a snapshot, in bytes: one value of the
// largest size and what is around it.
const MaxSnapshotSize = MaxDesiredStateSize + 64<<10

// UnsupportedVersionError tells that a value was written by a version of fleet
// that this one does not understand.
type UnsupportedVersionError struct {
	// Got is the version of the value.
	Got int
}

func (e *UnsupportedVersionError) Error() string {
	return fmt.Sprintf("version %d of the value is not supported, only %d is; update this side", e.Got, Version)
}

// TooLargeError tells that a value takes more bytes than it may.
type TooLargeError struct{ Got, Limit int }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%d bytes are more than the %d allowed", e.Got, e.Limit)
}

// Value is everything that goes over the bus as JSON.
type Value interface {
	DesiredState | Withdrawal | Envelope | Handover | DeploymentState | DeviceInfo | HeartbeatPayload |
		Snapshot | SnapshotRequest | CommandRequest | CommandReply | JoinRequest | JoinClaim | JoinReply | JoinStatement
}

// Encode writes a value with its version. It refuses what Decode would refuse, so
// that nonsense is seen by who made it.
func Encode[T Value](v T) ([]byte, error) {
	var limit int
	var invalid error
	switch v := any(&v).(type) {
	case *DesiredState:
		v.V, limit, invalid = Version, MaxDesiredStateSize, v.validate()
	case *Withdrawal:
		v.V, limit, invalid = Version, maxWithdrawalSize, v.validate()
	case *Envelope:
		v.V, limit, invalid = Version, MaxEnvelopeSize, v.validate()
	case *Handover:
		v.V, limit, invalid = Version, maxHandoverSize, v.validate()
	case *DeploymentState:
		v.V, limit = Version, MaxDeviceStateSize
		v.Message, v.Log = shorten(v.Message, maxMessage), lastLines(v.Log, maxLog)
		invalid = v.validate()
	case *DeviceInfo:
		v.V, limit = Version, MaxDeviceInfoSize
		v.RefusedReason = shorten(v.RefusedReason, maxMessage)
		invalid = v.validate()
	case *HeartbeatPayload:
		v.V, limit, invalid = Version, MaxHeartbeatSize, v.validate()
	case *Snapshot:
		v.V, limit, invalid = Version, MaxSnapshotSize, v.validate()
	case *SnapshotRequest:
		v.V, limit, invalid = Version, MaxHeartbeatSize, v.validate()
	case *CommandRequest:
		v.V, limit, invalid = Version, MaxCommandSize, v.validate()
	case *JoinRequest:
		v.V, limit, invalid = Version, MaxJoinRequestSize, v.validate()
	case *JoinClaim:
		v.V, limit, invalid = Version, MaxJoinRequestSize, v.validate()
	case *JoinReply:
		v.V, limit = Version, MaxJoinReplySize
	case *JoinStatement:
		v.V, limit, invalid = Version, MaxJoinReplySize, v.validate()
	case *CommandReply:
		v.V, limit, v.Error = Version, MaxCommandSize, v.Error.shortened()
		invalid = v.validate()
	}
	if invalid != nil {
		return nil, fmt.Errorf("encode %T: %w", v, invalid)
	}
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	if len(data) > limit {
		return nil, fmt.Errorf("encode %T: %w", v, &TooLargeError{Got: len(data), Limit: limit})
	}
	return data, nil
}

// DecodeDesiredState reads what a device is told.
func DecodeDesiredState(data []byte) (DesiredState, error) {
	return decode[DesiredState](data, MaxDesiredStateSize)
}

// DecodeDeploymentState reads what a device says of a Deployment.
func DecodeDeploymentState(data []byte) (DeploymentState, error) {
	return decode[DeploymentState](data, MaxDeviceStateSize)
}

// DecodeDeviceInfo reads what a device says about itself.
func DecodeDeviceInfo(data []byte) (DeviceInfo, error) {
	return decode[DeviceInfo](data, MaxDeviceInfoSize)
}

// DecodeHeartbeat reads a sign of life.
func DecodeHeartbeat(data []byte) (HeartbeatPayload, error) {
	return decode[HeartbeatPayload](data, MaxHeartbeatSize)
}

// DecodeSnapshot reads a page of a snapshot. The values in it are decoded one by
// one by who uses them, so that one bad value does not hide the others.
func DecodeSnapshot(data []byte) (Snapshot, error) {
	return decode[Snapshot](data, MaxSnapshotSize)
}

// DecodeSnapshotRequest reads a request for a snapshot; an empty one asks for the
// first page.
func DecodeSnapshotRequest(data []byte) (SnapshotRequest, error) {
	if len(data) == 0 {
		return SnapshotRequest{V: Version}, nil
	}
	return decode[SnapshotRequest](data, MaxHeartbeatSize)
}

type validator[T any] interface {
	*T
	validate() error
}

func decode[T any, P validator[T]](data []byte, limit int) (T, error) {
	var zero, v T
	fail := func(err error) (T, error) { return zero, fmt.Errorf("decode %T: %w", zero, err) }
	if len(data) > limit {
		return fail(&TooLargeError{Got: len(data), Limit: limit})
	}
	// encoding/json would replace broken text silently, and two different values
	// would become one.
	if !utf8.Valid(data) {
		return fail(fmt.Errorf("not UTF-8"))
	}
	var head struct {
		V *int `json:"v"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return fail(err)
	}
	if head.V == nil {
		return fail(fmt.Errorf("field v is missing"))
	}
	if *head.V != Version {
		return fail(&UnsupportedVersionError{Got: *head.V})
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return fail(err)
	}
	if err := P(&v).validate(); err != nil {
		return fail(err)
	}
	return v, nil
}

// Digest identifies a resolved score: 16 hexadecimal digits.
func (s ReconcileScore) Digest() string {
	// Marshalling is canonical: the types have no maps. It can't fail but for a
	// raw manifest that is not JSON, which the digest then is of as it stands.
	data, err := json.Marshal(s)
	if err != nil {
		data = fmt.Appendf(nil, "%+v", s)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// shorten cuts text to at most limit bytes, between characters.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const mark = "…"
	cut := limit - len(mark)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + mark
}

// lastLines cuts whole lines off the beginning until the rest is short enough; of a
// single line that is too long the end stays.
func lastLines(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	s = s[len(s)-limit:]
	if i := strings.IndexByte(s, '\n'); i >= 0 && i < len(s)-1 {
		return s[i+1:]
	}
	return strings.ToValidUTF8(s, "")
}
