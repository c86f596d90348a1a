package bus

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleet/contracts"
)

const (
	// joining is how many devices are answered at the same time, most of which wait for
	// the API server.
	joining = 64
	// joinTimeout is how long a device waits for an answer.
	joinTimeout = 15 * time.Second
)

// JoinHandler answers the device with a public key, which has shown that it is its own.
type JoinHandler func(ctx context.Context, publicKey string, request []byte) ([]byte, error)

// ServeJoins answers devices that ask to join until the context ends.
func ServeJoins(ctx context.Context, nc *nats.Conn, handle JoinHandler, log *slog.Logger) error {
	err := serveInTurn(ctx, nc, contracts.JoinPrefix+".*", contracts.JoinPrefix, joining, joinTimeout, func(ctx context.Context, m *nats.Msg) {
		reply, err := handle(ctx, strings.TrimPrefix(m.Subject, contracts.JoinPrefix+"."), m.Data)
		if err == nil {
			err = m.Respond(reply)
		}
		if err != nil {
			log.Warn("a device that wants to join gets no answer", "subject", m.Subject, "error", err)
		}
	})
	if err != nil {
		return fmt.Errorf("listen to who wants to join: %w", err)
	}
	return nil
}

// AskToJoin asks the operator, over a connection that is joining.
func AskToJoin(ctx context.Context, nc *nats.Conn, publicKey string, request []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	// What is asked over a connection that ends is answered to nobody.
	lost := nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	defer nc.RemoveStatusListener(lost)
	go func() {
		select {
		case <-lost:
			cancel()
		case <-ctx.Done():
		}
	}()
	m, err := nc.RequestWithContext(ctx, contracts.JoinSubject(publicKey), request)
	if err != nil {
		return nil, fmt.Errorf("ask the operator: %w", err)
	}
	return m.Data, nil
}
