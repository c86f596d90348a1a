package supervise

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// State is where a unit stands:
//
//	Stopped ─Start─▶ Starting ─probe─▶ Ready
//	   ▲                │  exit          │ exit
//	   │                └────▶ BackOff ◀─┘    BackOff ─delay─▶ Starting
//	   └── Stopping ◀─Stop─ (any)
type State string

const (
	Stopped  State = "Stopped"
	Starting State = "Starting"
	Ready    State = "Ready"
	BackOff  State = "BackOff"
	Stopping State = "Stopping"
)

// Status is what is known of a unit.
type Status struct {
	Name     string    `json:"name"`
	State    State     `json:"state"`
	PID      int       `json:"pid,omitempty"`
	Port     int       `json:"port"`
	Restarts int       `json:"restarts"`
	Since    time.Time `json:"since"`
	// Message says why it is not ready: the last exit or the last probe.
	Message string `json:"message,omitempty"`
	Log     string `json:"log"`
}

// Spec is what a unit runs.
type Spec struct {
	Name string
	Port int
	Log  string
	// Start begins one incarnation.
	Start func() (Instance, error)
	// Probe returns nil when the incarnation serves; it is polled.
	Probe func(context.Context) error
	// Grace is how long Stop waits before it kills.
	Grace time.Duration
}

// Unit keeps one component in the wanted state: whatever makes it exit, it is
// started again with the same specification until it is stopped.
type Unit struct {
	spec Spec
	// notify is called at each change of status, with the unit locked: it must
	// neither block nor call back.
	notify func(Status)

	mu       sync.Mutex
	status   Status
	changed  chan struct{} // closed and replaced at each change of status
	inst     Instance      // nil when none runs
	unwanted chan struct{} // nil when not wanted, closed by Stop

}

const probeInterval = 20 * time.Millisecond

// NewUnit returns a stopped unit.
func NewUnit(spec Spec, notify func(Status)) *Unit {
	return &Unit{
		spec:    spec,
		notify:  notify,
		changed: make(chan struct{}),
		status:  Status{Name: spec.Name, State: Stopped, Port: spec.Port, Log: spec.Log, Since: time.Now()},
	}
}

// Status returns a copy of the present status.
func (u *Unit) Status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.status
}

// Start makes the unit wanted and waits until it is ready. With failFast the
// first exit ends the waiting, and the unit, with an error.
func (u *Unit) Start(ctx context.Context, failFast bool) error {
	// A unit that is still stopping has to finish that: its port is taken.
	err := u.await(ctx, func(s Status) (bool, error) {
		if u.unwanted == nil && s.State == Stopped {
			u.unwanted = make(chan struct{})
			u.setLocked(func(s *Status) { s.State, s.Message = Starting, "" })
			go u.run(u.unwanted)
		}
		return u.unwanted != nil, nil
	})
	if err != nil {
		return err
	}
	return u.await(ctx, func(s Status) (bool, error) {
		if s.State == Stopped || s.State == Stopping {
			return false, fmt.Errorf("%s was stopped while it started", s.Name)
		}
		if failFast && s.State == BackOff {
			return false, fmt.Errorf("%s: %s", s.Name, s.Message)
		}
		return s.State == Ready, nil
	})
}

// Stop makes the unit unwanted and waits until nothing of it runs.
func (u *Unit) Stop(ctx context.Context) error {
	u.mu.Lock()
	if u.unwanted != nil {
		close(u.unwanted)
		u.unwanted = nil
	}
	u.mu.Unlock()
	return u.await(ctx, func(s Status) (bool, error) { return s.State == Stopped, nil })
}

// Kill ends the present incarnation without warning, and returns when it has
// ended; the unit stays wanted.
func (u *Unit) Kill(ctx context.Context) error {
	u.mu.Lock()
	inst := u.inst
	u.mu.Unlock()
	if inst == nil {
		return fmt.Errorf("%s does not run", u.spec.Name)
	}
	inst.Kill()
	select {
	case <-inst.Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	// The status must no longer be the dead incarnation's: a caller that now
	// waits for Ready would be told of that one.
	return u.await(ctx, func(Status) (bool, error) { return u.inst != inst, nil })
}

// AwaitReady waits until the unit is ready.
func (u *Unit) AwaitReady(ctx context.Context) error {
	return u.await(ctx, func(s Status) (bool, error) {
		if s.State == Stopped {
			return false, fmt.Errorf("%s is stopped", s.Name)
		}
		return s.State == Ready, nil
	})
}

// await calls cond, under the lock, at each change until it says true.
func (u *Unit) await(ctx context.Context, cond func(Status) (bool, error)) error {
	for {
		u.mu.Lock()
		ok, err := cond(u.status)
		last, changed := u.status, u.changed
		u.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s is %s (%s): %w", last.Name, last.State, last.Message, ctx.Err())
		}
	}
}

// run keeps incarnations going until unwanted is closed.
func (u *Unit) run(unwanted <-chan struct{}) {
	var delay time.Duration
	for {
		began := time.Now()
		ready, err := u.once(unwanted)
		select {
		case <-unwanted:
			u.set(func(s *Status) { u.inst = nil; s.State, s.PID, s.Message = Stopped, 0, "" })
			return
		default:
		}
		delay = NextDelay(delay, ready, time.Since(began))
		u.set(func(s *Status) { u.inst = nil; s.State, s.PID, s.Message = BackOff, 0, err.Error() })
		select {
		case <-unwanted:
			u.set(func(s *Status) { s.State, s.Message = Stopped, "" })
			return
		case <-time.After(delay):
		}
		u.set(func(s *Status) { s.State = Starting; s.Restarts++ })
	}
}

// once runs one incarnation to its end, and reports whether it was ever ready.
func (u *Unit) once(unwanted <-chan struct{}) (ready bool, _ error) {
	inst, err := u.spec.Start()
	if err != nil {
		return false, err
	}
	u.mu.Lock()
	u.inst = inst
	u.setLocked(func(s *Status) { s.PID = inst.PID() })
	u.mu.Unlock()

	ctx, cancel := context.WithCancel(context.Background())
	probed := make(chan bool, 1)
	go func() { probed <- u.probe(ctx, inst) }()
	select {
	case <-inst.Done():
		err = fmt.Errorf("exited: %w", orClean(inst.Err()))
	case <-unwanted:
		u.set(func(s *Status) { s.State = Stopping })
		u.terminate(inst)
	}
	cancel()
	return <-probed, err
}

// probe polls until the incarnation serves, and then says so.
func (u *Unit) probe(ctx context.Context, inst Instance) bool {
	for {
		err := u.spec.Probe(ctx)
		select {
		case <-inst.Done(): // another process may have answered on the port
			return false
		case <-ctx.Done():
			return false
		default:
		}
		if err == nil {
			u.set(func(s *Status) {
				if s.State == Starting {
					s.State, s.Message = Ready, ""
				}
			})
			return true
		}
		u.mu.Lock()
		u.status.Message = err.Error() // not worth a notification
		u.mu.Unlock()
		select {
		case <-ctx.Done():
			return false
		case <-time.After(probeInterval):
		}
	}
}

func (u *Unit) terminate(inst Instance) {
	inst.Stop()
	select {
	case <-inst.Done():
	case <-time.After(u.spec.Grace):
		inst.Kill()
		<-inst.Done()
	}
}

func (u *Unit) set(change func(*Status)) {
	u.mu.Lock()
	u.setLocked(change)
	u.mu.Unlock()
}

func (u *Unit) setLocked(change func(*Status)) {
	before := u.status
	change(&u.status)
	if u.status.State != before.State {
		u.status.Since = time.Now()
	}
	close(u.changed)
	u.changed = make(chan struct{})
	u.notify(u.status)
}

func orClean(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}
