package bus

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"
)

// What the server's monitoring says and takes, as far as it is of use here
// (https://docs.nats.io/running-a-nats-service/configuration/sys_accounts).
type (
	connzRequest struct {
		Account string `json:"acc"`
		User    string `json:"user,omitempty"`
		Auth    bool   `json:"auth"`
		Offset  int    `json:"offset"`
		Limit   int    `json:"limit"`
	}
	connzReply struct {
		Server struct {
			ID string `json:"id"`
		} `json:"server"`
		Data struct {
			Total       int `json:"total"`
			Connections []struct {
				CID  uint64 `json:"cid"`
				User string `json:"authorized_user"`
				Kind string `json:"kind"`
			} `json:"connections"`
		} `json:"data"`
		Error json.RawMessage `json:"error"`
	}
)

const connzPage = 1024

// kindLeaf is what the server calls the connection of another server that is a leaf node.
const kindLeaf = "Leafnode"

// Expeller disconnects devices, over a connection to the system account. A device that
// is disconnected connects again at once: whoever is not to come back must not be
// admitted any longer.
type Expeller struct{ nc *nats.Conn }

// NewExpeller makes an Expeller.
func NewExpeller(nc *nats.Conn) *Expeller { return &Expeller{nc: nc} }

// Expel disconnects every connection of the callers.
func (e *Expeller) Expel(ctx context.Context, callers ...Caller) error {
	if len(callers) == 1 {
		return e.each(ctx, callers[0].name(), func(string) bool { return true })
	}
	out := make(map[string]bool, len(callers))
	for _, c := range callers {
		out[c.name()] = true
	}
	return e.each(ctx, "", func(name string) bool { return out[name] })
}

// Sweep disconnects every device that is not to be connected any longer.
func (e *Expeller) Sweep(ctx context.Context, may func(Caller) bool) error {
	return e.each(ctx, "", func(name string) bool {
		c, err := parseName(name)
		return err != nil || !may(c)
	})
}

// each goes through the connections of devices, of one or of all, on every server.
func (e *Expeller) each(ctx context.Context, user string, out func(string) bool) error {
	request := connzRequest{Account: AccountDevices, User: user, Auth: true, Limit: connzPage}
	larger := map[string]int{}
	err := e.ask(ctx, request, func(r connzReply) error {
		if r.Data.Total > connzPage {
			larger[r.Server.ID] = r.Data.Total
		}
		return e.kick(r, out)
	})
	if err != nil {
		return err
	}
	for server, total := range larger {
		for request.Offset = connzPage; request.Offset < total; request.Offset += connzPage {
			data, err := json.Marshal(request)
			if err != nil {
				return err
			}
			m, err := e.nc.RequestWithContext(ctx, "$SYS.REQ.SERVER."+server+".CONNZ", data)
			if err != nil {
				return fmt.Errorf("list the connections of server %s: %w", server, err)
			}
			r, err := decodeConnz(m)
			if err != nil {
				return fmt.Errorf("list connections: %w", err)
			}
			total = r.Data.Total
			if err := e.kick(r, out); err != nil {
				return err
			}
		}
	}
	return e.nc.FlushWithContext(ctx)
}

func (e *Expeller) kick(r connzReply, out func(string) bool) error {
	for _, c := range r.Data.Connections {
		// The server of a site is let in by the configuration, and no device.
		if c.Kind == kindLeaf || !out(c.User) {
			continue
		}
		data, err := json.Marshal(map[string]uint64{"cid": c.CID})
		if err != nil {
			return err
		}
		// The server does nothing for who does not want to know the outcome. Nobody has to:
		// the connection ends, or has ended before.
		if err := e.nc.PublishRequest("$SYS.REQ.SERVER."+r.Server.ID+".KICK", e.nc.NewRespInbox(), data); err != nil {
			return fmt.Errorf("disconnect %s: %w", c.User, err)
		}
	}
	return nil
}

// ask asks all servers for the first page, and has each answer dealt with as it comes.
func (e *Expeller) ask(ctx context.Context, request connzRequest, deal func(connzReply) error) error {
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	err = askServers(ctx, e.nc, "CONNZ", data, func(m *nats.Msg) error {
		r, err := decodeConnz(m)
		if err != nil {
			return err
		}
		return deal(r)
	})
	if err != nil {
		return fmt.Errorf("list connections: %w", err)
	}
	return nil
}

func decodeConnz(m *nats.Msg) (connzReply, error) {
	var r connzReply
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return r, err
	}
	if len(r.Error) > 0 {
		return r, fmt.Errorf("server %s: %s", r.Server.ID, r.Error)
	}
	return r, nil
}
