package bus

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleet/contracts"
)

// quick is short enough for a test and long enough for a busy machine.
var quick = timing{keepAlive: 100 * time.Millisecond, maxSilence: 1500 * time.Millisecond}

// obeying is a device that does what a test says.
type obeying struct {
	prepare func(contracts.CommandRequest) error
	task    Task
	// begun and ended count tasks.
	begun, ended atomic.Int32
}

func (o *obeying) Ping() (contracts.Pong, error) {
	return contracts.Pong{AgentVersion: "v1", UptimeSeconds: 7, Time: time.Unix(1, 0).UTC()}, nil
}

func (o *obeying) Prepare(_ context.Context, r contracts.CommandRequest) (Task, error) {
	if o.prepare != nil {
		if err := o.prepare(r); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context, s Streams) (contracts.CommandEnd, error) {
		o.begun.Add(1)
		defer o.ended.Add(1)
		return o.task(ctx, s)
	}, nil
}

// obey has a device serve commands until the returned function is called.
func (s *testServer) obey(nc *nats.Conn, d contracts.DeviceID, h CommandHandler, sessions int) func() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- ServeCommands(ctx, nc, d, h, CommandOptions{Sessions: sessions, Logger: slog.New(slog.DiscardHandler), timing: quick})
	}()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			must(s.t, err)
		case <-time.After(10 * time.Second):
			s.t.Error("commands are still served 10 s after the end")
		}
	})
	s.t.Cleanup(stop)
	eventually(s.t, func() string {
		if nc.NumSubscriptions() == 0 {
			return "the device does not listen"
		}
		return ""
	})
	must(s.t, nc.Flush())
	return stop
}

// commander is an operator that commands.
func (s *testServer) commander() *Commander {
	s.t.Helper()
	c := NewCommander(s.connect(""), slog.New(slog.DiscardHandler))
	c.timing = quick
	return c
}

// serve starts a server with a device that obeys, and an operator.
func obeyed(t *testing.T, h *obeying) (*testServer, *nats.Conn, *Commander) {
	t.Helper()
	s := start(t, "a", "b")
	nc := s.connect("a")
	s.obey(nc, "a", h, 0)
	return s, nc, s.commander()
}

var someLogs = contracts.LogsRequest{Deployment: "web"}

// code checks the kind of an error.
func code(t *testing.T, err error, want contracts.CommandCode) {
	t.Helper()
	if e, ok := errors.AsType[*contracts.CommandError](err); !ok || e.Code != want {
		t.Errorf("error %v, want one of code %s", err, want)
	}
}

// within fails when something takes too long.
func within(t *testing.T, limit time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("%s: not within %s", what, limit)
	}
}

func (o *obeying) over(t *testing.T, n int32) {
	t.Helper()
	eventually(t, func() string {
		if got := o.ended.Load(); got != n {
			return fmt.Sprintf("%d tasks have ended, want %d", got, n)
		}
		return ""
	})
}

func TestPing(t *testing.T) {
	_, _, c := obeyed(t, &obeying{})
	pong, err := c.Ping(t.Context(), "a")
	must(t, err)
	if pong.AgentVersion != "v1" || pong.UptimeSeconds != 7 || !pong.Time.Equal(time.Unix(1, 0)) {
		t.Errorf("%+v", pong)
	}
	_, err = c.Ping(t.Context(), "b")
	code(t, err, contracts.CodeOffline)
	_, err = c.Ping(t.Context(), "B.*")
	code(t, err, contracts.CodeInvalid)
}

func TestErrorsSurviveTheWire(t *testing.T) {
	for _, want := range []contracts.CommandCode{contracts.CodeRefused, contracts.CodeNotFound, contracts.CodeTooLarge, contracts.CodeUnsupported, contracts.CodeInternal} {
		t.Run(string(want), func(t *testing.T) {
			h := &obeying{prepare: func(contracts.CommandRequest) error {
				return fmt.Errorf("no: %w", contracts.CommandErrorf(want, "because"))
			}}
			_, _, c := obeyed(t, h)
			_, err := c.Logs(t.Context(), "a", someLogs)
			code(t, err, want)
			if err.Error() != "no: because" {
				t.Errorf("it says %q", err)
			}
			_, err = c.Restart(t.Context(), "a", contracts.RestartRequest{Deployment: "web"})
			code(t, err, want)
		})
	}
}

func TestRestartSaysWhatWasRestarted(t *testing.T) {
	_, _, c := obeyed(t, &obeying{task: func(context.Context, Streams) (contracts.CommandEnd, error) {
		return contracts.CommandEnd{Restarted: []string{"front", "back"}}, nil
	}})
	names, err := c.Restart(t.Context(), "a", contracts.RestartRequest{Deployment: "web"})
	must(t, err)
	if fmt.Sprint(names) != "[front back]" {
		t.Error(names)
	}
}

func TestLogsArriveWhole(t *testing.T) {
	data := make([]byte, 8<<20)
	_, _ = rand.Read(data)
	h := &obeying{task: func(_ context.Context, s Streams) (contracts.CommandEnd, error) {
		_, err := s.Stdout.Write(data)
		return contracts.CommandEnd{}, err
	}}
	_, _, c := obeyed(t, h)
	r, err := c.Logs(t.Context(), "a", someLogs)
	must(t, err)
	got, err := io.ReadAll(r)
	must(t, err)
	if !bytes.Equal(got, data) {
		t.Errorf("%d bytes that are not the %d that were written", len(got), len(data))
	}
	must(t, r.Close())
}

func TestLogsEndWithWhatCutThemOff(t *testing.T) {
	_, _, c := obeyed(t, &obeying{task: func(_ context.Context, s Streams) (contracts.CommandEnd, error) {
		_, _ = io.WriteString(s.Stdout, "some")
		return contracts.CommandEnd{}, contracts.CommandErrorf(contracts.CodeNotFound, "the container is gone%s", strings.Repeat(" \xff", 2000))
	}})
	r, err := c.Logs(t.Context(), "a", someLogs)
	must(t, err)
	defer r.Close()
	got, err := io.ReadAll(r)
	if string(got) != "some" {
		t.Errorf("it read %q", got)
	}
	code(t, err, contracts.CodeNotFound)
}

// endless writes until it can't, and counts.
func endless(written *atomic.Int64) Task {
	return func(_ context.Context, s Streams) (contracts.CommandEnd, error) {
		chunk := make([]byte, 100_000)
		for {
			n, err := s.Stdout.Write(chunk)
			written.Add(int64(n))
			if err != nil {
				return contracts.CommandEnd{}, err
			}
		}
	}
}

func TestSlowReaderHoldsTheDeviceUp(t *testing.T) {
	var written atomic.Int64
	h := &obeying{task: endless(&written)}
	_, _, c := obeyed(t, h)
	r, err := c.Logs(t.Context(), "a", someLogs)
	must(t, err)
	eventually(t, func() string {
		if n := written.Load(); n < contracts.OutputWindow-100_000 {
			return fmt.Sprintf("it wrote %d", n)
		}
		return ""
	})
	time.Sleep(2 * quick.maxSilence) // keep-alives go on meanwhile
	if n := written.Load(); n > contracts.OutputWindow {
		t.Errorf("the device wrote %d bytes that nobody read", n)
	}
	_, err = io.CopyN(io.Discard, r, 4<<20)
	must(t, err)
	// A reader that goes away ends it on the device.
	within(t, 5*time.Second, "close", func() { must(t, r.Close()) })
	h.over(t, 1)
	if _, err := r.Read(make([]byte, 1)); err == nil {
		t.Error("it reads on after it was closed")
	}
}

func TestOperatorThatDiesEndsItOnTheDevice(t *testing.T) {
	var written atomic.Int64
	h := &obeying{task: endless(&written)}
	s, _, c := obeyed(t, h)
	r, err := c.Logs(t.Context(), "a", someLogs)
	must(t, err)
	c.nc.Close()
	h.over(t, 1)
	_, err = io.Copy(io.Discard, r)
	code(t, err, contracts.CodeOffline)
	must(t, r.Close())
	// The device is free for others.
	other := s.commander()
	_, err = other.Ping(t.Context(), "a")
	must(t, err)
}

func waiting(ctx context.Context, _ Streams) (contracts.CommandEnd, error) {
	<-ctx.Done()
	return contracts.CommandEnd{}, ctx.Err()
}

func TestDeviceThatDiesIsNoticed(t *testing.T) {
	h := &obeying{task: waiting}
	_, nc, c := obeyed(t, h)
	r, err := c.Logs(t.Context(), "a", contracts.LogsRequest{Deployment: "web", Follow: true})
	must(t, err)
	eventually(t, func() string { return fmt.Sprint(strings.Repeat("not begun", 1-int(h.begun.Load()))) })
	nc.Close()
	begun := time.Now()
	_, err = r.Read(make([]byte, 1))
	code(t, err, contracts.CodeOffline)
	if took := time.Since(begun); took > 3*quick.maxSilence {
		t.Errorf("noticed after %s", took)
	}
	must(t, r.Close())
	h.over(t, 1)
}

func TestAgentThatStopsSaysSo(t *testing.T) {
	s := start(t, "a")
	nc := s.connect("a")
	h := &obeying{task: waiting}
	stop := s.obey(nc, "a", h, 0)
	r, err := s.commander().Logs(t.Context(), "a", someLogs)
	must(t, err)
	defer r.Close()
	eventually(t, func() string { return strings.Repeat("not begun", 1-int(h.begun.Load())) })
	stop()
	_, err = r.Read(make([]byte, 1))
	code(t, err, contracts.CodeOffline)
	if err == nil || !strings.Contains(err.Error(), "stopping") {
		t.Error(err)
	}
}

func TestServerThatRestartsEndsSessionsOnBothSides(t *testing.T) {
	h := &obeying{task: waiting}
	s, _, c := obeyed(t, h)
	r, err := c.Logs(t.Context(), "a", someLogs)
	must(t, err)
	defer r.Close()
	eventually(t, func() string { return strings.Repeat("not begun", 1-int(h.begun.Load())) })
	s.down()
	time.Sleep(3 * quick.keepAlive)
	s.up()
	_, err = r.Read(make([]byte, 1))
	if err == nil {
		t.Error("it reads on")
	}
	h.over(t, 1)
	eventually(t, func() string {
		if _, err := c.Ping(t.Context(), "a"); err != nil {
			return err.Error()
		}
		return ""
	})
}

func TestDeadlineEndsACommand(t *testing.T) {
	h := &obeying{task: waiting}
	_, _, c := obeyed(t, h)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	r, err := c.Logs(ctx, "a", someLogs)
	must(t, err)
	_, err = r.Read(make([]byte, 1))
	code(t, err, contracts.CodeTimeout)
	must(t, r.Close())
	h.over(t, 1)
	// One that is given up is not a matter of the device.
	ctx, giveUp := context.WithCancel(t.Context())
	r, err = c.Logs(ctx, "a", someLogs)
	must(t, err)
	giveUp()
	if _, err = r.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	must(t, r.Close())
	h.over(t, 2)
}

func TestDeviceThatDoesNotAnswer(t *testing.T) {
	s := start(t, "a")
	nc := s.connect("a")
	_, err := nc.Subscribe(contracts.CommandSubject("a", "*"), func(*nats.Msg) {})
	must(t, err)
	must(t, nc.Flush())
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = s.commander().Ping(ctx, "a")
	code(t, err, contracts.CodeTimeout)
}

func TestTooManySessions(t *testing.T) {
	s := start(t, "a")
	h := &obeying{task: waiting}
	s.obey(s.connect("a"), "a", h, 2)
	c := s.commander()
	var open []io.ReadCloser
	for range 2 {
		r, err := c.Logs(t.Context(), "a", someLogs)
		must(t, err)
		open = append(open, r)
	}
	_, err := c.Logs(t.Context(), "a", someLogs)
	code(t, err, contracts.CodeBusy)
	_, err = c.Ping(t.Context(), "a")
	must(t, err)
	must(t, open[0].Close())
	eventually(t, func() string {
		r, err := c.Logs(t.Context(), "a", someLogs)
		if err != nil {
			return err.Error()
		}
		must(t, r.Close())
		return ""
	})
	must(t, open[1].Close())
}

func TestExec(t *testing.T) {
	h := &obeying{task: func(ctx context.Context, s Streams) (contracts.CommandEnd, error) {
		size := <-s.Resize
		fmt.Fprintf(s.Stderr, "%dx%d", size.Width, size.Height)
		if _, err := io.Copy(s.Stdout, s.Stdin); err != nil {
			return contracts.CommandEnd{}, err
		}
		return contracts.CommandEnd{ExitCode: new(int32(42))}, nil
	}}
	_, _, c := obeyed(t, h)
	e, err := c.Exec(t.Context(), "a", contracts.ExecRequest{Deployment: "web", Command: []string{"cat"}, Stdin: true, TTY: true})
	must(t, err)
	must(t, e.Resize(contracts.TerminalSize{Width: 80, Height: 24}))
	data := make([]byte, 3<<20)
	_, _ = rand.Read(data)
	var both sync.WaitGroup
	both.Go(func() {
		in := e.Stdin()
		if _, err := in.Write(data); err != nil {
			t.Error(err)
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	})
	out, err := io.ReadAll(e.Stdout())
	must(t, err)
	both.Wait()
	if !bytes.Equal(out, data) {
		t.Errorf("%d bytes came back, not the %d that were sent", len(out), len(data))
	}
	stderr, err := io.ReadAll(e.Stderr())
	must(t, err)
	if string(stderr) != "80x24" {
		t.Errorf("%q", stderr)
	}
	exit, err := e.Wait()
	must(t, err)
	if exit != 42 {
		t.Errorf("exit code %d", exit)
	}
	must(t, e.Close())
	if _, err := e.Stdin().Write([]byte("x")); err == nil {
		t.Error("input is taken after the end")
	}
}

func TestInputThatIsNotReadIsHeldUp(t *testing.T) {
	h := &obeying{task: waiting}
	_, _, c := obeyed(t, h)
	e, err := c.Exec(t.Context(), "a", contracts.ExecRequest{Deployment: "web", Command: []string{"x"}, Stdin: true})
	must(t, err)
	done := make(chan int, 1)
	go func() {
		n, _ := e.Stdin().Write(make([]byte, 1<<20))
		done <- n
	}()
	select {
	case n := <-done:
		t.Errorf("%d bytes were taken that nobody reads", n)
	case <-time.After(2 * quick.maxSilence):
	}
	must(t, e.Close())
	if n := <-done; n != contracts.InputWindow {
		t.Errorf("%d bytes were on their way", n)
	}
	h.over(t, 1)
}

func TestNothingBeginsThatTheOperatorDoesNotKnowOf(t *testing.T) {
	h := &obeying{task: waiting}
	s, _, c := obeyed(t, h)
	// An operator that asks and is gone when the answer comes.
	data, err := contracts.Encode(contracts.CommandRequest{
		Verb: contracts.VerbExec, Session: contracts.NewSessionID(), Milliseconds: 60_000,
		Exec: &contracts.ExecRequest{Deployment: "web", Command: []string{"x"}},
	})
	must(t, err)
	_, err = s.connect("").Request(contracts.CommandSubject("a", contracts.VerbExec), data, Timeout)
	must(t, err)
	_ = c
	time.Sleep(2 * quick.maxSilence)
	if n := h.begun.Load(); n != 0 {
		t.Errorf("%d tasks have begun", n)
	}
}
