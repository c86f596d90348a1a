package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleet/contracts"
)

// How long commands may take when the context sets no deadline, and how long a device
// may take to answer that it has begun.
const (
	pingLimit    = 5 * time.Second
	logsLimit    = 5 * time.Minute
	restartLimit = 10 * time.Minute
	streamLimit  = 4 * time.Hour
	openLimit    = 6 * time.Second
	// late is how much longer than the device the operator waits, so that the device
	// says itself that the time is up.
	late = time.Second
)

// Commander commands devices, for an operator. Its methods may be called at any time
// and return a *contracts.CommandError when the device or the way to it is the reason.
// The context bounds the whole of a command, the reading of what it brings included.
type Commander struct {
	nc     *nats.Conn
	log    *slog.Logger
	timing timing
}

// NewCommander returns a Commander over an operator's connection.
func NewCommander(nc *nats.Conn, log *slog.Logger) *Commander {
	return &Commander{nc: nc, log: log, timing: usual}
}

// Ping asks whether a device is there.
func (c *Commander) Ping(ctx context.Context, d contracts.DeviceID) (contracts.Pong, error) {
	ctx, limit, cancel := bound(ctx, pingLimit)
	defer cancel()
	reply, err := c.ask(ctx, d, contracts.CommandRequest{Verb: contracts.VerbPing, Session: contracts.NewSessionID(), Milliseconds: limit.Milliseconds()})
	if err != nil {
		return contracts.Pong{}, err
	}
	if reply.Ping == nil {
		return contracts.Pong{}, contracts.CommandErrorf(contracts.CodeInternal, "device %s answers a ping with something else", d)
	}
	return *reply.Ping, nil
}

// Logs reads a container's log. What it returns ends with io.EOF where the log does,
// and otherwise with the error that cut it off; closing it ends it on the device too.
func (c *Commander) Logs(ctx context.Context, d contracts.DeviceID, r contracts.LogsRequest) (io.ReadCloser, error) {
	limit := logsLimit
	if r.Follow {
		limit = streamLimit
	}
	s, err := c.open(ctx, d, limit, contracts.CommandRequest{Verb: contracts.VerbLogs, Logs: &r})
	if err != nil {
		return nil, err
	}
	return logStream{s}, nil
}

type logStream struct{ s *session }

func (l logStream) Read(p []byte) (int, error) { return l.s.stdout.Read(p) }
func (l logStream) Close() error               { return l.s.Close() }

// Exec runs a command in a container. It has begun when this returns.
func (c *Commander) Exec(ctx context.Context, d contracts.DeviceID, r contracts.ExecRequest) (*Execution, error) {
	s, err := c.open(ctx, d, streamLimit, contracts.CommandRequest{Verb: contracts.VerbExec, Exec: &r})
	if err != nil {
		return nil, err
	}
	return &Execution{s}, nil
}

// Restart restarts containers and returns which, by their names in the score, once
// they have all been started.
func (c *Commander) Restart(ctx context.Context, d contracts.DeviceID, r contracts.RestartRequest) ([]string, error) {
	s, err := c.open(ctx, d, restartLimit, contracts.CommandRequest{Verb: contracts.VerbRestart, Restart: &r})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	end, err := s.wait()
	if err != nil {
		return nil, err
	}
	return end.Restarted, nil
}

// Execution is a command that runs in a container. Both outputs have to be read, or
// the command is held up when either is full.
type Execution struct{ s *session }

// Stdin is the command's input; closing it ends the input. It is of no use when the
// request asked for none.
func (e *Execution) Stdin() io.WriteCloser { return stdin{e.s} }

// Stdout is the command's output, all of it when it has a terminal. It ends with
// io.EOF when the command has ended, and otherwise with what cut it off.
func (e *Execution) Stdout() io.Reader { return e.s.stdout }

// Stderr is the command's error output, as Stdout is its output.
func (e *Execution) Stderr() io.Reader { return e.s.stderr }

// Resize tells the command the size of its terminal.
func (e *Execution) Resize(size contracts.TerminalSize) error {
	return e.s.send(contracts.Frame{Kind: contracts.FrameResize, Size: size})
}

// Wait waits for the command to end and returns its exit code. An error tells that it
// is not known how, or whether, it has ended.
func (e *Execution) Wait() (int, error) {
	end, err := e.s.wait()
	if err != nil {
		return 0, err
	}
	if end.ExitCode == nil {
		return 0, contracts.CommandErrorf(contracts.CodeInternal, "the device does not say how the command has ended")
	}
	return int(*end.ExitCode), nil
}

// Close ends the command, if it still runs, and all that belongs to the session.
func (e *Execution) Close() error { return e.s.Close() }

type stdin struct{ s *session }

func (w stdin) Write(p []byte) (int, error) { return w.s.write(w.s.ctx, contracts.FrameStdin, p) }
func (w stdin) Close() error {
	return w.s.send(contracts.Frame{Kind: contracts.FrameStdinEnd})
}

// session is the operator's side of a session.
type session struct {
	*side
	device         contracts.DeviceID
	ctx            context.Context
	finish         context.CancelCauseFunc
	sub            *nats.Subscription
	watching       sync.WaitGroup
	stdout, stderr *queue

	ended sync.Once
	// result is set before done is closed.
	done   chan struct{}
	result contracts.CommandEnd
	err    error

	// refused is what was last received and not accepted. It may come from anybody who
	// can make the server send something here, so it ends nothing.
	refusing sync.Mutex
	refused  error
}

// open opens a session: the device is asked, agrees, and begins when it hears that
// this is known.
func (c *Commander) open(ctx context.Context, d contracts.DeviceID, limit time.Duration, r contracts.CommandRequest) (*session, error) {
	ctx, limit, cancel := bound(ctx, limit)
	r.Session, r.Milliseconds = contracts.NewSessionID(), limit.Milliseconds()
	ctx, finish := context.WithCancelCause(ctx)
	s := &session{
		side:   newSide(c.nc, contracts.CommandSubject(d, contracts.VerbInput), r.Session, c.timing, contracts.InputWindow, contracts.OutputWindow),
		device: d, ctx: ctx, finish: func(err error) { finish(err); cancel() }, done: make(chan struct{}),
	}
	s.stdout, s.stderr = newQueue(s.handedOn), newQueue(s.handedOn)
	fail := func(err error) (*session, error) {
		s.fail(err)
		return nil, err
	}
	var err error
	if s.sub, err = c.nc.Subscribe(contracts.SessionSubject(d, r.Session), s.handle); err != nil {
		return fail(fmt.Errorf("open a session with device %s: %w", d, err))
	}
	// More than the window holds, with room for the heads of small frames. A device
	// that floods its session loses it.
	if err := s.sub.SetPendingLimits(16<<10, 4*contracts.OutputWindow); err != nil {
		return fail(fmt.Errorf("open a session with device %s: %w", d, err))
	}
	asking, stop := context.WithTimeout(ctx, openLimit)
	defer stop()
	if _, err := c.ask(asking, d, r); err != nil {
		// What the device sent meanwhile may have ended it first.
		_, _ = fail(err)
		return nil, s.err
	}
	s.listen()
	if err := s.alive(); err != nil {
		return fail(s.offline(err))
	}
	s.watching.Go(s.watch)
	return s, nil
}

// bound gives the context a deadline if it has none, and returns how long the device
// may take.
func bound(ctx context.Context, limit time.Duration) (context.Context, time.Duration, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(time.Until(deadline), contracts.MaxCommandTime)
	}
	limit = max(limit, time.Millisecond)
	ctx, cancel := context.WithTimeout(ctx, limit+late)
	return ctx, limit, cancel
}

// ask sends a request and reads the answer.
func (c *Commander) ask(ctx context.Context, d contracts.DeviceID, r contracts.CommandRequest) (contracts.CommandReply, error) {
	fail := func(code contracts.CommandCode, format string, args ...any) (contracts.CommandReply, error) {
		return contracts.CommandReply{}, contracts.CommandErrorf(code, format, args...)
	}
	if _, err := contracts.ParseDeviceID(string(d)); err != nil {
		return fail(contracts.CodeInvalid, "%v", err)
	}
	data, err := contracts.Encode(r)
	if err != nil {
		if e, ok := errors.AsType[*contracts.TooLargeError](err); ok {
			return fail(contracts.CodeTooLarge, "%v", e)
		}
		return fail(contracts.CodeInvalid, "%v", err)
	}
	if !c.nc.IsConnected() {
		return fail(contracts.CodeInternal, "the operator is not connected to NATS")
	}
	m, err := c.nc.RequestWithContext(ctx, contracts.CommandSubject(d, r.Verb), data)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return fail(contracts.CodeOffline, "device %s is offline: no agent listens to commands", d)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return fail(contracts.CodeTimeout, "device %s has not answered in time", d)
	case err != nil:
		return contracts.CommandReply{}, fmt.Errorf("command %s of device %s: %w", r.Verb, d, err)
	}
	reply, err := contracts.DecodeCommandReply(m.Data)
	if err == nil && reply.Session != r.Session {
		err = errors.New("it is the answer to something else")
	}
	if err != nil {
		return fail(contracts.CodeInternal, "the answer of device %s is refused: %v", d, err)
	}
	if reply.Error != nil {
		return contracts.CommandReply{}, reply.Error
	}
	return reply, nil
}

// handle takes in what comes on the session's subject.
func (s *session) handle(m *nats.Msg) {
	f, err := contracts.DecodeFrame(m.Data)
	if err == nil && (f.Session != s.session || !f.Kind.FromDevice()) {
		err = errors.New("it is not of this side of this session")
	}
	if err != nil {
		s.refusing.Lock()
		s.refused = err
		s.refusing.Unlock()
		return
	}
	if err := s.receive(f); err != nil {
		s.fail(contracts.CommandErrorf(contracts.CodeInternal, "session with device %s: %v", s.device, err))
		return
	}
	switch f.Kind {
	case contracts.FrameStdout:
		s.stdout.put(f.Data)
	case contracts.FrameStderr:
		s.stderr.put(f.Data)
	case contracts.FrameEnd:
		var err error
		if f.End.Error != nil {
			err = f.End.Error
		}
		s.over(*f.End, err, true)
	}
}

// watch keeps the session alive until it is over.
func (s *session) watch() {
	ticker := time.NewTicker(s.timing.keepAlive)
	defer ticker.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-s.ctx.Done():
			err := context.Cause(s.ctx)
			if errors.Is(err, context.DeadlineExceeded) {
				err = contracts.CommandErrorf(contracts.CodeTimeout, "device %s has not finished in time", s.device)
			}
			s.fail(err)
			return
		case <-ticker.C:
			if s.silent() {
				s.fail(s.offline(nil))
				return
			}
			// Without a connection the silence ends the session.
			_ = s.alive()
		}
	}
}

func (s *session) offline(why error) error {
	s.refusing.Lock()
	defer s.refusing.Unlock()
	if why == nil {
		why = s.refused
	}
	if why != nil {
		return contracts.CommandErrorf(contracts.CodeOffline, "device %s has gone silent in the middle: %v", s.device, why)
	}
	return contracts.CommandErrorf(contracts.CodeOffline, "device %s has gone silent in the middle", s.device)
}

// fail ends the session from this side.
func (s *session) fail(err error) { s.over(contracts.CommandEnd{}, err, false) }

// over ends the session, once; told is whether the device did. What was received can
// still be read.
func (s *session) over(end contracts.CommandEnd, err error, told bool) {
	s.ended.Do(func() {
		s.result, s.err = end, err
		if s.sub != nil {
			_ = s.sub.Unsubscribe() // it fails when the connection is closed, and then it is gone
		}
		if !told {
			// Also a device that has not answered may have something open. What keeps this
			// from arriving ends the session there by silence.
			_ = s.send(contracts.Frame{Kind: contracts.FrameStop})
		}
		close(s.done)
		cause := err
		if cause == nil {
			cause = io.EOF
		}
		s.stdout.end(cause)
		s.stderr.end(cause)
		s.finish(cause)
	})
}

func (s *session) wait() (contracts.CommandEnd, error) {
	<-s.done
	return s.result, s.err
}

var errClosed = errors.New("the session was closed")

// Close ends the session on both sides and waits until nothing of it is left here.
func (s *session) Close() error {
	s.fail(errClosed)
	_ = s.stdout.Close()
	_ = s.stderr.Close()
	s.watching.Wait()
	return nil
}
