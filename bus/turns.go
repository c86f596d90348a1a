package bus

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// turns has requests answered so that nobody takes the others' place: of each subject,
// which is one device's, one is being answered and one may wait for that. A device that
// asks without end keeps itself waiting.
type turns struct {
	mu sync.Mutex
	// waiting has the subjects of which a request is being answered or is about to be,
	// with the one that follows it, if any.
	waiting map[string]*request
	ready   chan *request
}

type request struct {
	*nats.Msg
	came time.Time
}

// serveInTurn answers requests until the context ends, that many at the same time. Of
// the servers of a queue group one answers each. Who asks waits for no longer than
// patience: then the context of the answer ends, and what has not begun by then never
// does, so that under a load that is too high those are answered who still wait, and not
// all too late.
func serveInTurn(ctx context.Context, nc *nats.Conn, subject, group string, workers int, patience time.Duration, answer func(context.Context, *nats.Msg)) error {
	t := &turns{waiting: map[string]*request{}, ready: make(chan *request, queued)}
	sub, err := nc.QueueSubscribe(subject, group, func(m *nats.Msg) { t.come(&request{m, time.Now()}) })
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
				case r := <-t.ready:
					ctx, cancel := context.WithDeadline(ctx, r.came.Add(patience))
					if ctx.Err() == nil {
						answer(ctx, r.Msg)
					}
					cancel()
					t.done(r.Subject)
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
func (t *turns) come(r *request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, busy := t.waiting[r.Subject]; busy {
		t.waiting[r.Subject] = r
		return
	}
	select {
	case t.ready <- r:
		t.waiting[r.Subject] = nil
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
