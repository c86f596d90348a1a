package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleet/contracts"
)

// hostile answers what device a is asked as it likes, once the session is open.
func hostile(t *testing.T, then func(nc *nats.Conn, subject string, session contracts.SessionID)) (*testServer, *Commander) {
	t.Helper()
	s := start(t, "a", "b")
	nc := s.connect("a")
	_, err := nc.Subscribe(contracts.CommandSubject("a", contracts.VerbLogs), func(m *nats.Msg) {
		r, err := contracts.DecodeCommandRequest(m.Data)
		if err != nil {
			t.Error(err)
			return
		}
		answer, err := contracts.Encode(contracts.CommandReply{Session: r.Session})
		if err != nil {
			t.Error(err)
		}
		_ = m.Respond(answer)
		go then(nc, contracts.SessionSubject("a", r.Session), r.Session)
	})
	must(t, err)
	must(t, nc.Flush())
	return s, s.commander()
}

func frame(f contracts.Frame) []byte {
	data, err := contracts.EncodeFrame(f)
	if err != nil {
		panic(err)
	}
	return data
}

func TestSessionOfAHostileDevice(t *testing.T) {
	stdout := func(session contracts.SessionID, sequence uint64) []byte {
		return frame(contracts.Frame{Kind: contracts.FrameStdout, Session: session, Sequence: sequence, Data: []byte("x")})
	}
	for name, tt := range map[string]struct {
		then func(nc *nats.Conn, subject string, session contracts.SessionID)
		code contracts.CommandCode
		says string
	}{
		"one that sends more than it may": {func(nc *nats.Conn, subject string, session contracts.SessionID) {
			for i := range uint64(100) {
				_ = nc.Publish(subject, frame(contracts.Frame{Kind: contracts.FrameStdout, Session: session, Sequence: i + 1, Data: make([]byte, contracts.MaxChunk)}))
			}
		}, contracts.CodeInternal, "more than it may"},
		"one that leaves something out": {func(nc *nats.Conn, subject string, session contracts.SessionID) {
			_ = nc.Publish(subject, stdout(session, 1))
			_ = nc.Publish(subject, stdout(session, 3))
		}, contracts.CodeInternal, "lost"},
		"one that has taken what was not sent": {func(nc *nats.Conn, subject string, session contracts.SessionID) {
			_ = nc.Publish(subject, frame(contracts.Frame{Kind: contracts.FrameAlive, Session: session, Sequence: 1, Taken: 1 << 40}))
		}, contracts.CodeInternal, "taken more"},
		"one that sends nonsense": {func(nc *nats.Conn, subject string, _ contracts.SessionID) {
			for range 1000 {
				_ = nc.Publish(subject, make([]byte, 100_000))
			}
		}, contracts.CodeOffline, "more than the"},
		"one that sends what the operator does": {func(nc *nats.Conn, subject string, session contracts.SessionID) {
			_ = nc.Publish(subject, frame(contracts.Frame{Kind: contracts.FrameStop, Session: session, Sequence: 1}))
		}, contracts.CodeOffline, "not of this side"},
		"one that sends frames of another session": {func(nc *nats.Conn, subject string, _ contracts.SessionID) {
			_ = nc.Publish(subject, stdout(contracts.NewSessionID(), 1))
		}, contracts.CodeOffline, "not of this side"},
		"one that sends nothing": {func(*nats.Conn, string, contracts.SessionID) {}, contracts.CodeOffline, "silent"},
	} {
		t.Run(name, func(t *testing.T) {
			_, c := hostile(t, tt.then)
			r, err := c.Logs(t.Context(), "a", someLogs)
			if err == nil { // what comes at once may end it before it is open
				defer r.Close()
				within(t, 15*time.Second, "the end", func() { _, err = io.Copy(io.Discard, r) })
			}
			code(t, err, tt.code)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want it to contain %q", err, tt.says)
			}
		})
	}
}

func TestAnswersThatAreRefused(t *testing.T) {
	s := start(t, "a")
	nc := s.connect("a")
	var answer atomic.Value
	_, err := nc.Subscribe(contracts.CommandSubject("a", "*"), func(m *nats.Msg) { _ = m.Respond(answer.Load().([]byte)) })
	must(t, err)
	must(t, nc.Flush())
	c := s.commander()
	other, err := contracts.Encode(contracts.CommandReply{Session: contracts.NewSessionID(), Ping: &contracts.Pong{}})
	must(t, err)
	for name, data := range map[string][]byte{
		"nothing": nil, "no JSON": []byte("pong"), "an acknowledgement of JetStream": []byte(`{"stream":"KV_device-state","seq":1}`),
		"the answer to another request": other, "one that is too large": make([]byte, 100_000),
		"an unknown kind of error": fmt.Appendf(nil, `{"v":1,"session":"%s","error":{"code":"Odd","message":"x"}}`, contracts.NewSessionID()),
	} {
		t.Run(name, func(t *testing.T) {
			answer.Store(data)
			_, err := c.Ping(t.Context(), "a")
			code(t, err, contracts.CodeInternal)
			_, err = c.Logs(t.Context(), "a", someLogs)
			code(t, err, contracts.CodeInternal)
		})
	}
}

func TestDeviceCanNeitherAnswerForAnotherNorReachItsSessions(t *testing.T) {
	release := make(chan struct{})
	var captured struct {
		sync.Mutex
		session contracts.SessionID
	}
	h := &obeying{
		prepare: func(r contracts.CommandRequest) error {
			captured.Lock()
			defer captured.Unlock()
			captured.session = r.Session
			return nil
		},
		task: func(ctx context.Context, s Streams) (contracts.CommandEnd, error) {
			select {
			case <-release:
			case <-ctx.Done():
				return contracts.CommandEnd{}, ctx.Err()
			}
			in, err := io.ReadAll(s.Stdin)
			if err != nil {
				return contracts.CommandEnd{}, err
			}
			_, err = fmt.Fprintf(s.Stdout, "it heard %q", in)
			return contracts.CommandEnd{ExitCode: new(int32(0))}, err
		},
	}
	s, _, c := obeyed(t, h)
	js := s.operator()
	e, err := c.Exec(t.Context(), "a", contracts.ExecRequest{Deployment: "web", Command: []string{"cat"}, Stdin: true})
	must(t, err)
	defer e.Close()
	captured.Lock()
	session := captured.session // a secret that b does not have; here it has it all the same
	captured.Unlock()

	var denied sync.Map
	b := s.connect("b")
	b.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied.Store(err.Error(), true) })
	heard := make(chan string, 100)
	for _, subject := range []string{contracts.CommandSubject("a", "*"), contracts.SessionSubject("a", session), "device-sessions.>", "device-commands.>", "_R_.>", "_INBOX.>"} {
		sub, err := b.Subscribe(subject, func(m *nats.Msg) { heard <- m.Subject })
		must(t, err)
		defer func() { _ = sub.Unsubscribe() }()
	}
	stdinFrame := frame(contracts.Frame{Kind: contracts.FrameStdin, Session: session, Sequence: 2, Data: []byte("injected")})
	stdoutFrame := frame(contracts.Frame{Kind: contracts.FrameStdout, Session: session, Sequence: 1, Data: []byte("injected")})
	restart, err := contracts.Encode(contracts.CommandRequest{Verb: contracts.VerbRestart, Session: contracts.NewSessionID(), Milliseconds: 1000, Restart: &contracts.RestartRequest{Deployment: "web"}})
	must(t, err)
	forbidden := map[string][]byte{
		contracts.SessionSubject("a", session):               stdoutFrame,
		contracts.CommandSubject("a", contracts.VerbInput):   stdinFrame,
		contracts.CommandSubject("a", contracts.VerbRestart): restart,
		contracts.CommandSubject("b", contracts.VerbRestart): restart,
		contracts.SessionPrefix + ".b.x." + session.String(): stdoutFrame,
		contracts.SessionPrefix + ".*." + session.String():   stdoutFrame,
		"_R_.abc": stdoutFrame, "_INBOX.x": stdoutFrame, "_INBOX_a.x": stdoutFrame,
	}
	for subject, data := range forbidden {
		must(t, b.PublishRequest(subject, Caller{Device: "b"}.inboxPrefix()+".r", data))
	}
	// What it may send, with the server's answer going where it may not.
	state, err := contracts.Encode(contracts.DeploymentState{Deployment: "web", Revision: "web-1", Digest: "0123456789abcdef", Phase: contracts.PhaseRunning})
	must(t, err)
	for subject := range forbidden {
		if strings.Contains(subject, "*") {
			continue
		}
		must(t, b.PublishRequest(contracts.BucketDeviceState.Subject("state.b.web"), subject, state))
		must(t, b.PublishRequest(contracts.SnapshotSubject("b"), subject, nil))
		// On its own session's subject, with a reply that nobody must send to.
		must(t, b.PublishRequest(contracts.SessionSubject("b", session), subject, stdoutFrame))
	}
	must(t, b.Flush())
	eventually(t, func() string {
		n := 0
		denied.Range(func(any, any) bool { n++; return true })
		if want := len(forbidden) + 6; n < want {
			return fmt.Sprintf("%d of at least %d were denied", n, want)
		}
		return ""
	})
	stream, err := js.Stream(t.Context(), contracts.BucketDeviceState.Stream())
	must(t, err)
	eventually(t, func() string {
		info, err := stream.Info(t.Context())
		if err != nil || info.State.LastSeq < uint64(len(forbidden)-2) { // the server itself refuses to answer to _R_
			return fmt.Sprintf("what it may send has not arrived: %+v, %v", info, err)
		}
		return ""
	})
	_, err = c.Ping(t.Context(), "a")
	must(t, err)
	if n := h.begun.Load(); n > 1 {
		t.Errorf("%d tasks have begun, the operator asked for one", n)
	}
	close(release)
	_, err = io.WriteString(e.Stdin(), "mine")
	must(t, err)
	must(t, e.Stdin().Close())
	out, err := io.ReadAll(e.Stdout())
	must(t, err)
	if want := `it heard "mine"`; string(out) != want {
		t.Errorf("the session brought %q, want %q", out, want)
	}
	if len(heard) > 0 {
		t.Errorf("device b heard %s", <-heard)
	}
}

// TestWhatTheServerCanBeMadeToSendIsNoCommand has the shapes that a device can have the
// server send to another's subjects.
func TestWhatTheServerCanBeMadeToSendIsNoCommand(t *testing.T) {
	snapshot, err := contracts.Encode(contracts.Snapshot{Entries: []contracts.SnapshotEntry{{Deployment: "web", Value: json.RawMessage(told(t, "web", 1))}}})
	must(t, err)
	for _, data := range []string{`{"stream":"KV_device-state","seq":1}`, `{"error":{"code":503,"err_code":1,"description":"x"},"stream":"x","seq":0}`, string(snapshot), ""} {
		if _, err := contracts.DecodeCommandRequest([]byte(data)); err == nil {
			t.Errorf("%s is a command", data)
		}
		if _, err := contracts.DecodeFrame([]byte(data)); err == nil {
			t.Errorf("%s is a frame", data)
		}
	}
}

func TestCommandThatTheAgentDoesNotUnderstandIsAnswered(t *testing.T) {
	h := &obeying{}
	s, _, _ := obeyed(t, h)
	nc := s.connect("")
	session := contracts.NewSessionID()
	for verb, data := range map[contracts.Verb]string{
		"dance":               `{"v":1,"verb":"dance","session":"%s","milliseconds":1}`,
		contracts.VerbPing:    `{"v":2,"verb":"ping","session":"%s","milliseconds":1}`,
		contracts.VerbLogs:    `{"v":1,"verb":"ping","session":"%s","milliseconds":1}`,
		contracts.VerbExec:    `{"v":1,"verb":"exec","session":"%s","milliseconds":1,"exec":{"deployment":"web","command":[]}}`,
		contracts.VerbRestart: `{"v":1,"verb":"restart","session":"%s","milliseconds":0,"restart":{"deployment":"web"}}`,
	} {
		m, err := nc.Request(contracts.CommandSubject("a", verb), fmt.Appendf(nil, data, session), Timeout)
		must(t, err)
		reply, err := contracts.DecodeCommandReply(m.Data)
		must(t, err)
		if reply.Session != session || reply.Error == nil || reply.Error.Code != contracts.CodeInvalid {
			t.Errorf("%s: %+v", verb, reply)
		}
	}
}
