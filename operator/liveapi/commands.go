package liveapi

import (
	"context"
	"io"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
)

// Commander commands devices; bus.Commander is one.
type Commander interface {
	Ping(context.Context, contracts.DeviceID) (contracts.Pong, error)
	Logs(context.Context, contracts.DeviceID, contracts.LogsRequest) (io.ReadCloser, error)
	Exec(context.Context, contracts.DeviceID, contracts.ExecRequest) (*bus.Execution, error)
	Restart(context.Context, contracts.DeviceID, contracts.RestartRequest) ([]string, error)
}

// The API server gives up a request that is neither a watch nor one of its own
// streams after a minute; a command that is answered in one piece ends before that,
// so that the answer says what it was waiting for.
const answerLimit = 50 * time.Second

// devices is the resource that devices/ping belongs to. It has no verbs.
type devices struct{}

var (
	_ rest.Storage              = devices{}
	_ rest.Scoper               = devices{}
	_ rest.SingularNameProvider = devices{}
)

// New makes an empty object.
func (devices) New() runtime.Object { return &live.Device{} }

// Destroy has nothing to do.
func (devices) Destroy() {}

// NamespaceScoped says that a Device is.
func (devices) NamespaceScoped() bool { return true }

// GetSingularName is for kubectl.
func (devices) GetSingularName() string { return "device" }

// command is a subresource that commands the device of an object.
type command struct {
	methods []string
	// result is an empty one of what it answers.
	result runtime.Object
	// options makes empty parameters; nil for none.
	options func() runtime.Object
	// connect makes what answers a request.
	connect func(ctx context.Context, name string, options runtime.Object, respond rest.Responder) (http.Handler, error)
}

var (
	_ rest.Storage   = (*command)(nil)
	_ rest.Connecter = (*command)(nil)
)

// New makes an empty answer.
func (c *command) New() runtime.Object { return c.result.DeepCopyObject() }

// Destroy has nothing to do.
func (c *command) Destroy() {}

// ConnectMethods are the HTTP methods that it takes.
func (c *command) ConnectMethods() []string { return c.methods }

// NewConnectOptions makes empty parameters.
func (c *command) NewConnectOptions() (runtime.Object, bool, string) {
	if c.options == nil {
		return nil, false, ""
	}
	return c.options(), false, ""
}

// Connect makes what answers a request.
func (c *command) Connect(ctx context.Context, name string, options runtime.Object, respond rest.Responder) (http.Handler, error) {
	return c.connect(ctx, name, options, respond)
}

// commands has every command's subresource.
type commands struct {
	heartbeats *storage[heartbeat]
	placements *storage[placement]
	Commander
	// mayExec reports whether the one who asks may create placements/exec.
	mayExec func(context.Context) error
	// stopping is closed when the server stops: a stream would hold it up.
	stopping <-chan struct{}
}

func (c *commands) storage() map[string]rest.Storage {
	return map[string]rest.Storage{
		"devices":      devices{},
		"devices/ping": &command{methods: []string{http.MethodGet}, result: &live.DevicePing{}, connect: c.ping},
		"placements/log": &command{
			methods: []string{http.MethodGet}, result: &live.Placement{}, connect: c.log,
			options: func() runtime.Object { return &live.PlacementLogOptions{} },
		},
		"placements/exec": &command{
			// A WebSocket begins with a GET.
			methods: []string{http.MethodGet, http.MethodPost}, result: &live.Placement{}, connect: c.exec,
			options: func() runtime.Object { return &live.PlacementExecOptions{} },
		},
		"placements/restart": &command{
			methods: []string{http.MethodPost}, result: &live.PlacementRestart{}, connect: c.restart,
			options: func() runtime.Object { return &live.PlacementRestartOptions{} },
		},
	}
}

func (c *commands) ping(ctx context.Context, name string, _ runtime.Object, respond rest.Responder) (http.Handler, error) {
	r, err := c.heartbeats.row(ctx, name)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		begun := time.Now()
		pong, err := c.Ping(req.Context(), r.value.device.ID)
		if err != nil {
			respond.Error(statusOf(err))
			return
		}
		now := time.Now()
		respond.Object(http.StatusOK, &live.DevicePing{
			ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: r.name},
			RoundTrip:  metav1.Duration{Duration: now.Sub(begun)}, AgentVersion: pong.AgentVersion, UptimeSeconds: pong.UptimeSeconds,
			DeviceTime: metav1.NewMicroTime(pong.Time.UTC()), Time: metav1.NewMicroTime(now.UTC()),
		})
	}), nil
}

func (c *commands) restart(ctx context.Context, name string, options runtime.Object, respond rest.Responder) (http.Handler, error) {
	r, err := c.placements.row(ctx, name)
	if err != nil {
		return nil, err
	}
	o := options.(*live.PlacementRestartOptions)
	return http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		ctx, cancel := context.WithTimeout(req.Context(), answerLimit)
		defer cancel()
		restarted, err := c.Restart(ctx, r.value.device.ID, contracts.RestartRequest{Deployment: r.value.deployment, Container: o.Container})
		if err != nil {
			respond.Error(statusOf(err))
			return
		}
		respond.Object(http.StatusOK, &live.PlacementRestart{
			ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: r.name}, Containers: restarted,
		})
	}), nil
}

// statusOf is an error of a command as the API tells it. Its cause has the kind of the
// error, which the code of HTTP can't say in every case.
func statusOf(err error) *apierrors.StatusError {
	e := contracts.AsCommandError(err)
	as := map[contracts.CommandCode]struct {
		code   int32
		reason metav1.StatusReason
	}{
		contracts.CodeOffline:     {http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable},
		contracts.CodeTimeout:     {http.StatusGatewayTimeout, metav1.StatusReasonTimeout},
		contracts.CodeRefused:     {http.StatusForbidden, metav1.StatusReasonForbidden},
		contracts.CodeNotFound:    {http.StatusNotFound, metav1.StatusReasonNotFound},
		contracts.CodeInvalid:     {http.StatusBadRequest, metav1.StatusReasonBadRequest},
		contracts.CodeTooLarge:    {http.StatusRequestEntityTooLarge, metav1.StatusReasonRequestEntityTooLarge},
		contracts.CodeUnsupported: {http.StatusNotImplemented, "NotImplemented"},
		contracts.CodeBusy:        {http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests},
		contracts.CodeInternal:    {http.StatusInternalServerError, metav1.StatusReasonInternalError},
	}[e.Code]
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: as.code, Reason: as.reason, Message: e.Message,
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: metav1.CauseType(e.Code), Message: e.Message}}},
	}}
}
