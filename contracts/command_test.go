package contracts

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func someRequests() []CommandRequest {
	since := time.Unix(0, 0).UTC()
	base := func(v Verb) CommandRequest {
		return CommandRequest{Verb: v, Session: NewSessionID(), Milliseconds: 5000}
	}
	logs, exec, restart := base(VerbLogs), base(VerbExec), base(VerbRestart)
	logs.Logs = &LogsRequest{Deployment: "web", Container: "app", Tail: new(int64(10)), SinceTime: &since, Follow: true, Timestamps: true}
	exec.Exec = &ExecRequest{Deployment: "web", Command: []string{"sh", "-c", "true"}, TTY: true, Stdin: true, Size: &TerminalSize{Width: 80, Height: 24}}
	restart.Restart = &RestartRequest{Deployment: "web"}
	return []CommandRequest{base(VerbPing), logs, exec, restart}
}

func someFrames() []Frame {
	s := NewSessionID()
	return []Frame{
		{Kind: FrameStdout, Session: s, Sequence: 1, Data: []byte("out\x00\xff")}, {Kind: FrameStderr, Session: s, Sequence: 2, Data: make([]byte, MaxChunk)},
		{Kind: FrameStdin, Session: s, Sequence: 3, Data: []byte("x")}, {Kind: FrameStdinEnd, Session: s, Sequence: 4},
		{Kind: FrameResize, Session: s, Sequence: 5, Size: TerminalSize{Width: 80, Height: 24}}, {Kind: FrameAlive, Session: s, Sequence: 6, Taken: 7},
		{Kind: FrameEnd, Session: s, Sequence: 8, End: &CommandEnd{V: Version, ExitCode: new(int32(-1))}},
		{Kind: FrameEnd, Session: s, Sequence: 8, End: &CommandEnd{V: Version, Error: CommandErrorf(CodeNotFound, "no such container")}},
		{Kind: FrameStop, Session: s, Sequence: 1 << 60},
	}
}

func TestCommandsAndFramesComeBackAsTheyWere(t *testing.T) {
	for _, r := range someRequests() {
		data, err := Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeCommandRequest(data)
		if r.V = Version; err != nil || !reflect.DeepEqual(back, r) {
			t.Errorf("%+v, %v, want %+v", back, err, r)
		}
		if s, ok := SessionOf(data); !ok || s != r.Session {
			t.Errorf("session %s of %s", s, data)
		}
	}
	for _, f := range someFrames() {
		data, err := EncodeFrame(f)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := DecodeFrame(data); err != nil || !reflect.DeepEqual(back, f) {
			t.Errorf("%+v, %v, want %+v", back, err, f)
		}
	}
}

func TestCommandRequestsThatMakeNoSense(t *testing.T) {
	change := func(i int, f func(*CommandRequest)) CommandRequest {
		r := someRequests()[i]
		f(&r)
		return r
	}
	for name, r := range map[string]CommandRequest{
		"no session":                    change(0, func(r *CommandRequest) { r.Session = SessionID{} }),
		"no time":                       change(0, func(r *CommandRequest) { r.Milliseconds = 0 }),
		"more time than there is":       change(0, func(r *CommandRequest) { r.Milliseconds = 1 << 62 }),
		"a verb that is none":           change(0, func(r *CommandRequest) { r.Verb = "dance" }),
		"input, which is no command":    change(0, func(r *CommandRequest) { r.Verb = VerbInput }),
		"another verb's part":           change(1, func(r *CommandRequest) { r.Verb = VerbExec }),
		"a ping with a part":            change(1, func(r *CommandRequest) { r.Verb = VerbPing }),
		"two parts":                     change(2, func(r *CommandRequest) { r.Restart = &RestartRequest{Deployment: "web"} }),
		"a deployment that is none":     change(1, func(r *CommandRequest) { r.Logs.Deployment = "a.b" }),
		"a container that is none":      change(1, func(r *CommandRequest) { r.Logs.Container = "../x" }),
		"a tail that takes much memory": change(1, func(r *CommandRequest) { r.Logs.Tail = new(int64(1e12)) }),
		"a tail below nothing":          change(1, func(r *CommandRequest) { r.Logs.Tail = new(int64(-1)) }),
		"since twice":                   change(1, func(r *CommandRequest) { r.Logs.SinceSeconds = new(int64(1)) }),
		"since the future":              change(1, func(r *CommandRequest) { r.Logs.SinceTime, r.Logs.SinceSeconds = nil, new(int64(-1)) }),
		"no command":                    change(2, func(r *CommandRequest) { r.Exec.Command = nil }),
		"an empty command":              change(2, func(r *CommandRequest) { r.Exec.Command = []string{""} }),
		"a command with NUL":            change(2, func(r *CommandRequest) { r.Exec.Command = []string{"a\x00"} }),
		"a command of many words":       change(2, func(r *CommandRequest) { r.Exec.Command = make([]string, 1000) }),
		"a terminal without room":       change(2, func(r *CommandRequest) { r.Exec.Size = &TerminalSize{} }),
		"a size without a terminal":     change(2, func(r *CommandRequest) { r.Exec.TTY = false }),
	} {
		if data, err := Encode(r); err == nil {
			t.Errorf("%s: %s", name, data)
		}
		r.V = Version
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeCommandRequest(data); err == nil {
			t.Errorf("%s is read: %s", name, data)
		}
	}
	long := someRequests()[2]
	long.Exec.Command = []string{"a", strings.Repeat("x", maxArgument), strings.Repeat("x", maxArgument), strings.Repeat("x", maxArgument)}
	if _, err := Encode(long); !isTooLarge(err) {
		t.Errorf("a long command: %v", err)
	}
}

func isTooLarge(err error) bool {
	_, ok := errors.AsType[*TooLargeError](err)
	return ok
}

func TestFramesThatAreRefused(t *testing.T) {
	head := string([]byte{1, byte(FrameStdout)}) + strings.Repeat("s", 16) + "\x00\x00\x00\x00\x00\x00\x00\x01"
	of := func(k FrameKind, content string) string {
		return head[:1] + string([]byte{byte(k)}) + head[2:] + content
	}
	for name, data := range map[string]string{
		"nothing": "", "half a head": head[:10], "another version": "\x02" + head[1:] + "x",
		"no session": head[:2] + strings.Repeat("\x00", 16) + head[18:] + "x", "no sequence": head[:18] + strings.Repeat("\x00", 8) + "x",
		"an unknown kind": of(0, "x"), "another unknown kind": of(99, ""), "no data": head, "too much data": head + strings.Repeat("x", MaxChunk+1),
		"an end of input with something": of(FrameStdinEnd, "x"), "a stop with something": of(FrameStop, "x"),
		"a size of three bytes": of(FrameResize, "abc"), "a size of nothing": of(FrameResize, "\x00\x00\x00\x01"),
		"a count of nine bytes": of(FrameAlive, "123456789"), "an end that is no JSON": of(FrameEnd, "x"), "an end of no version": of(FrameEnd, "{}"),
		"an end of an unknown kind": of(FrameEnd, `{"v":1,"error":{"code":"Odd","message":"x"}}`),
		"an end with two meanings":  of(FrameEnd, `{"v":1,"exitCode":0,"error":{"code":"Internal","message":"x"}}`),
		"an end with names":         of(FrameEnd, `{"v":1,"restarted":["a b"]}`),
	} {
		if f, err := DecodeFrame([]byte(data)); err == nil {
			t.Errorf("%s is %+v", name, f)
		}
	}
	if _, err := EncodeFrame(Frame{Kind: FrameStdout, Session: NewSessionID(), Sequence: 1, Data: make([]byte, MaxChunk+1)}); err == nil {
		t.Error("too much data is written")
	}
	if _, err := EncodeFrame(Frame{Kind: FrameEnd, Session: NewSessionID(), Sequence: 1}); err == nil {
		t.Error("an end that does not say how is written")
	}
}

func TestErrorsFitOnTheWire(t *testing.T) {
	for _, e := range []*CommandError{
		CommandErrorf(CodeInternal, ""), CommandErrorf(CodeInternal, "%s", strings.Repeat("ü", 5000)), CommandErrorf(CodeInternal, "%s", strings.Repeat("\xff<\x00", 5000)),
		AsCommandError(fmt.Errorf("wrapped: %w", CommandErrorf(CodeRefused, "no"))), AsCommandError(errors.New("plain")),
	} {
		data, err := Encode(CommandReply{Session: NewSessionID(), Error: e})
		if err != nil {
			t.Fatal(err)
		}
		r, err := DecodeCommandReply(data)
		if err != nil || r.Error.Code != e.Code {
			t.Errorf("%+v, %v", r, err)
		}
		if _, err := EncodeFrame(Frame{Kind: FrameEnd, Session: NewSessionID(), Sequence: 1, End: &CommandEnd{Error: e}}); err != nil {
			t.Error(err)
		}
	}
	if AsCommandError(nil) != nil {
		t.Error("no error becomes one")
	}
	if e := AsCommandError(fmt.Errorf("wrapped: %w", CommandErrorf(CodeRefused, "no"))); e.Code != CodeRefused || e.Message != "wrapped: no" {
		t.Errorf("%+v", e)
	}
}
