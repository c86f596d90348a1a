package contracts

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// SessionPrefix is what a device sends its side of a session to:
// device-sessions.<device>.<session>.
const SessionPrefix = "device-sessions"

// Verb is what a device is commanded to do: the last part of CommandSubject.
type Verb string

// Verbs. VerbInput is not a command: it carries the operator's side of the sessions
// that commands have opened, and is never answered.
const (
	VerbPing    Verb = "ping"
	VerbLogs    Verb = "logs"
	VerbExec    Verb = "exec"
	VerbRestart Verb = "restart"
	VerbInput   Verb = "input"
)

// Verbs are the commands that there are.
var Verbs = []Verb{VerbPing, VerbLogs, VerbExec, VerbRestart}

// Bounds of commands and of the sessions that they open.
const (
	// MaxCommandSize bounds a request and its reply, in bytes.
	MaxCommandSize = 64 << 10
	// MaxChunk bounds the data of one frame, in bytes.
	MaxChunk = 32 << 10
	// MaxFrameSize bounds a frame with its head, in bytes.
	MaxFrameSize = frameHead + MaxChunk
	// OutputWindow and InputWindow are how many bytes of data a side may have sent
	// that the other has not taken yet.
	OutputWindow = 256 << 10
	InputWindow  = 64 << 10
	// MaxSessions is how many sessions a device has open at once, at most.
	MaxSessions = 32
	// KeepAlive is how often each side of a session shows that it is there, and
	// MaxSilence how long the other waits for that before it takes it for gone.
	KeepAlive  = 2 * time.Second
	MaxSilence = 7 * time.Second
	// MaxCommandTime is the longest that a command may take, a session included.
	MaxCommandTime = 24 * time.Hour
	// MaxTail bounds how many lines of a log's end are asked for: podman makes room
	// for each of them before it reads the first.
	MaxTail = 100_000

	maxArguments = 256
	maxArgument  = 32 << 10
)

// SessionID names a session. Nobody but its two sides knows it.
type SessionID [16]byte

// NewSessionID makes one that can't be guessed.
func NewSessionID() SessionID {
	var s SessionID
	_, _ = rand.Read(s[:]) // it never fails
	return s
}

func (s SessionID) String() string { return hex.EncodeToString(s[:]) }

// MarshalText writes 32 hexadecimal digits.
func (s SessionID) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads 32 hexadecimal digits.
func (s *SessionID) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(s)) || strings.ToLower(string(text)) != string(text) {
		return fmt.Errorf("session %q is not 32 lower-case hexadecimal digits", clip(string(text)))
	}
	if _, err := hex.Decode(s[:], text); err != nil {
		return fmt.Errorf("session %q is not 32 lower-case hexadecimal digits", clip(string(text)))
	}
	return nil
}

// SessionSubject is where a device sends its side of a session.
func SessionSubject(d DeviceID, s SessionID) string {
	return SessionPrefix + "." + string(d) + "." + s.String()
}

// CommandRequest commands a device. Exactly the part that belongs to the verb is set;
// VerbPing has none.
type CommandRequest struct {
	V int `json:"v"`
	// Verb is that of the subject. A request that comes in by another was not made
	// for it.
	Verb Verb `json:"verb"`
	// Session is a new one for each request. It names the answer too.
	Session SessionID `json:"session"`
	// Milliseconds that the command may take, a session included.
	Milliseconds int64           `json:"milliseconds"`
	Logs         *LogsRequest    `json:"logs,omitempty"`
	Exec         *ExecRequest    `json:"exec,omitempty"`
	Restart      *RestartRequest `json:"restart,omitempty"`
}

// Limit is how long the command may take.
func (r *CommandRequest) Limit() time.Duration {
	return time.Duration(r.Milliseconds) * time.Millisecond
}

// LogsRequest asks for a container's log.
type LogsRequest struct {
	Deployment DeploymentName `json:"deployment"`
	// Container by its name in the score; empty where there is but one.
	Container string `json:"container,omitempty"`
	// Tail is how many lines of the end are wanted, all that there are when nil.
	Tail *int64 `json:"tail,omitempty"`
	// SinceSeconds and SinceTime leave out what is older; one of them at most is set.
	// SinceSeconds is right also where the device's clock is not.
	SinceSeconds *int64     `json:"sinceSeconds,omitempty"`
	SinceTime    *time.Time `json:"sinceTime,omitempty"`
	// Follow goes on with what is written until the container ends.
	Follow bool `json:"follow,omitempty"`
	// Previous asks for the run before this one.
	Previous bool `json:"previous,omitempty"`
	// Timestamps puts the time before each line.
	Timestamps bool `json:"timestamps,omitempty"`
}

// ExecRequest asks for a command to be run in a container.
type ExecRequest struct {
	Deployment DeploymentName `json:"deployment"`
	// Container by its name in the score; empty where there is but one.
	Container string   `json:"container,omitempty"`
	Command   []string `json:"command"`
	// Stdin gives the command an input; without, it finds it closed.
	Stdin bool `json:"stdin,omitempty"`
	// TTY gives it a terminal, whose output is all on the standard output.
	TTY bool `json:"tty,omitempty"`
	// Size of the terminal at first; nil for the runtime's own.
	Size *TerminalSize `json:"size,omitempty"`
}

// TerminalSize is that of a terminal, in characters.
type TerminalSize struct {
	Width  uint16 `json:"width"`
	Height uint16 `json:"height"`
}

// RestartRequest asks for containers to be ended, in their grace period, and started
// again.
type RestartRequest struct {
	Deployment DeploymentName `json:"deployment"`
	// Container by its name in the score; empty for all but init containers.
	Container string `json:"container,omitempty"`
}

// CommandReply is the one answer to a request. Without an error it answers a ping, or
// tells that the session is open.
type CommandReply struct {
	V int `json:"v"`
	// Session is the request's.
	Session SessionID     `json:"session"`
	Error   *CommandError `json:"error,omitempty"`
	Ping    *Pong         `json:"ping,omitempty"`
}

// Pong is what a device answers to a ping.
type Pong struct {
	AgentVersion string `json:"agentVersion"`
	// UptimeSeconds of the agent.
	UptimeSeconds int64 `json:"uptimeSeconds"`
	// Time by the device's clock.
	Time time.Time `json:"time"`
}

// CommandEnd is the last that a device sends of a session.
type CommandEnd struct {
	V     int           `json:"v"`
	Error *CommandError `json:"error,omitempty"`
	// ExitCode of the command that was run, when it ended by itself.
	ExitCode *int32 `json:"exitCode,omitempty"`
	// Restarted are the containers that were, by their names in the score.
	Restarted []string `json:"restarted,omitempty"`
}

// CommandCode is the kind of a CommandError.
type CommandCode string

// Kinds of errors.
const (
	// CodeOffline: no agent listens, or it has gone silent in the middle.
	CodeOffline CommandCode = "Offline"
	// CodeTimeout: it took longer than it may.
	CodeTimeout CommandCode = "Timeout"
	// CodeRefused: the device's own configuration forbids it.
	CodeRefused CommandCode = "Refused"
	// CodeNotFound: the device has no such deployment or container.
	CodeNotFound CommandCode = "NotFound"
	// CodeInvalid: the request makes no sense as it is.
	CodeInvalid CommandCode = "Invalid"
	// CodeTooLarge: a request or a value that is larger than is allowed.
	CodeTooLarge CommandCode = "TooLarge"
	// CodeUnsupported: the device or its runtime can't do this.
	CodeUnsupported CommandCode = "Unsupported"
	// CodeBusy: the device has as many sessions open as it may.
	CodeBusy CommandCode = "Busy"
	// CodeInternal: anything else.
	CodeInternal CommandCode = "Internal"
)

var commandCodes = []CommandCode{
	CodeOffline, CodeTimeout, CodeRefused, CodeNotFound, CodeInvalid, CodeTooLarge, CodeUnsupported, CodeBusy, CodeInternal,
}

// CommandError is why a command was not carried out, or not to its end. It is the
// same on both sides of the wire.
type CommandError struct {
	Code    CommandCode `json:"code"`
	Message string      `json:"message"`
}

func (e *CommandError) Error() string { return e.Message }

// CommandErrorf makes a CommandError.
func CommandErrorf(code CommandCode, format string, args ...any) *CommandError {
	return &CommandError{Code: code, Message: fmt.Sprintf(format, args...)}
}

// AsCommandError finds the CommandError in an error; one without is CodeInternal.
func AsCommandError(err error) *CommandError {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*CommandError](err); ok {
		return &CommandError{Code: e.Code, Message: err.Error()}
	}
	return &CommandError{Code: CodeInternal, Message: err.Error()}
}

// DecodeCommandRequest reads what a device is commanded.
func DecodeCommandRequest(data []byte) (CommandRequest, error) {
	return decode[CommandRequest](data)
}

// SessionOf finds the session that a request names which is otherwise not understood,
// so that it can be told.
func SessionOf(data []byte) (SessionID, bool) {
	var head struct {
		Session SessionID `json:"session"`
	}
	if len(data) > MaxCommandSize || json.Unmarshal(data, &head) != nil {
		return SessionID{}, false
	}
	return head.Session, head.Session != SessionID{}
}

// DecodeCommandReply reads what a device answers.
func DecodeCommandReply(data []byte) (CommandReply, error) {
	return decode[CommandReply](data)
}

func (r *CommandRequest) validate() error {
	if r.Session == (SessionID{}) {
		return errors.New("field session is missing")
	}
	if r.Milliseconds < 1 || r.Milliseconds > MaxCommandTime.Milliseconds() {
		return fmt.Errorf("field milliseconds: %d is not between 1 and %d", r.Milliseconds, MaxCommandTime.Milliseconds())
	}
	part := VerbPing
	parts := 0
	var invalid error
	if r.Logs != nil {
		part, parts, invalid = VerbLogs, parts+1, r.Logs.validate()
	}
	if r.Exec != nil {
		part, parts, invalid = VerbExec, parts+1, r.Exec.validate()
	}
	if r.Restart != nil {
		part, parts, invalid = VerbRestart, parts+1, validateTarget(r.Restart.Deployment, r.Restart.Container)
	}
	if parts > 1 || part != r.Verb {
		return fmt.Errorf("field verb: %q does not go with what else is set", clip(string(r.Verb)))
	}
	if invalid != nil {
		return fmt.Errorf("field %s: %w", r.Verb, invalid)
	}
	return nil
}

func validateTarget(n DeploymentName, container string) error {
	if _, err := ParseDeploymentName(string(n)); err != nil {
		return err
	}
	if container != "" && !isDNSLabel(container, 63) {
		return fmt.Errorf("container %q is not a DNS label", clip(container))
	}
	return nil
}

func (r *LogsRequest) validate() error {
	if err := validateTarget(r.Deployment, r.Container); err != nil {
		return err
	}
	if r.Tail != nil && (*r.Tail < 0 || *r.Tail > MaxTail) {
		return fmt.Errorf("tail %d is not between 0 and %d", *r.Tail, MaxTail)
	}
	if r.SinceSeconds != nil && r.SinceTime != nil {
		return errors.New("sinceSeconds and sinceTime are both set, one at most may be")
	}
	// A hundred years, so that it is a duration.
	if r.SinceSeconds != nil && (*r.SinceSeconds < 0 || *r.SinceSeconds > 100*366*24*3600) {
		return fmt.Errorf("sinceSeconds %d is no age of a log", *r.SinceSeconds)
	}
	return nil
}

func (r *ExecRequest) validate() error {
	if err := validateTarget(r.Deployment, r.Container); err != nil {
		return err
	}
	if len(r.Command) == 0 || r.Command[0] == "" {
		return errors.New("command is empty")
	}
	if err := atMost("command", len(r.Command), maxArguments); err != nil {
		return err
	}
	for _, a := range r.Command {
		if err := bounded("command", a, maxArgument); err != nil {
			return err
		}
		if strings.ContainsRune(a, 0) {
			return errors.New("command has a NUL byte in it")
		}
	}
	if r.Size != nil && !r.TTY {
		return errors.New("size is set without tty")
	}
	if r.Size != nil {
		return r.Size.validate()
	}
	return nil
}

func (s TerminalSize) validate() error {
	if s.Width == 0 || s.Height == 0 {
		return fmt.Errorf("a terminal of %d by %d has no room", s.Width, s.Height)
	}
	return nil
}

func (e *CommandError) validate() error {
	if e == nil {
		return nil
	}
	codes := make([]string, len(commandCodes))
	for i, c := range commandCodes {
		codes[i] = string(c)
	}
	if e.Message == "" {
		return errors.New("field error.message is empty")
	}
	return firstError(oneOf("error.code", string(e.Code), codes...), bounded("error.message", e.Message, maxMessage))
}

func (r *CommandReply) validate() error {
	if r.Session == (SessionID{}) {
		return errors.New("field session is missing")
	}
	if r.Ping != nil {
		if r.Error != nil {
			return errors.New("error and ping are both set, one at most may be")
		}
		return firstError(bounded("ping.agentVersion", r.Ping.AgentVersion, maxReason), notNegative("ping.uptimeSeconds", r.Ping.UptimeSeconds))
	}
	return r.Error.validate()
}

func (e *CommandEnd) validate() error {
	if err := firstError(e.Error.validate(), atMost("restarted", len(e.Restarted), maxContainers)); err != nil {
		return err
	}
	if e.Error != nil && (e.ExitCode != nil || e.Restarted != nil) {
		return errors.New("an end with an error has nothing else")
	}
	for _, name := range e.Restarted {
		if !isDNSLabel(name, 63) {
			return fmt.Errorf("field restarted: %q is not a DNS label", clip(name))
		}
	}
	return nil
}

// shortened is the error as it fits on the wire.
func (e *CommandError) shortened() *CommandError {
	if e == nil {
		return nil
	}
	short := &CommandError{Code: e.Code, Message: shorten(strings.ToValidUTF8(e.Message, "\ufffd"), maxMessage)}
	if short.Message == "" {
		short.Message = string(e.Code)
	}
	return short
}
