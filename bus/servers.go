package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// settled is how long after an answer no other server answers.
const settled = 200 * time.Millisecond

// configVersion is under which the server tells which configuration it runs with.
const configVersion = "fleet-config"

// Server is one nats-server, as it says of itself.
type Server struct {
	ID, Name string
	// CertificateUntil is when the certificate expires that it presents; zero where it
	// has none.
	CertificateUntil time.Time
	// Config is the ConfigVersion of the configuration that it runs with.
	Config string
}

// Servers asks every server how it is, over a connection to the system account.
func Servers(ctx context.Context, nc *nats.Conn) ([]Server, error) {
	var out []Server
	err := askServers(ctx, nc, "VARZ", nil, func(m *nats.Msg) error {
		var r struct {
			Server struct {
				ID   string `json:"id"`
				Name string `json:"name"`
			} `json:"server"`
			Data struct {
				CertificateUntil time.Time         `json:"tls_cert_not_after"`
				Metadata         map[string]string `json:"metadata"`
			} `json:"data"`
			Error json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal(m.Data, &r); err != nil {
			return err
		}
		if len(r.Error) > 0 {
			return fmt.Errorf("server %s: %s", r.Server.Name, r.Error)
		}
		out = append(out, Server{ID: r.Server.ID, Name: r.Server.Name, CertificateUntil: r.Data.CertificateUntil, Config: r.Data.Metadata[configVersion]})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ask the NATS servers how they are: %w", err)
	}
	return out, nil
}

// Reload has a server read its configuration and its certificate again. It disconnects
// every device that the operator has let in, since none is in the configuration; they
// connect again by themselves.
func Reload(ctx context.Context, nc *nats.Conn, s Server) error {
	ctx, cancel := context.WithTimeout(ctx, 2*Timeout)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, "$SYS.REQ.SERVER."+s.ID+".RELOAD", nil)
	if err != nil {
		return fmt.Errorf("reload NATS server %s: %w", s.Name, err)
	}
	var r struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return fmt.Errorf("reload NATS server %s: %w", s.Name, err)
	}
	if r.Error != nil {
		return fmt.Errorf("reload NATS server %s: %s", s.Name, r.Error.Description)
	}
	return nil
}

// ConfigVersion is what a server that runs with this configuration says of it; empty for
// one that ServerConfig has not made.
func ConfigVersion(config []byte) string {
	var c serverConfig
	if json.Unmarshal(config, &c) != nil {
		return ""
	}
	return c.Metadata[configVersion]
}

// askServers asks all servers, and has each answer dealt with as it comes: nobody knows
// when the last has.
func askServers(ctx context.Context, nc *nats.Conn, what string, data []byte, deal func(*nats.Msg) error) error {
	inbox := nc.NewRespInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }() // it fails when the connection is closed, and then it is gone
	if err := nc.PublishRequest("$SYS.REQ.SERVER.PING."+what, inbox, data); err != nil {
		return err
	}
	wait, answers := Timeout, 0
	for {
		next, cancel := context.WithTimeout(ctx, wait)
		m, err := sub.NextMsgWithContext(next)
		cancel()
		switch {
		case err == nil:
		case answers > 0 && errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			return nil
		default:
			return err
		}
		if err := deal(m); err != nil {
			return err
		}
		answers++
		wait = settled
	}
}
