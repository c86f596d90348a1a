// Package podman carries out the steps of package reconcile with podman, through
// the REST API on its socket. It keeps nothing in memory that it could ask podman
// for, and touches only what carries its labels.
package podman

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// Labels of everything that the agent makes.
const (
	LabelDevice     = "fleet.nationtech.io/device"
	LabelDeployment = "fleet.nationtech.io/deployment"
	LabelRevision   = "fleet.nationtech.io/revision"
	LabelContainer  = "fleet.nationtech.io/container"
	LabelDigest     = "fleet.nationtech.io/digest"
	// labelHash is of what the pod or container was made from.
	labelHash = "fleet.nationtech.io/hash"
	// labelInit is on init containers, which are not started again once their pod
	// is an old one.
	labelInit = "fleet.nationtech.io/init"
)

// How long podman may take for a step, beside the grace period of what is stopped.
const (
	callTimeout = 2 * time.Minute
	pullTimeout = time.Hour
)

// Options say which podman is driven, for which device.
type Options struct {
	Device contracts.DeviceID
	// Socket of podman's API, as unix:///path.
	Socket string
	// Network that pods join; empty for podman's default.
	Network string
	// VolumeDir is where the files of volumes are written.
	VolumeDir string
	// Unsettled is the file that has what podman is writing, and BootID this boot's: what
	// the file has of another was cut off. Empty where the system does not tell.
	Unsettled, BootID string
	// Open opens secrets that were sealed to the device.
	Open   func(*contracts.Sealed) (map[string][]byte, error)
	Logger *slog.Logger
}

// Driver drives one podman.
type Driver struct {
	o Options
	c *client
	// rootless is nil until podman was asked.
	rootless  atomic.Pointer[bool]
	unsettled *unsettled
}

// New returns a driver; podman need not answer yet.
func New(o Options) (*Driver, error) {
	c, err := newClient(o.Socket)
	if err != nil {
		return nil, err
	}
	return &Driver{o: o, c: c, unsettled: openUnsettled(o.Unsettled, o.BootID, o.Logger)}, nil
}

// Version of podman.
func (d *Driver) Version(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var out struct {
		Version string
	}
	if err := d.c.call(ctx, http.MethodGet, "/version", nil, nil, &out); err != nil {
		return "", d.failure("ask podman for its version", err, reconcile.ReasonNoDriver)
	}
	return out.Version, nil
}

// Do carries out one step. The error is a *reconcile.Failure.
func (d *Driver) Do(ctx context.Context, want *reconcile.Desired, s reconcile.Step) error {
	limit := callTimeout
	if s.Kind == reconcile.Pull {
		limit = pullTimeout
	}
	if want != nil {
		limit += want.Stop
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	switch s.Kind {
	case reconcile.Pull:
		return d.failure("pull "+s.Image, d.unsettled.write(item{Image: reference(s.Image)}, func() error { return d.pull(ctx, want, s.Image) }), reconcile.ReasonImagePull)
	case reconcile.CreatePod:
		return d.failure("create pod "+want.PodName, d.unsettled.write(item{Pod: want.PodName}, func() error { return d.createPod(ctx, want) }), reconcile.ReasonCreate)
	case reconcile.StartInfra:
		pod := cmp.Or(s.Pod, want.PodName)
		return d.failure("start the network of pod "+pod, d.startInfra(ctx, pod), reconcile.ReasonStart)
	case reconcile.Create:
		return d.failure("create container "+s.Unit, d.unsettled.write(item{Pod: want.PodName}, func() error { return d.create(ctx, want, *want.Find(s.Unit)) }), reconcile.ReasonCreate)
	case reconcile.Start:
		return d.failure("start container "+s.Unit, d.start(ctx, want, s), reconcile.ReasonStart)
	case reconcile.Stop:
		return d.failure("stop container "+s.Unit, d.stop(ctx, s.Container), reconcile.ReasonStop)
	case reconcile.Unpause:
		return d.failure("unpause container "+short(s.Container), d.unpause(ctx, s.Container), reconcile.ReasonStart)
	case reconcile.Remove:
		return d.failure("remove container "+short(s.Container), d.remove(ctx, s.Container), reconcile.ReasonRemove)
	case reconcile.RemovePod:
		return d.failure("remove pod "+s.Pod, d.removePod(ctx, s.Pod), reconcile.ReasonRemove)
	}
	return &reconcile.Failure{Reason: reconcile.ReasonCreate, Message: fmt.Sprintf("the agent does not know the step %q", s.Kind)}
}

// failure puts an error into a word and a sentence for people.
func (d *Driver) failure(what string, err error, reason string) error {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*reconcile.Failure](err); ok {
		return f
	}
	switch {
	case isUnavailable(err):
		reason = reconcile.ReasonNoDriver
		what += ": podman does not answer at " + d.o.Socket
		if errors.Is(err, fs.ErrPermission) {
			what += " (may the agent's user use it?)"
		}
	case isCause(err, "address already in use"):
		reason = reconcile.ReasonPortInUse
	case errors.Is(err, context.DeadlineExceeded):
		err = errors.New("it took too long")
	}
	return &reconcile.Failure{Reason: reason, Message: what + ": " + err.Error()}
}

func short(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}
