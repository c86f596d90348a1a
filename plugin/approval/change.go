package approval

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/flux"
	"github.com/nationtech/fleet/plugin/screen"
)

// inFlight is how many devices are changed at the same time. More makes it no faster, and
// the API server's own fairness begins to hold them up.
const inFlight = 32

// attempts is how often a change is tried that somebody was faster than.
const attempts = 5

// task is one device that a command is about.
type task struct {
	key   client.ObjectKey
	named bool
	// before is the device as it was when it was decided about; nil when it is to be
	// read, and when it can't be.
	before *v1alpha1.Device
	verdict
	err error
}

// changer makes the changes.
type changer struct {
	action
	client client.Client
	dryRun cmdutil.DryRunStrategy
	done   atomic.Int64
}

// run does what is to be done with every device, many at a time. It goes on when one of
// them fails. When the context ends, the rest is left as it is, with its error.
func (c *changer) run(ctx context.Context, tasks []*task) {
	todo := make(chan *task)
	var workers sync.WaitGroup
	for range min(inFlight, len(tasks)) {
		workers.Go(func() {
			for t := range todo {
				if t.err = c.one(ctx, t); t.err != nil {
					t.verdict = verdict{Failed, t.err.Error()}
				}
				c.done.Add(1)
			}
		})
	}
	for _, t := range tasks {
		if ctx.Err() != nil {
			t.err = context.Cause(ctx)
			t.verdict = verdict{Failed, "was not reached: the command was interrupted"}
			continue
		}
		todo <- t
	}
	close(todo)
	workers.Wait()
}

func (c *changer) one(ctx context.Context, t *task) error {
	name := "device " + t.key.String()
	first := t.before
	for attempt := 1; ; attempt++ {
		d := t.before
		if d == nil || attempt > 1 {
			d = &v1alpha1.Device{}
			if err := c.client.Get(ctx, t.key, d); err != nil {
				return fmt.Errorf("get %s: %w", name, err)
			}
		}
		if first == nil {
			first = d
		}
		// Somebody approves the key that was there when they looked, and no other.
		if d.UID != first.UID || d.Spec.PublicKey != first.Spec.PublicKey {
			return fmt.Errorf("%s has got another key at the same time: look at it again, and repeat the command", name)
		}
		t.before = d
		if t.verdict = c.judge(d, t.named); t.outcome != Changed {
			if t.outcome == Failed {
				return fmt.Errorf("%s %s", name, t.why)
			}
			return nil
		}
		err := c.write(ctx, d)
		if apierrors.IsConflict(err) && attempt < attempts {
			continue
		}
		if err != nil {
			return fmt.Errorf("change %s: %w", name, err)
		}
		return nil
	}
}

func (c *changer) write(ctx context.Context, d *v1alpha1.Device) error {
	if c.dryRun == cmdutil.DryRunClient {
		return nil
	}
	after := d.DeepCopy()
	c.apply(after)
	options := []client.PatchOption{flux.FieldOwner, client.FieldValidation(metav1.FieldValidationStrict)}
	if c.dryRun == cmdutil.DryRunServer {
		options = append(options, client.DryRunAll)
	}
	return c.client.Patch(ctx, after, client.MergeFromWithOptions(d, client.MergeFromWithOptimisticLock{}), options...)
}

// failure is the error of all that failed, nil when nothing has.
func (c *changer) failure(tasks []*task) error {
	var first error
	failed := 0
	for _, t := range tasks {
		if t.err == nil || errors.Is(t.err, context.Canceled) {
			continue
		}
		if first == nil {
			first = t.err
		}
		failed++
	}
	switch {
	case failed == 0:
		return nil
	case len(tasks) == 1:
		return first
	}
	return &partialError{failed, len(tasks), first}
}

// partialError tells that some devices could not be changed. Each has been told of before.
type partialError struct {
	failed, total int
	first         error
}

func (e *partialError) Error() string {
	return fmt.Sprintf("%s of %s could not be changed", screen.Count(e.failed), screen.Plural(e.total, "device"))
}

func (e *partialError) Unwrap() error { return e.first }
