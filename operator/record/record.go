// Package record tells people what happened, as Kubernetes events and, where one
// is set, to the address that Flux's notification-controller listens on.
package record

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fluxcd/pkg/runtime/events"
)

// waiting is how many events may wait for the receiver.
const waiting = 1024

// Recorder passes events on in the background: a receiver that does not answer
// must not hold a rollout.
type Recorder struct {
	to    record.EventRecorder
	queue chan event
}

type event struct {
	object      runtime.Object
	kind        string
	reason      string
	message     string
	annotations map[string]string
}

// New makes a Recorder that posts as the controller, and to address unless that is
// empty. It has to be added to the manager.
func New(mgr ctrl.Manager, address, controller string) (*Recorder, error) {
	to, err := events.NewRecorder(mgr, ctrl.Log, address, controller)
	if err != nil {
		return nil, fmt.Errorf("make the event recorder: %w", err)
	}
	return &Recorder{to: to, queue: make(chan event, waiting)}, nil
}

// Normal tells of something that went as it should.
func (r *Recorder) Normal(obj client.Object, annotations map[string]string, reason, format string, args ...any) {
	r.enqueue(obj, annotations, corev1.EventTypeNormal, reason, format, args...)
}

// Warning tells of something that somebody should look at.
func (r *Recorder) Warning(obj client.Object, annotations map[string]string, reason, format string, args ...any) {
	r.enqueue(obj, annotations, corev1.EventTypeWarning, reason, format, args...)
}

func (r *Recorder) enqueue(obj client.Object, annotations map[string]string, kind, reason, format string, args ...any) {
	e := event{obj.DeepCopyObject(), kind, reason, fmt.Sprintf(format, args...), annotations}
	select {
	case r.queue <- e:
	default:
		ctrl.Log.Info("event dropped: too many are waiting", "reason", reason, "message", e.message)
	}
}

// Start passes events on until the context ends.
func (r *Recorder) Start(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-r.queue:
			r.to.AnnotatedEventf(e.object, e.annotations, e.kind, e.reason, "%s", e.message)
		}
	}
}

// NeedLeaderElection says that the events of every replica are passed on.
func (r *Recorder) NeedLeaderElection() bool { return false }
