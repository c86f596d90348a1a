package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleet/contracts"
)

// CommandHandler is what a device does when it is commanded. Errors that are a
// *contracts.CommandError arrive as they are.
type CommandHandler interface {
	// Ping answers at once.
	Ping() (contracts.Pong, error)
	// Prepare looks whether a command can be carried out, and returns what does it. It
	// changes nothing: the operator may be gone before it begins.
	Prepare(ctx context.Context, r contracts.CommandRequest) (Task, error)
}

// Task carries out a command. It returns when it is done, or soon after the context
// has ended, and leaves nothing behind.
type Task func(ctx context.Context, s Streams) (contracts.CommandEnd, error)

// Streams connect a Task with the operator.
type Streams struct {
	// Stdin is what the operator sends. Closing it ends a Read that waits.
	Stdin io.ReadCloser
	// Stdout and Stderr go to the operator. A Write waits until the operator has taken
	// enough of what was written before.
	Stdout, Stderr io.Writer
	// Resize has the latest size of the operator's terminal when that has changed.
	Resize <-chan contracts.TerminalSize
}

// CommandOptions are settings of ServeCommands.
type CommandOptions struct {
	// Sessions is how many may be open at once; 0 is contracts.MaxSessions.
	Sessions int
	Logger   *slog.Logger
	timing   timing
}

// prepareLimit is how long a device looks whether it can carry out a command.
const prepareLimit = 5 * time.Second

// What ends a session from outside its task.
var (
	errGone     = contracts.CommandErrorf(contracts.CodeOffline, "the operator is gone")
	errStopping = contracts.CommandErrorf(contracts.CodeOffline, "the agent is stopping")
)

// ServeCommands carries out the commands of operators on a device until the context
// ends, and then waits for all that it has begun.
func ServeCommands(ctx context.Context, nc *nats.Conn, d contracts.DeviceID, h CommandHandler, o CommandOptions) error {
	if o.Sessions == 0 {
		o.Sessions = contracts.MaxSessions
	}
	if o.timing == (timing{}) {
		o.timing = usual
	}
	s := &commandServer{nc: nc, device: d, handler: h, options: o, ctx: ctx, open: map[contracts.SessionID]*served{}}
	sub, err := nc.Subscribe(contracts.CommandSubject(d, "*"), s.handle)
	if err != nil {
		return fmt.Errorf("listen to commands of device %s: %w", d, err)
	}
	if err := sub.SetPendingLimits(pendingMessages, pendingBytes); err != nil {
		return fmt.Errorf("listen to commands of device %s: %w", d, err)
	}
	<-ctx.Done()
	err = sub.Unsubscribe()
	s.mu.Lock()
	s.closed = true
	for _, one := range s.open {
		one.stop(errStopping)
	}
	s.mu.Unlock()
	s.tasks.Wait()
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) && !errors.Is(err, nats.ErrBadSubscription) {
		return fmt.Errorf("listen no longer to commands of device %s: %w", d, err)
	}
	return nil
}

// commandServer is a device's side of all sessions.
type commandServer struct {
	nc      *nats.Conn
	device  contracts.DeviceID
	handler CommandHandler
	options CommandOptions
	ctx     context.Context
	tasks   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	open   map[contracts.SessionID]*served
}

// served is a device's side of one session.
type served struct {
	*side
	stop   context.CancelCauseFunc
	stdin  *queue
	resize chan contracts.TerminalSize
	// begun is closed when the operator is known to listen.
	begun chan struct{}
	once  sync.Once
}

// handle takes in one message. It does not wait: sessions live by what comes here.
func (c *commandServer) handle(m *nats.Msg) {
	verb := contracts.Verb(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:])
	if verb == contracts.VerbInput {
		c.input(m.Data)
		return
	}
	if m.Reply == "" {
		return // nobody waits for the answer, so no operator asked
	}
	r, err := contracts.DecodeCommandRequest(m.Data)
	if err == nil && r.Verb != verb {
		err = fmt.Errorf("it is made for %s and came by %s", r.Verb, verb)
	}
	if err != nil {
		c.options.Logger.Debug("refused a command", "verb", string(verb), "error", err)
		if session, ok := contracts.SessionOf(m.Data); ok {
			c.answer(m, contracts.CommandReply{Session: session, Error: contracts.CommandErrorf(contracts.CodeInvalid, "the agent does not understand the command: %v", err)})
		}
		return
	}
	if r.Verb == contracts.VerbPing {
		pong, err := c.handler.Ping()
		reply := contracts.CommandReply{Session: r.Session, Error: contracts.AsCommandError(err)}
		if err == nil {
			reply.Ping = &pong
		}
		c.answer(m, reply)
		return
	}
	if err := c.begin(m, r); err != nil {
		c.answer(m, contracts.CommandReply{Session: r.Session, Error: err})
	}
}

func (c *commandServer) answer(m *nats.Msg, r contracts.CommandReply) {
	data, err := contracts.Encode(r)
	if err == nil {
		err = m.Respond(data)
	}
	if err != nil {
		c.options.Logger.Debug("a command was not answered", "subject", m.Subject, "error", err)
	}
}

// input takes in what the operator sends in a session that is open.
func (c *commandServer) input(data []byte) {
	f, err := contracts.DecodeFrame(data)
	if err != nil || !f.Kind.FromOperator() {
		c.options.Logger.Debug("refused what is no input", "error", err)
		return
	}
	c.mu.Lock()
	s := c.open[f.Session]
	c.mu.Unlock()
	if s == nil {
		return // it has just ended
	}
	if err := s.receive(f); err != nil {
		s.stop(contracts.CommandErrorf(contracts.CodeInternal, "%v", err))
		return
	}
	switch f.Kind {
	case contracts.FrameStdin:
		s.stdin.put(f.Data)
	case contracts.FrameStdinEnd:
		s.stdin.end(io.EOF)
	case contracts.FrameResize:
		select {
		case <-s.resize: // superseded
		default:
		}
		s.resize <- f.Size // this is the only sender, so there is room
	case contracts.FrameStop:
		s.stop(errGone)
		return
	}
	s.once.Do(func() { close(s.begun) })
}

// begin opens a session and has it served, unless there are too many.
func (c *commandServer) begin(m *nats.Msg, r contracts.CommandRequest) *contracts.CommandError {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return errStopping
	case c.open[r.Session] != nil:
		return contracts.CommandErrorf(contracts.CodeInvalid, "session %s is open already", r.Session)
	case len(c.open) >= c.options.Sessions:
		return contracts.CommandErrorf(contracts.CodeBusy, "the device has %d sessions open, which is as many as it may; try again when one has ended", len(c.open))
	}
	limited, cancel := context.WithTimeoutCause(c.ctx, r.Limit(), contracts.CommandErrorf(contracts.CodeTimeout, "it took longer than %s", r.Limit()))
	ctx, stop := context.WithCancelCause(limited)
	s := &served{
		side: newSide(c.nc, contracts.SessionSubject(c.device, r.Session), r.Session, c.options.timing, contracts.OutputWindow, contracts.InputWindow),
		stop: stop, resize: make(chan contracts.TerminalSize, 1), begun: make(chan struct{}),
	}
	s.stdin = newQueue(s.handedOn)
	c.open[r.Session] = s
	c.tasks.Go(func() {
		defer cancel()
		defer stop(nil)
		c.serve(ctx, s, m, r)
		c.mu.Lock()
		delete(c.open, r.Session)
		c.mu.Unlock()
	})
	return nil
}

// serve carries out a command that opens a session.
func (c *commandServer) serve(ctx context.Context, s *served, m *nats.Msg, r contracts.CommandRequest) {
	preparing, cancel := context.WithTimeoutCause(ctx, prepareLimit, contracts.CommandErrorf(contracts.CodeTimeout, "the device took too long to look whether it can"))
	task, err := c.handler.Prepare(preparing, r)
	err = why(preparing, err)
	cancel()
	c.answer(m, contracts.CommandReply{Session: r.Session, Error: contracts.AsCommandError(err)})
	if err != nil {
		return
	}
	s.listen()
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	watching.Go(func() { s.watch(ctx, end) })
	select {
	case <-s.begun:
	case <-ctx.Done():
		return
	}
	unblock := context.AfterFunc(ctx, func() { s.stdin.end(context.Cause(ctx)) })
	defer unblock()
	log := c.options.Logger.With("verb", string(r.Verb), "session", r.Session.String())
	log.Info("carrying out a command")
	how, err := task(ctx, Streams{Stdin: s.stdin, Stdout: output{ctx, s.side, contracts.FrameStdout}, Stderr: output{ctx, s.side, contracts.FrameStderr}, Resize: s.resize})
	if err = why(ctx, err); err != nil {
		how = contracts.CommandEnd{Error: contracts.AsCommandError(err)}
	}
	log.Info("a command has ended", "error", err)
	if err := s.send(contracts.Frame{Kind: contracts.FrameEnd, End: &how}); err != nil {
		log.Debug("the end of a session was not sent", "error", err)
	}
}

// why puts what has ended the context in the place of what came of that.
func why(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
			return cause
		}
		return errStopping
	}
	return err
}

// watch keeps the session alive, and ends it when the operator is gone.
func (s *served) watch(ctx context.Context, end context.CancelCauseFunc) {
	ticker := time.NewTicker(s.timing.keepAlive)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if s.silent() {
				end(errGone)
				return
			}
			// Without a connection the silence ends the session on both sides.
			_ = s.alive()
		}
	}
}

// output sends what is written to it.
type output struct {
	ctx  context.Context
	side *side
	kind contracts.FrameKind
}

func (o output) Write(p []byte) (int, error) { return o.side.write(o.ctx, o.kind, p) }
