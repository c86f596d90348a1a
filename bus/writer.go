package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nationtech/fleet/contracts"
)

// window is how many writes are on their way at once. More does not make it
// faster and costs memory.
const window = 1024

// maxNamed bounds how many keys an error names.
const maxNamed = 5

// headerOperation marks a deletion, as in every JetStream bucket
// (https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-8.md).
const (
	headerOperation = "KV-Operation"
	operationDelete = "DEL"
)

// Writer writes desired state without waiting for each acknowledgement. It is for
// one goroutine.
type Writer struct {
	js      jetstream.JetStream
	waiting []write
	failed  []error
	lost    int
}

type write struct {
	key string
	ack jetstream.PubAckFuture
}

// NewWriter makes a Writer.
func NewWriter(js jetstream.JetStream) *Writer { return &Writer{js: js} }

// Put writes an order to a device, signed. It waits while too many writes are on
// their way. An error is of this write; what became of earlier ones tells Flush.
func (w *Writer) Put(ctx context.Context, device contracts.DeviceID, name contracts.DeploymentName, envelope []byte) error {
	return w.publish(ctx, contracts.DesiredStateKey(device, name), &nats.Msg{Data: envelope})
}

// Delete writes a signed order to remove a Deployment from a device.
func (w *Writer) Delete(ctx context.Context, device contracts.DeviceID, name contracts.DeploymentName, envelope []byte) error {
	return w.publish(ctx, contracts.DesiredStateKey(device, name), &nats.Msg{Header: nats.Header{headerOperation: {operationDelete}}, Data: envelope})
}

// Replace writes an order in the place of the one that was read at a sequence. It
// fails when another was written since; see IsReplaced.
func Replace(ctx context.Context, js jetstream.JetStream, device contracts.DeviceID, name contracts.DeploymentName, envelope []byte, withdrawn bool, sequence uint64) (uint64, error) {
	key := contracts.DesiredStateKey(device, name)
	m := &nats.Msg{Subject: contracts.BucketDesiredState.Subject(key), Data: envelope}
	if withdrawn {
		m.Header = nats.Header{headerOperation: {operationDelete}}
	}
	ack, err := js.PublishMsg(ctx, m, jetstream.WithExpectLastSequencePerSubject(sequence))
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", key, err)
	}
	return ack.Sequence, nil
}

// IsReplaced reports whether a write of Replace came too late.
func IsReplaced(err error) bool {
	var refused *jetstream.APIError
	return errors.As(err, &refused) && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}

func (w *Writer) publish(ctx context.Context, key string, m *nats.Msg) error {
	if len(w.waiting) >= window {
		w.settle(ctx, window/2)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("write %s: %w", key, context.Cause(ctx))
	}
	if len(m.Data) > contracts.MaxEnvelopeSize {
		return fmt.Errorf("write %s: %w", key, &contracts.TooLargeError{Got: len(m.Data), Limit: contracts.MaxEnvelopeSize})
	}
	m.Subject = contracts.BucketDesiredState.Subject(key)
	// Others may write at the same time, and together more than may be on their way: then
	// they take turns. Nothing is on its way for longer than Timeout.
	ack, err := w.js.PublishMsgAsync(m, jetstream.WithStallWait(2*Timeout))
	if err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	w.waiting = append(w.waiting, write{key, ack})
	return nil
}

// Flush waits until every write is stored. Its error names the keys of which that
// is not known; to write them again does no harm.
func (w *Writer) Flush(ctx context.Context) error {
	w.settle(ctx, len(w.waiting))
	failed, lost := w.failed, w.lost
	w.failed, w.lost = nil, 0
	if lost > 0 {
		failed = append(failed, fmt.Errorf("and %d more", lost))
	}
	return errors.Join(failed...)
}

// settle waits for the n oldest writes.
func (w *Writer) settle(ctx context.Context, n int) {
	for _, p := range w.waiting[:n] {
		select {
		case <-p.ack.Ok():
		case err := <-p.ack.Err():
			w.fail(p.key, err)
		case <-ctx.Done():
			w.fail(p.key, context.Cause(ctx))
		}
	}
	w.waiting = append(w.waiting[:0], w.waiting[n:]...)
}

func (w *Writer) fail(key string, err error) {
	if len(w.failed) == maxNamed {
		w.lost++
		return
	}
	w.failed = append(w.failed, fmt.Errorf("write %s: %w", key, err))
}
