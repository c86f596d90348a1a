package podman

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/nationtech/fleet/contracts"
)

// Event tells that something has happened to a container, by whomever.
type Event struct {
	Deployment contracts.DeploymentName
	Container  string
	// ByHand tells that somebody stopped or killed it, as opposed to its own end.
	// Podman does not tell in every case.
	ByHand bool
	// All is set when events may have been missed: every deployment needs a look.
	All bool
}

// The events after which something may have to be done.
var watched = []string{"died", "remove", "stop", "kill", "pause", "unpause", "start"}

// How long to wait before podman is asked for events again.
const (
	firstPause = 100 * time.Millisecond
	longPause  = 2 * time.Second
)

// Watch calls handle for every event, and with All each time it has connected
// anew. It returns when the context ends.
func (d *Driver) Watch(ctx context.Context, handle func(Event)) {
	pause, warned := firstPause, false
	for ctx.Err() == nil {
		begun := time.Now()
		delivered, err := d.watch(ctx, handle)
		level := slog.LevelDebug
		switch {
		case delivered || time.Since(begun) > longPause:
			// A request alone says nothing: podman may take it and refuse, or end at once.
			pause, warned = firstPause, false
		case !warned && ctx.Err() == nil:
			level, warned = slog.LevelWarn, true
		}
		d.o.Logger.Log(ctx, level, "podman's events ended; they are asked for again, and missed meanwhile", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, longPause)
	}
}

// watch reports whether the stream brought any event before it ended.
func (d *Driver) watch(ctx context.Context, handle func(Event)) (delivered bool, err error) {
	query := url.Values{"stream": {"true"}, "filters": {filters(map[string][]string{
		"label": {LabelDevice + "=" + string(d.o.Device)}, "type": {"container"}, "event": watched,
	})}}
	// Podman sends the head of its answer with the first event only, so the body is
	// waited for apart, and that nothing is missed from here on is learnt from the
	// connection.
	body, err := d.c.open(onConnect(ctx, func() { handle(Event{All: true}) }), http.MethodGet, "/events", query, nil)
	if err != nil {
		return delivered, err
	}
	defer body.Close()
	dec := json.NewDecoder(body)
	for {
		var e struct {
			Action string
			Actor  struct {
				ID         string
				Attributes map[string]string
			}
		}
		if err := dec.Decode(&e); err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("podman closed the stream")
			}
			return delivered, err
		}
		delivered = true
		handle(Event{
			Deployment: contracts.DeploymentName(e.Actor.Attributes[LabelDeployment]),
			Container:  e.Actor.ID,
			ByHand:     e.Action == "stop" || e.Action == "kill",
		})
	}
}
