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

// message is what a pointer to each Value is.
type message interface {
	// head is where the version is, and how many bytes the value may take.
	head() (version *int, limit int)
	validate() error
}

// fitter is a value of which parts are cut until they fit.
type fitter interface{ fit() }

// Encode writes a value with its version. It refuses what Decode would refuse, so
// that nonsense is seen by who made it.
func Encode[T Value](v T) ([]byte, error) {
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("encode %T: %w", v, err) }
	p := any(&v).(message)
	version, limit := p.head()
	*version = Version
	if f, ok := any(p).(fitter); ok {
		f.fit()
	}
	if err := p.validate(); err != nil {
		return fail(err)
	}
	data, err := json.Marshal(&v)
	if err != nil {
		return fail(err)
	}
	if len(data) > limit {
		return fail(&TooLargeError{Got: len(data), Limit: limit})
	}
	return data, nil
}

func (v *DesiredState) head() (*int, int)     { return &v.V, MaxDesiredStateSize }
func (v *Withdrawal) head() (*int, int)       { return &v.V, maxWithdrawalSize }
func (v *Envelope) head() (*int, int)         { return &v.V, MaxEnvelopeSize }
func (v *Handover) head() (*int, int)         { return &v.V, maxHandoverSize }
func (v *DeploymentState) head() (*int, int)  { return &v.V, MaxDeviceStateSize }
func (v *DeviceInfo) head() (*int, int)       { return &v.V, MaxDeviceInfoSize }
func (v *HeartbeatPayload) head() (*int, int) { return &v.V, MaxHeartbeatSize }
func (v *Snapshot) head() (*int, int)         { return &v.V, MaxSnapshotSize }
func (v *SnapshotRequest) head() (*int, int)  { return &v.V, MaxHeartbeatSize }
func (v *CommandRequest) head() (*int, int)   { return &v.V, MaxCommandSize }
func (v *CommandReply) head() (*int, int)     { return &v.V, MaxCommandSize }
func (v *CommandEnd) head() (*int, int)       { return &v.V, MaxChunk }
func (v *JoinRequest) head() (*int, int)      { return &v.V, MaxJoinRequestSize }
func (v *JoinClaim) head() (*int, int)        { return &v.V, MaxJoinRequestSize }
func (v *JoinReply) head() (*int, int)        { return &v.V, MaxJoinReplySize }
func (v *JoinStatement) head() (*int, int)    { return &v.V, MaxJoinReplySize }

func (v *DeploymentState) fit() {
	v.Message, v.Log = shorten(v.Message, maxMessage), lastLines(v.Log, maxLog)
}
func (v *DeviceInfo) fit()   { v.RefusedReason = shorten(v.RefusedReason, maxMessage) }
func (v *CommandReply) fit() { v.Error = v.Error.shortened() }

// DecodeDesiredState reads what a device is told.
func DecodeDesiredState(data []byte) (DesiredState, error) {
	return decode[DesiredState](data)
}

// DecodeDeploymentState reads what a device says of a Deployment.
func DecodeDeploymentState(data []byte) (DeploymentState, error) {
	return decode[DeploymentState](data)
}

// DecodeDeviceInfo reads what a device says about itself.
func DecodeDeviceInfo(data []byte) (DeviceInfo, error) {
	return decode[DeviceInfo](data)
}

// DecodeHeartbeat reads a sign of life.
func DecodeHeartbeat(data []byte) (HeartbeatPayload, error) {
	return decode[HeartbeatPayload](data)
}

// DecodeSnapshot reads a page of a snapshot. The values in it are decoded one by
// one by who uses them, so that one bad value does not hide the others.
func DecodeSnapshot(data []byte) (Snapshot, error) {
	return decode[Snapshot](data)
}

// DecodeSnapshotRequest reads a request for a snapshot; an empty one asks for the
// first page.
func DecodeSnapshotRequest(data []byte) (SnapshotRequest, error) {
	if len(data) == 0 {
		return SnapshotRequest{V: Version}, nil
	}
	return decode[SnapshotRequest](data)
}

func decode[T any, P interface {
	*T
	message
}](data []byte) (T, error) {
	var zero, v T
	fail := func(err error) (T, error) { return zero, fmt.Errorf("decode %T: %w", zero, err) }
	p := P(&v)
	version, limit := p.head()
	if len(data) > limit {
		return fail(&TooLargeError{Got: len(data), Limit: limit})
	}
	// encoding/json would replace broken text silently, and two different values
	// would become one.
	if !utf8.Valid(data) {
		return fail(fmt.Errorf("not UTF-8"))
	}
	err := json.Unmarshal(data, &v)
	if err != nil || *version != Version {
		// Another version may have other types: which one it is says more.
		if err := supported(data); err != nil {
			return fail(err)
		}
	}
	if err != nil {
		return fail(err)
	}
	if err := p.validate(); err != nil {
		return fail(err)
	}
	return v, nil
}

// supported reports whether a value is of this version.
func supported(data []byte) error {
	var head struct {
		V *int `json:"v"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return err
	}
	if head.V == nil {
		return fmt.Errorf("field v is missing")
	}
	if *head.V != Version {
		return &UnsupportedVersionError{Got: *head.V}
	}
	return nil
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
