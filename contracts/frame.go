package contracts

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// FrameKind says what a frame carries.
type FrameKind byte

// Kinds of frames. The device sends FrameStdout, FrameStderr and, as the last,
// FrameEnd; the operator FrameStdin, FrameStdinEnd, FrameResize and FrameStop; both
// FrameAlive.
const (
	FrameStdout   FrameKind = 1
	FrameStderr   FrameKind = 2
	FrameStdin    FrameKind = 3
	FrameStdinEnd FrameKind = 4
	FrameResize   FrameKind = 5
	// FrameAlive shows that the sender is there and how much it has taken.
	FrameAlive FrameKind = 6
	FrameEnd   FrameKind = 7
	// FrameStop tells that nobody reads any longer.
	FrameStop FrameKind = 8
)

// FromDevice reports whether a device sends such frames.
func (k FrameKind) FromDevice() bool {
	return k == FrameStdout || k == FrameStderr || k == FrameAlive || k == FrameEnd
}

// FromOperator reports whether an operator sends such frames.
func (k FrameKind) FromOperator() bool {
	return k == FrameStdin || k == FrameStdinEnd || k == FrameResize || k == FrameAlive || k == FrameStop
}

// Frame is a piece of one side of a session. Its form is binary, since most of what it
// carries is: version, kind, session, sequence (8 bytes, big-endian), then what the
// kind has.
type Frame struct {
	Kind    FrameKind
	Session SessionID
	// Sequence counts the frames of one side from 1, so that a loss shows.
	Sequence uint64
	// Data of FrameStdout, FrameStderr and FrameStdin, never empty. After decoding it
	// is part of what was decoded.
	Data []byte
	// Taken, of FrameAlive, is how many bytes of data the sender's own side has handed
	// on since the session began: so many more may be sent.
	Taken uint64
	// Size of FrameResize.
	Size TerminalSize
	// End of FrameEnd.
	End *CommandEnd
}

// frameHead is the size of what is before a frame's content.
const frameHead = 2 + len(SessionID{}) + 8

// EncodeFrame writes a frame. It refuses what DecodeFrame would.
func EncodeFrame(f Frame) ([]byte, error) {
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("encode a frame: %w", err) }
	out := make([]byte, 0, frameHead+max(len(f.Data), 8))
	out = append(out, Version, byte(f.Kind))
	out = append(out, f.Session[:]...)
	out = binary.BigEndian.AppendUint64(out, f.Sequence)
	switch f.Kind {
	case FrameStdout, FrameStderr, FrameStdin:
		out = append(out, f.Data...)
	case FrameResize:
		out = binary.BigEndian.AppendUint16(out, f.Size.Width)
		out = binary.BigEndian.AppendUint16(out, f.Size.Height)
	case FrameAlive:
		out = binary.BigEndian.AppendUint64(out, f.Taken)
	case FrameEnd:
		if f.End == nil {
			return fail(errors.New("an end says how"))
		}
		end := *f.End
		end.V, end.Error = Version, end.Error.shortened()
		data, err := json.Marshal(end)
		if err != nil {
			return fail(err)
		}
		out = append(out, data...)
	}
	if _, err := DecodeFrame(out); err != nil {
		return fail(err)
	}
	return out, nil
}

// DecodeFrame reads a frame. It is strict: a frame has nothing that does not belong to
// its kind.
func DecodeFrame(data []byte) (Frame, error) {
	fail := func(format string, args ...any) (Frame, error) {
		return Frame{}, fmt.Errorf("decode a frame: "+format, args...)
	}
	if len(data) > MaxFrameSize {
		return fail("%w", &TooLargeError{Got: len(data), Limit: MaxFrameSize})
	}
	if len(data) < frameHead {
		return fail("%d bytes are less than its head has", len(data))
	}
	if data[0] != Version {
		return fail("%w", &UnsupportedVersionError{Got: int(data[0])})
	}
	f := Frame{Kind: FrameKind(data[1])}
	copy(f.Session[:], data[2:])
	f.Sequence = binary.BigEndian.Uint64(data[frameHead-8:])
	content := data[frameHead:]
	if f.Session == (SessionID{}) || f.Sequence == 0 {
		return fail("it has no session or no sequence")
	}
	size := func(n int) error {
		if len(content) != n {
			return fmt.Errorf("decode a frame: kind %d has %d bytes of content, not %d", f.Kind, n, len(content))
		}
		return nil
	}
	var err error
	switch f.Kind {
	case FrameStdout, FrameStderr, FrameStdin:
		if len(content) == 0 {
			return fail("kind %d has no data", f.Kind)
		}
		f.Data = content
	case FrameStdinEnd, FrameStop:
		err = size(0)
	case FrameResize:
		if err = size(4); err == nil {
			f.Size = TerminalSize{Width: binary.BigEndian.Uint16(content), Height: binary.BigEndian.Uint16(content[2:])}
			err = f.Size.validate()
		}
	case FrameAlive:
		if err = size(8); err == nil {
			f.Taken = binary.BigEndian.Uint64(content)
		}
	case FrameEnd:
		var end CommandEnd
		if end, err = decode[CommandEnd](content); err == nil {
			f.End = &end
		}
	default:
		return fail("kind %d is not known", f.Kind)
	}
	if err != nil {
		return Frame{}, err
	}
	return f, nil
}
