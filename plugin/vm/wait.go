package vm

import (
	"context"
	"errors"
	"fmt"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/devices"
	"github.com/nationtech/fleet/plugin/screen"
	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/topology"
)

// errReady ends a wait that has seen what it waited for.
var errReady = errors.New("ready")

// stage is how far a machine has come as a device; nil is one that has not joined. It says
// so for people; errReady is the end, any other error a failure.
func stage(d *v1alpha1.Device, name, namespace string) (string, error) {
	if d == nil {
		return "it boots, and joins at the end of that", nil
	}
	switch health := devices.Of(d); health {
	case devices.Ready:
		return "it is ready", errReady
	case devices.Pending:
		return fmt.Sprintf("it has joined, and waits for approval: kubectl fleet approve %s -n %s", name, namespace), nil
	case devices.ShutOut, devices.Duplicate:
		why := string(health)
		if c := apimeta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionReady); c != nil {
			why = c.Message
		}
		return "", fmt.Errorf("device %s can't take part: %s", name, why)
	}
	if d.Spec.PublicKey == "" {
		return "its Device is there, and it has not joined yet", nil
	}
	return "it has joined; its first heartbeat is waited for", nil
}

// await waits until the machine is a device that is ready.
func (c *creation) await(ctx context.Context, host *topology.KVMHost) error {
	name, namespace := c.plan.spec.Name, c.cluster.Namespace
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	limited, fail := context.WithCancelCause(limited)
	defer fail(nil)
	go c.watchMachine(limited, host, fail)
	began, last := time.Now(), ""
	look := func(d *v1alpha1.Device) error {
		text, err := stage(d, name, namespace)
		switch {
		case errors.Is(err, errReady):
			return err
		case err != nil:
			return &cli.ExitError{Code: cli.CodeBad, Err: err}
		case text != last:
			last = text
			c.env.Note(screen.Busy, "%s: %s (%s)", name, text, time.Since(began).Round(time.Second))
		}
		return nil
	}
	f := cli.Follower{
		Client: c.cluster.Client, List: &v1alpha1.DeviceList{},
		Options: client.ListOptions{Namespace: namespace, FieldSelector: fields.OneTermEqualSelector("metadata.name", name)},
		Listed: func(objects []client.Object) error {
			if len(objects) == 0 {
				return look(nil)
			}
			return look(objects[0].(*v1alpha1.Device))
		},
		Changed: func(event watch.EventType, o client.Object) error {
			if event == watch.Deleted {
				return look(nil)
			}
			return look(o.(*v1alpha1.Device))
		},
	}
	err := f.Run(limited)
	var ended *machineError
	switch {
	case errors.Is(err, errReady):
		c.env.Note(screen.Good, "%s: it is ready (%s)", name, time.Since(began).Round(time.Second))
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(context.Cause(limited), &ended):
		return &cli.ExitError{Code: cli.CodeBad, Err: ended}
	case limited.Err() != nil:
		return &cli.ExitError{Code: cli.CodeUnfinished, Err: fmt.Errorf(
			"machine %s is not ready within %s: %s. It goes on by itself; what it does shows kubectl fleet vm console %s, and there: journalctl -u fleet-join", name, c.timeout, last, name)}
	}
	return err
}

// machineError tells that a machine has ended while it was waited for.
type machineError struct{ name, how string }

// Error says what to do.
func (e *machineError) Error() string {
	return fmt.Sprintf("machine %s has ended (%s) before it was ready: kubectl fleet vm start %s starts it again, kubectl fleet vm console %s shows what it says", e.name, e.how, e.name, e.name)
}

// watchMachine ends the wait when the machine ends. A libvirt that is restarted meanwhile
// is no reason to.
func (c *creation) watchMachine(ctx context.Context, host *topology.KVMHost, fail context.CancelCauseFunc) {
	name := c.plan.spec.Name
	conn, err := host.Conn(ctx)
	if err != nil {
		return
	}
	_ = conn.Watch(ctx, func(e libvirt.Event) {
		if e.Machine == name && (e.Kind == libvirt.EventStopped || e.Kind == libvirt.EventCrashed) {
			fail(&machineError{name, e.Kind + " " + e.Detail})
		}
	})
}
