package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// reasonRestarting is told while containers that were restarted on command get ready.
const reasonRestarting = "Restarting"

// recoverLimit is how long they may take where the deployment has no deadline.
const recoverLimit = time.Minute

// restart is one that was asked for.
type restart struct {
	container string
	done      chan restarted
}

type restarted struct {
	names []string
	err   error
}

// Restart ends containers or machines in their grace period and starts them again: the
// one of that name in the score, or with no name all but init containers. It is neither drift nor
// a crash, and nothing counts it. It returns which, once they have been started. The
// error is a *contracts.CommandError, or the context's; what has begun by then is
// brought to its end.
func (w *Worker) Restart(ctx context.Context, container string) ([]string, error) {
	r := &restart{container: container, done: make(chan restarted, 1)}
	w.mu.Lock()
	if w.over {
		w.mu.Unlock()
		return nil, w.notThere("")
	}
	w.restarts = append(w.restarts, r)
	w.mu.Unlock()
	w.Look()
	select {
	case done := <-r.done:
		return done.names, done.err
	case <-ctx.Done():
		w.mu.Lock()
		defer w.mu.Unlock()
		w.restarts = slices.DeleteFunc(w.restarts, func(one *restart) bool { return one == r })
		return nil, context.Cause(ctx)
	}
}

// endRestarts answers those that will not be carried out any more.
func (w *Worker) endRestarts() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	for _, r := range w.restarts {
		r.done <- restarted{err: w.notThere("")}
	}
	w.restarts = nil
}

// doRestarts carries out what was asked for, and reports whether anything was.
func (w *Worker) doRestarts(ctx context.Context) bool {
	acted := false
	for ctx.Err() == nil {
		w.mu.Lock()
		if len(w.restarts) == 0 {
			w.mu.Unlock()
			return acted
		}
		r := w.restarts[0]
		w.restarts = w.restarts[1:]
		w.mu.Unlock()
		acted = true
		names, err := w.restart(ctx, r.container)
		r.done <- restarted{names, err}
	}
	return acted
}

func (w *Worker) notThere(name string) error {
	what := "container"
	if w.holds() == contracts.DriverKVM {
		what = "machine"
	}
	if name != "" {
		return contracts.CommandErrorf(contracts.CodeNotFound, "deployment %s has no %s %s on this device", w.name, what, name)
	}
	return contracts.CommandErrorf(contracts.CodeNotFound, "deployment %s has no %s on this device", w.name, what)
}

func (w *Worker) restart(ctx context.Context, name string) ([]string, error) {
	if w.target == nil {
		return nil, w.notThere("")
	}
	if w.refusal != nil && !w.undone() {
		return nil, contracts.CommandErrorf(contracts.CodeRefused, "%v", w.refusal)
	}
	e := w.engines[w.target.Score.Driver()]
	if e == nil || w.holds() != w.target.Score.Driver() {
		return nil, w.notThere("")
	}
	return e.restart(ctx, name)
}

// restarting reports that something is restarted on command; ids are the runtime's.
func (w *Worker) restarting(names, ids []string) {
	w.log.Info("restarting on command", "names", names)
	w.recovering = time.Now().Add(w.recoverTime())
	w.report(reconcile.Assessment{
		Phase: contracts.PhaseApplying, Reason: reasonRestarting,
		Message: "restarts on command: " + strings.Join(names, ", "), Containers: down(w.record.Report.Containers, ids),
	})
}

func (w *pods) restart(ctx context.Context, container string) ([]string, error) {
	if w.want == nil {
		return nil, w.notThere("")
	}
	o, err := w.driver.Observe(ctx, w.name, w.want)
	if err != nil {
		return nil, err
	}
	all := restartable(w.want, o, container)
	if len(all) == 0 {
		return nil, w.notThere(container)
	}
	var names, ids []string
	for _, c := range all {
		names, ids = append(names, c.Unit), append(ids, c.ID)
	}
	w.restarting(names, ids)
	var failures []error
	for _, c := range all {
		// One that does not end or start keeps no other from it: the next look sees to it.
		if err := w.startAgain(ctx, c, o); err != nil {
			failures = append(failures, fmt.Errorf("container %s: %w", c.Unit, err))
		}
	}
	// The grace periods are over; now they have time to get ready.
	w.recovering = time.Now().Add(w.recoverTime())
	return names, errors.Join(failures...)
}

// startAgain ends one container and starts it. Starts that follow each other closely by
// its own doing are forgotten: somebody may have put right what made it end.
func (w *pods) startAgain(ctx context.Context, c reconcile.Container, o reconcile.Observed) error {
	if c.State == reconcile.StatePaused {
		if err := w.do(ctx, reconcile.Step{Kind: reconcile.Unpause, Container: c.ID}, o); err != nil {
			return err
		}
	}
	if err := w.do(ctx, reconcile.Step{Kind: reconcile.Stop, Unit: c.Unit, Container: c.ID}, o); err != nil {
		return err
	}
	delete(w.record.Backoff, c.ID)
	return w.do(ctx, reconcile.Step{Kind: reconcile.Start, Unit: c.Unit, Container: c.ID}, o)
}

// restartable are the containers that were started, of the wanted pod or, where that
// is not there, of what is kept running instead.
func restartable(want *reconcile.Desired, o reconcile.Observed, container string) []reconcile.Container {
	pods := o.Pods
	if pod := o.Current(want); pod != nil {
		pods = []reconcile.Pod{*pod}
	}
	var all []reconcile.Container
	for _, p := range pods {
		for _, c := range p.Containers {
			u := want.Find(c.Unit)
			started := c.State == reconcile.StateRunning || c.State == reconcile.StatePaused || c.State == reconcile.StateExited
			if started && !c.Init && (u == nil || !u.Init) && (container == "" || c.Unit == container) {
				all = append(all, c)
			}
		}
	}
	return all
}

// down are the states with those of what is restarted not ready, so that it has to get
// ready anew.
func down(states []contracts.ContainerState, restarted []string) []contracts.ContainerState {
	out := slices.Clone(states)
	for i := range out {
		if slices.Contains(restarted, out[i].ID) {
			out[i].Ready, out[i].Message = false, "is being restarted"
		}
	}
	return out
}

func (w *Worker) recoverTime() time.Duration {
	if w.target != nil && w.target.DeadlineSeconds > 0 {
		return time.Duration(w.target.DeadlineSeconds) * time.Second
	}
	return recoverLimit
}

// recovers puts a deployment that is not ready because somebody has restarted it into
// other words than one that has become unwell: that would count as a failure, and
// could halt a rollout.
func (w *Worker) recovers(a *reconcile.Assessment) {
	if w.recovering.IsZero() {
		return
	}
	switch {
	case time.Now().After(w.recovering), a.Phase == contracts.PhaseRunning, a.Phase == contracts.PhaseFailed:
		w.recovering = time.Time{}
	case a.Phase == contracts.PhaseDegraded && a.Reason == reconcile.ReasonProbe:
		a.Phase, a.Reason = contracts.PhaseApplying, reasonRestarting
		if a.Wake.IsZero() || w.recovering.Before(a.Wake) {
			a.Wake = w.recovering
		}
	}
}
