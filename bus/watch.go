package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nationtech/fleet/contracts"
)

// Entry is one write to a bucket.
type Entry struct {
	Bucket contracts.Bucket
	Key    string
	// Value that was written; it is the receiver's to keep.
	Value []byte
	// Deleted tells that the key was deleted; of desired state Value is then the order
	// to remove it.
	Deleted bool
	// Sequence in the bucket's stream; it grows from write to write.
	Sequence uint64
	// Time of writing by the server's clock.
	Time time.Time
}

// ErrStreamLost tells that a stream holds less than was once read from it: it was
// made anew or brought back from a backup. What was read is worth nothing; start
// from the beginning.
var ErrStreamLost = errors.New("the stream has lost what it held")

// idle is after how long without a message the server says that it is still there.
const idle = 2 * time.Second

// Watcher reads a bucket from its beginning and goes on with what is written. It
// takes interruptions of the connection and restarts of the server in its stride.
type Watcher struct {
	bucket  contracts.Bucket
	js      jetstream.JetStream
	handler func(Entry)
	log     *slog.Logger

	// cursor is the last sequence that was handled, created the stream's birth.
	cursor  uint64
	created time.Time

	once  sync.Once
	ready chan struct{}
	done  chan struct{}
	err   error
}

// Watch reads a bucket with one consumer. The handler is called for one entry after
// the other, in the order of writing; of a key that is written faster than it is
// read, only the last write is sure to be seen. The handler must not block for
// long. It ends with the context, or with ErrStreamLost.
func Watch(ctx context.Context, js jetstream.JetStream, bucket contracts.Bucket, log *slog.Logger, handler func(Entry)) *Watcher {
	w := &Watcher{
		bucket: bucket, js: js, handler: handler, log: log,
		ready: make(chan struct{}), done: make(chan struct{}),
	}
	go func() {
		defer close(w.done)
		w.err = w.run(ctx)
	}()
	return w
}

// Ready is closed when all has been handled that the bucket held at the start.
func (w *Watcher) Ready() <-chan struct{} { return w.ready }

// Done is closed when the watcher has ended.
func (w *Watcher) Done() <-chan struct{} { return w.done }

// Err tells why the watcher has ended; call it after Done.
func (w *Watcher) Err() error { return w.err }

func (w *Watcher) run(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		before := w.cursor
		err := w.read(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ErrStreamLost):
			return err
		}
		if w.cursor != before {
			attempt = 0
		}
		w.log.Debug("reading goes on", "bucket", w.bucket, "after", w.cursor, "because", err)
		if err := pause(ctx, Backoff(attempt, firstDelay/2, maxDelay)); err != nil {
			return err
		}
	}
}

// read goes on after the cursor until something gets in the way.
func (w *Watcher) read(ctx context.Context) error {
	// Registered first: a connection that is lost and made again from here on ends
	// the reading, and the stream is looked at anew.
	changed := w.js.Conn().StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer w.js.Conn().RemoveStatusListener(changed)
	if err := Await(ctx, w.js.Conn()); err != nil {
		return err
	}
	last, err := w.look(ctx)
	if err != nil {
		return err
	}
	consumer, err := w.consume(ctx)
	if err != nil {
		return err
	}
	defer w.forget(consumer)
	if consumer.CachedInfo().NumPending == 0 {
		w.caughtUp(last)
	}
	messages, err := consumer.Messages(jetstream.PullHeartbeat(idle), jetstream.WithMessagesErrOnMissingHeartbeat(true))
	if err != nil {
		return fmt.Errorf("read bucket %s: %w", w.bucket, err)
	}
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		defer messages.Stop()
		select {
		case <-ctx.Done():
		case <-changed:
		case <-stop:
		}
	}()
	defer func() { close(stop); <-stopped }()
	for delivered := uint64(1); ; delivered++ {
		m, err := messages.Next()
		if err != nil {
			return fmt.Errorf("read bucket %s: %w", w.bucket, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read bucket %s: %w", w.bucket, err)
		}
		if meta.Sequence.Consumer != delivered {
			return fmt.Errorf("read bucket %s: message %d came as number %d", w.bucket, meta.Sequence.Consumer, delivered)
		}
		w.cursor = meta.Sequence.Stream
		w.handle(m, meta)
		if meta.NumPending == 0 {
			w.caughtUp(last)
		}
	}
}

// consume makes a consumer that goes on after the cursor. It is not one of the
// client's ordered consumers: these make themselves anew without a look at
// whether the stream is still the same.
func (w *Watcher) consume(ctx context.Context) (jetstream.Consumer, error) {
	config := jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverAllPolicy,
		AckPolicy:         jetstream.AckNonePolicy,
		MaxDeliver:        1,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: 30 * time.Second,
	}
	if w.cursor > 0 {
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, w.cursor+1
	}
	consumer, err := w.js.CreateConsumer(ctx, w.bucket.Stream(), config)
	if err != nil {
		return nil, fmt.Errorf("read bucket %s: %w", w.bucket, err)
	}
	return consumer, nil
}

// forget removes a consumer now that the server would remove by itself later.
func (w *Watcher) forget(consumer jetstream.Consumer) {
	if !w.js.Conn().IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := w.js.DeleteConsumer(ctx, w.bucket.Stream(), consumer.CachedInfo().Name)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		w.log.Debug("consumer not removed, the server will", "bucket", w.bucket, "error", err)
	}
}

// look finds out whether the stream is still the one that was read, and what its
// last sequence is.
func (w *Watcher) look(ctx context.Context) (uint64, error) {
	stream, err := w.js.Stream(ctx, w.bucket.Stream())
	if err != nil {
		if errors.Is(err, jetstream.ErrStreamNotFound) && !w.created.IsZero() {
			return 0, fmt.Errorf("bucket %s: %w: it is gone", w.bucket, ErrStreamLost)
		}
		return 0, fmt.Errorf("look at bucket %s: %w", w.bucket, err)
	}
	info := stream.CachedInfo()
	if !w.created.IsZero() && (!info.Created.Equal(w.created) || info.State.LastSeq < w.cursor) {
		return 0, fmt.Errorf("bucket %s: %w: it ends at %d, and %d was read", w.bucket, ErrStreamLost, info.State.LastSeq, w.cursor)
	}
	w.created = info.Created
	return info.State.LastSeq, nil
}

// caughtUp moves the cursor to where the stream ended when it was looked at: what
// lies between was overwritten or has expired.
func (w *Watcher) caughtUp(last uint64) {
	w.cursor = max(w.cursor, last)
	w.once.Do(func() { close(w.ready) })
}

func (w *Watcher) handle(m jetstream.Msg, meta *jetstream.MsgMetadata) {
	key, ok := w.bucket.KeyOf(m.Subject())
	if !ok {
		return
	}
	e := Entry{Bucket: w.bucket, Key: key, Value: m.Data(), Sequence: meta.Sequence.Stream, Time: meta.Timestamp}
	e.Deleted = m.Headers().Get(headerOperation) != ""
	w.handler(e)
}
