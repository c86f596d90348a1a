// Package admission says which device may connect to NATS: it answers the server's
// question, and disconnects whoever may not stay.
package admission

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/roster"
)

const (
	// strangers a second, and at once, that no Device has the key of may ask to join.
	strangers, strangersAtOnce = 400, 2000
	// inFlight is how long somebody who was admitted may take to be listed among the
	// server's connections.
	inFlight = bus.AuthTimeout
	// expelTimeout bounds going through the server's connections.
	expelTimeout = 30 * time.Second
	retry        = time.Second
)

// Admission answers for the devices of a roster. Every replica of the operator has one.
type Admission struct {
	roster *roster.Roster
	o      Options

	limit *rate.Limiter
	wake  chan struct{}

	mu sync.Mutex
	// out are those to be disconnected.
	out map[bus.Caller]struct{}
	// admitted is when those were who may not be connected yet.
	admitted map[bus.Caller]time.Time
	swept    time.Time
}

// Options of an Admission.
type Options struct {
	// Synced reports whether the roster has every Device.
	Synced func() bool
	// Conn is the operator's connection, System the one to the system's account.
	Conn, System *nats.Conn
	// Issuer signs the answers.
	Issuer nkeys.KeyPair
	Log    *slog.Logger
}

// New makes an Admission, which has to come before the roster's first Device.
func New(devices *roster.Roster, o Options) *Admission {
	a := &Admission{
		roster: devices, o: o, limit: rate.NewLimiter(strangers, strangersAtOnce), wake: make(chan struct{}, 1),
		out: map[bus.Caller]struct{}{}, admitted: map[bus.Caller]time.Time{},
	}
	devices.Observe(a.changed)
	return a
}

// NeedLeaderElection says that every replica answers.
func (a *Admission) NeedLeaderElection() bool { return false }

// Start answers until the context ends. While nobody does, nobody can connect, and who is
// connected stays.
func (a *Admission) Start(ctx context.Context) error {
	if !toolscache.WaitForCacheSync(ctx.Done(), a.o.Synced) {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return bus.ServeCallout(ctx, a.o.Conn, a.o.Issuer, a.admit, a.o.Log) })
	group.Go(func() error { a.expel(ctx); return nil })
	return group.Wait()
}

func (a *Admission) owner(id contracts.DeviceID) *roster.Device {
	if d, ok := a.roster.Owner(id); ok {
		return &d
	}
	return nil
}

func (a *Admission) admit(c bus.Caller) (time.Duration, error) {
	// Before the decision: what changes meanwhile must find it.
	a.remember(c, time.Now())
	lasts, err := decide(a.owner(c.Device), c, a.limit.Allow)
	if err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.admitted, c)
	}
	return lasts, err
}

// remember keeps who was admitted just now. What is older is of no use any longer.
func (a *Admission) remember(c bus.Caller, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.admitted[c] = now
	if now.Sub(a.swept) < inFlight {
		return
	}
	a.swept = now
	for c, at := range a.admitted {
		if now.Sub(at) > inFlight {
			delete(a.admitted, c)
		}
	}
}

// changed has those disconnected whom a change of a Device concerns.
func (a *Admission) changed(_ contracts.DeviceID, before, after *roster.Device) {
	if gone := expelled(before, after); len(gone) > 0 {
		a.add(gone)
	}
}

func (a *Admission) add(callers []bus.Caller) {
	a.mu.Lock()
	for _, c := range callers {
		a.out[c] = struct{}{}
	}
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// take returns those to be disconnected, and those of them who may not be connected yet.
func (a *Admission) take(now time.Time) (callers, late []bus.Caller) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for c := range a.out {
		callers = append(callers, c)
		if at, ok := a.admitted[c]; ok && now.Sub(at) < inFlight {
			late = append(late, c)
		}
	}
	clear(a.out)
	return callers, late
}

// may reports whether a connection may stay. Who waits does so until there is a decision.
func (a *Admission) may(c bus.Caller) bool {
	standing := StandingOf(a.owner(c.Device), c.Key)
	if c.Joining {
		return standing == Pending || standing == Unknown
	}
	return standing == Approved
}

// expel disconnects whoever may not stay, and whenever it may have missed something, such
// as while the connection was gone, looks through all.
func (a *Admission) expel(ctx context.Context) {
	up := a.o.System.StatusChanged(nats.CONNECTED)
	defer a.o.System.RemoveStatusListener(up)
	expeller := bus.NewExpeller(a.o.System)
	sweep := a.o.System.IsConnected()
	again := time.NewTimer(retry)
	defer again.Stop()
	for {
		if err := a.once(ctx, expeller, sweep); err != nil {
			sweep = true
			if ctx.Err() == nil && a.o.System.IsConnected() {
				a.o.Log.Warn("not everybody is disconnected who may not stay, trying again", "error", err)
			}
			again.Reset(retry)
		} else {
			sweep = false
			again.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-up:
			sweep = true
		case <-again.C:
		}
	}
}

func (a *Admission) once(ctx context.Context, e *bus.Expeller, sweep bool) error {
	ctx, cancel := context.WithTimeout(ctx, expelTimeout)
	defer cancel()
	if callers, late := a.take(time.Now()); len(callers) > 0 {
		if err := e.Expel(ctx, callers...); err != nil {
			return err
		}
		if len(late) > 0 {
			time.AfterFunc(inFlight, func() { a.add(slices.DeleteFunc(late, a.may)) })
		}
	}
	if sweep {
		return e.Sweep(ctx, a.may)
	}
	return nil
}
