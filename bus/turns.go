package bus

import (
	"context"
	"errors"
	"sync"

	"github.com/nats-io/nats.go"
)

// turns has requests answered so that nobody takes the others' place: of each subject,
// which is one device's, one is being answered and one may wait for that. A device that
// asks without end keeps itself waiting.
type turns struct {
	mu sync.Mutex
	// waiting has the subjects of which a request is being answered or is about to be,
	// with the one that follows it, if any.
	waiting map[string]*nats.Msg
	ready   chan *nats.Msg
}

// serveInTurn answers requests until the context ends, that many at the same time. Of
// the servers of a queue group one answers each.
func serveInTurn(ctx context.Context, nc *nats.Conn, subject, group string, workers int, answer func(*nats.Msg)) error {
	t := &turns{waiting: map[string]*nats.Msg{}, ready: make(chan *nats.Msg, queued)}
	sub, err := nc.QueueSubscribe(subject, group, t.come)
	if err != nil {
		return err
	}
	var answering sync.WaitGroup
	for range workers {
		answering.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case m := <-t.ready:
					answer(m)
					t.done(m.Subject)
				}
			}
		})
	}
	answering.Wait()
	if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		return err
	}
	return nil
}

// come takes a request in. The newest of a device is the one that it waits for.
func (t *turns) come(m *nats.Msg) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, busy := t.waiting[m.Subject]; busy {
		t.waiting[m.Subject] = m
		return
	}
	select {
	case t.ready <- m:
		t.waiting[m.Subject] = nil
	default:
		// Nobody would be in time at the end of such a queue: the device asks again.
	}
}

// done puts the request that follows at the end of the queue.
func (t *turns) done(subject string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if next := t.waiting[subject]; next != nil {
		select {
		case t.ready <- next:
			t.waiting[subject] = nil
			return
		default:
		}
	}
	delete(t.waiting, subject)
}
