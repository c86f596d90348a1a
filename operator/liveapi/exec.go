package liveapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/remotecommand"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
)

// execIdle is how long neither side may say anything, as the kubelet has it.
const execIdle = 4 * time.Hour

// exec speaks what `kubectl exec` speaks over a WebSocket, v5.channel.k8s.io.
func (c *commands) exec(ctx context.Context, name string, options runtime.Object, respond rest.Responder) (http.Handler, error) {
	// Whoever may get everything may not run commands.
	if err := c.mayExec(ctx); err != nil {
		return nil, err
	}
	r, err := c.placements.row(ctx, name)
	if err != nil {
		return nil, err
	}
	o := options.(*live.PlacementExecOptions)
	size, err := terminalSize(o)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !wsstream.IsWebSocketRequest(req) {
			respond.Error(apierrors.NewBadRequest("exec needs a WebSocket with the protocol " + remotecommand.StreamProtocolV5Name))
			return
		}
		ctx, cancel := c.untilStop(req.Context())
		defer cancel()
		// Before the connection is a WebSocket, so that what is refused is refused with a
		// Status.
		execution, err := c.Exec(ctx, r.value.device.ID, contracts.ExecRequest{
			Deployment: r.value.deployment, Container: o.Container, Command: o.Command, Stdin: o.Stdin, TTY: o.TTY, Size: size,
		})
		if err != nil {
			respond.Error(statusOf(err))
			return
		}
		defer execution.Close()
		who := "nobody known"
		if user, ok := genericapirequest.UserFrom(ctx); ok {
			who = user.GetName()
		}
		klog.FromContext(ctx).Info("exec", "user", who, "namespace", r.namespace, "placement", r.name, "container", o.Container, "command", o.Command)
		if err := attach(w, req, o, execution); err != nil {
			klog.FromContext(ctx).Info("exec was cut off", "user", who, "namespace", r.namespace, "placement", r.name, "error", err)
		}
	}), nil
}

// terminalSize is that of the parameters; nil for none.
func terminalSize(o *live.PlacementExecOptions) (*contracts.TerminalSize, error) {
	if o.Width == nil && o.Height == nil {
		return nil, nil
	}
	for _, n := range []*int64{o.Width, o.Height} {
		if n == nil || *n < 1 || *n > math.MaxUint16 {
			return nil, apierrors.NewBadRequest("parameters width and height: both or none have to be set, between 1 and 65535")
		}
	}
	return &contracts.TerminalSize{Width: uint16(*o.Width), Height: uint16(*o.Height)}, nil
}

// attach connects a WebSocket with a command until either ends.
func attach(w http.ResponseWriter, req *http.Request, o *live.PlacementExecOptions, execution *bus.Execution) error {
	when := func(wanted bool, t wsstream.ChannelType) wsstream.ChannelType {
		if wanted {
			return t
		}
		return wsstream.IgnoreChannel
	}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		remotecommand.StreamProtocolV5Name: {Binary: true, Channels: []wsstream.ChannelType{
			remotecommand.StreamStdIn:  when(o.Stdin, wsstream.ReadChannel),
			remotecommand.StreamStdOut: wsstream.WriteChannel,
			remotecommand.StreamStdErr: when(!o.TTY, wsstream.WriteChannel),
			// Nothing comes in by it, so that reading it shows when the client is gone.
			remotecommand.StreamErr:    wsstream.ReadWriteChannel,
			remotecommand.StreamResize: when(o.TTY, wsstream.ReadChannel),
		}},
	})
	conn.SetIdleTimeout(execIdle)
	_, streams, err := conn.Open(w, req)
	if err != nil {
		return fmt.Errorf("open the WebSocket: %w", err)
	}
	var inputs sync.WaitGroup
	// What reads from the connection ends with it.
	defer inputs.Wait()
	defer conn.Close()
	// As the API server does it: the client knows that it is connected.
	if _, err := streams[remotecommand.StreamStdOut].Write(nil); err != nil {
		return err
	}
	inputs.Go(func() {
		_, _ = io.Copy(io.Discard, streams[remotecommand.StreamErr])
		_ = execution.Close()
	})
	if o.Stdin {
		inputs.Go(func() {
			in := execution.Stdin()
			_, _ = io.Copy(in, streams[remotecommand.StreamStdIn]) // what fails shows on the way back
			_ = in.Close()
		})
	}
	if o.TTY {
		inputs.Go(func() { resize(streams[remotecommand.StreamResize], execution) })
	}
	var outputs sync.WaitGroup
	errs := make([]error, 2)
	copyOut := func(n int, to io.Writer, from io.Reader) {
		outputs.Go(func() {
			if _, errs[n] = io.Copy(to, from); errs[n] != nil {
				// The client is gone, or the session is over. In either case nobody reads on.
				_ = execution.Close()
			}
		})
	}
	copyOut(0, streams[remotecommand.StreamStdOut], execution.Stdout())
	if !o.TTY {
		copyOut(1, streams[remotecommand.StreamStdErr], execution.Stderr())
	}
	outputs.Wait()
	code, err := execution.Wait()
	status, encodeErr := json.Marshal(exitStatus(code, err))
	if encodeErr != nil {
		panic(encodeErr) // strings and numbers are always encodable
	}
	_, writeErr := streams[remotecommand.StreamErr].Write(status)
	return errors.Join(append(errs, err, writeErr)...)
}

// resize tells the command each size that the terminal gets.
func resize(from io.Reader, execution *bus.Execution) {
	sizes := json.NewDecoder(from)
	for {
		var size struct{ Width, Height uint16 }
		if sizes.Decode(&size) != nil {
			return
		}
		if size.Width == 0 || size.Height == 0 {
			// A terminal that does not know its size.
			continue
		}
		if execution.Resize(contracts.TerminalSize{Width: size.Width, Height: size.Height}) != nil {
			return
		}
	}
}

// exitStatus is how the command ended, as `kubectl exec` understands it.
func exitStatus(code int, err error) metav1.Status {
	switch {
	case err != nil:
		return statusOf(err).ErrStatus
	case code == 0:
		return metav1.Status{Status: metav1.StatusSuccess}
	}
	return metav1.Status{
		Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason,
		Message: fmt.Sprintf("command terminated with non-zero exit code %d", code),
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: remotecommand.ExitCodeCauseType, Message: strconv.Itoa(code)}}},
	}
}
