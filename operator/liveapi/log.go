package liveapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/flushwriter"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/contracts"
)

func (c *commands) log(ctx context.Context, name string, options runtime.Object, respond rest.Responder) (http.Handler, error) {
	r, err := c.placements.row(ctx, name)
	if err != nil {
		return nil, err
	}
	o := options.(*live.PlacementLogOptions)
	request := contracts.LogsRequest{
		Deployment: r.value.deployment, Container: o.Container, Tail: o.TailLines, SinceSeconds: o.SinceSeconds,
		Follow: o.Follow, Previous: o.Previous, Timestamps: o.Timestamps,
	}
	if o.SinceTime != nil {
		request.SinceTime = &o.SinceTime.Time
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ctx, cancel := c.untilStop(req.Context())
		defer cancel()
		stream, err := c.Logs(ctx, r.value.device.ID, request)
		if err != nil {
			respond.Error(statusOf(err))
			return
		}
		defer stream.Close()
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(http.StatusOK)
		out := flushwriter.Wrap(w)
		// The head goes out before the first line, which may take its time.
		if _, err := out.Write(nil); err != nil {
			return
		}
		if _, err := io.Copy(out, stream); err != nil && req.Context().Err() == nil {
			cutOff(w, req, statusOf(err))
		}
	}), nil
}

// cutOff tells that this is not the end of the log.
func cutOff(w http.ResponseWriter, req *http.Request, why *apierrors.StatusError) {
	if !httpguts.HeaderValuesContainsToken(req.Header["Te"], "trailers") {
		panic(http.ErrAbortHandler)
	}
	status, err := json.Marshal(why.ErrStatus)
	if err != nil {
		panic(err) // strings and numbers are always encodable
	}
	w.Header().Set(http.TrailerPrefix+live.StatusTrailer, strings.ReplaceAll(string(status), "\n", " "))
}

// untilStop ends a stream when the server stops.
func (c *commands) untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-c.stopping:
			cancel(contracts.CommandErrorf(contracts.CodeOffline, "the operator stops"))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}
