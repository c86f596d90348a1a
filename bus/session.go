package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleet/contracts"
)

// timing is how the two sides of a session know that the other is there.
type timing struct{ keepAlive, maxSilence time.Duration }

var usual = timing{contracts.KeepAlive, contracts.MaxSilence}

// errLost tells that frames are missing, which core NATS may do at any time.
var errLost = errors.New("part of the session was lost on the way")

// side is one side of a session: it numbers what it sends and holds it to the other
// side's window, checks what it receives, and knows whether the other side is there.
type side struct {
	nc      *nats.Conn
	subject string
	session contracts.SessionID
	timing  timing
	// outWindow and inWindow bound the data on its way to the other side and to this.
	outWindow, inWindow uint64

	// sending is held while a frame is numbered and sent.
	sending  sync.Mutex
	sequence uint64

	mu sync.Mutex
	// sent is the data that was sent, other what the other side has taken of it; more
	// is closed when that has grown.
	sent, other uint64
	more        chan struct{}
	// received is the data that came in, taken what was handed on of it, and told what
	// the other side knows of that.
	received, taken, told uint64
	expected              uint64
	heard                 time.Time
}

func newSide(nc *nats.Conn, subject string, session contracts.SessionID, t timing, out, in uint64) *side {
	return &side{nc: nc, subject: subject, session: session, timing: t, outWindow: out, inWindow: in, more: make(chan struct{}), expected: 1, heard: time.Now()}
}

// send sends a frame. It does not wait.
func (s *side) send(f contracts.Frame) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	s.sequence++
	f.Session, f.Sequence = s.session, s.sequence
	data, err := contracts.EncodeFrame(f)
	if err == nil {
		err = s.nc.Publish(s.subject, data)
	}
	if err != nil {
		return fmt.Errorf("send to %s: %w", s.subject, err)
	}
	return nil
}

// alive shows that this side is there, and how much it has taken.
func (s *side) alive() error {
	s.mu.Lock()
	s.told = s.taken
	taken := s.taken
	s.mu.Unlock()
	return s.send(contracts.Frame{Kind: contracts.FrameAlive, Taken: taken})
}

// write sends data in frames as the other side takes it.
func (s *side) write(ctx context.Context, kind contracts.FrameKind, p []byte) (int, error) {
	written := 0
	for written < len(p) {
		n, err := s.reserve(ctx, min(len(p)-written, contracts.MaxChunk))
		if err != nil {
			return written, err
		}
		if err := s.send(contracts.Frame{Kind: kind, Data: p[written : written+n]}); err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

// reserve waits until some of n bytes may be sent, and returns how many.
func (s *side) reserve(ctx context.Context, n int) (int, error) {
	for {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		s.mu.Lock()
		room := s.other + s.outWindow - s.sent
		if room > 0 {
			n = int(min(uint64(n), room))
			s.sent += uint64(n)
			s.mu.Unlock()
			return n, nil
		}
		more := s.more
		s.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
		}
	}
}

// receive checks a frame of the other side. An error ends the session: what follows
// can't be trusted to be whole.
func (s *side) receive(f contracts.Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.Sequence != s.expected {
		return errLost
	}
	s.expected++
	s.heard = time.Now()
	s.received += uint64(len(f.Data))
	if s.received-s.taken > s.inWindow {
		return errors.New("the other side sends more than it may")
	}
	if f.Kind != contracts.FrameAlive {
		return nil
	}
	if f.Taken > s.sent {
		return errors.New("the other side has taken more than there was")
	}
	if f.Taken > s.other {
		s.other = f.Taken
		close(s.more)
		s.more = make(chan struct{})
	}
	return nil
}

// handedOn counts what a reader took, and tells the other side before that runs out
// of room.
func (s *side) handedOn(n int) {
	s.mu.Lock()
	s.taken += uint64(n)
	due := s.taken-s.told >= s.inWindow/4
	s.mu.Unlock()
	if due {
		// What keeps it from being sent ends the session by its silence.
		_ = s.alive()
	}
}

// listen counts silence from now.
func (s *side) listen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = time.Now()
}

func (s *side) silent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.heard) > s.timing.maxSilence
}

// queue is data that came in and was not read yet. What bounds it is the window.
type queue struct {
	taken func(int)

	mu   sync.Mutex
	wake sync.Cond
	data bytes.Buffer
	// err is what a reader gets when the data has run out; nil as long as more may come.
	err error
}

func newQueue(taken func(int)) *queue {
	q := &queue{taken: taken}
	q.wake.L = &q.mu
	return q
}

func (q *queue) put(p []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.data.Write(p)
		q.wake.Broadcast()
	}
}

// end lets readers have what there is, and then the error. The first one counts.
func (q *queue) end(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = err
		q.wake.Broadcast()
	}
}

// Read waits for data.
func (q *queue) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := q.read(p)
	if n > 0 {
		q.taken(n)
	}
	return n, err
}

func (q *queue) read(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.data.Len() == 0 && q.err == nil {
		q.wake.Wait()
	}
	if q.data.Len() == 0 {
		return 0, q.err
	}
	return q.data.Read(p)
}

// Close makes readers return at once.
func (q *queue) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.data.Reset()
	if q.err == nil {
		q.err = io.ErrClosedPipe
	}
	q.wake.Broadcast()
	return nil
}
