package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nationtech/fleet/test/env"
	"github.com/nationtech/fleet/test/simulated"
)

// namespace of the devices and Deployments.
const namespace = "fleet-load"

// apiClients is how many requests to the API server are on their way at once.
const apiClients = 32

// load is one run.
type load struct {
	options
	progress *env.Progress
	out      io.Writer

	fleet *env.Fleet
	conn  *nats.Conn
	devs  []*simulated.Agent
	turns turns
	// agents is what the devices have in common.
	agents     simulated.AgentOptions
	standingIn sync.WaitGroup
	// desired and states are what devices are told and what they report.
	desired, states jetstream.Stream
	figures         []figure

	// raw is what the bus does at best, patches how many changes of a status the API server
	// takes in a second.
	raw     raw
	patches float64
	// changes counts those of the first Deployment.
	changes int
	ready   *readiness
	// settled is how many writes of the operator's kinds the API server has had when it
	// was last left alone.
	settled float64
	// busy is how many cores the NATS server uses with the operator there.
	busy float64

	// received counts by revision how many devices were told it.
	mu       sync.Mutex
	received map[string]*count
	// hold keeps the devices from what they are told until it is closed; nil is not at all.
	hold atomic.Pointer[chan struct{}]
}

// count tells when it has come to its end.
type count struct {
	n    atomic.Int64
	want int64
	done chan struct{}
}

func newCount(want int) *count { return &count{want: int64(want), done: make(chan struct{})} }

func (c *count) add() {
	if c.n.Add(1) == c.want {
		close(c.done)
	}
}

// await waits for the end of a count.
func (c *count) await(ctx context.Context, limit time.Duration, what string) error {
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(limit):
		return fmt.Errorf("%s: %d of %d after %s", what, c.n.Load(), c.want, limit)
	}
}

// judged is how many devices there have to be for budgets to say anything: with fewer it
// is the time of one step that is measured.
const judged = 1000

// large is the fleet that budgets are for whose figures grow with the fleet: a smaller one
// that keeps them has shown nothing.
const large = 100_000

func (l *load) add(f figure) {
	if l.devices < judged && !f.Any || l.devices < large && f.Large {
		f.Budget = ""
	}
	l.figures = append(l.figures, f)
	l.progress.Say("  %s: %s", f.Name, number(f.Value, f.Unit))
}

func (l *load) run(ctx context.Context) (err error) {
	l.connected = lotSize(l.devices, l.connected)
	if err := os.RemoveAll(l.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	if l.profiles != "" {
		if err := os.MkdirAll(l.profiles, 0o755); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		l.standingIn.Wait()
		l.close()
		if err == nil {
			err = os.RemoveAll(l.dir)
			return
		}
		l.progress.Say("The logs stay in %s.", filepath.Join(l.dir, "logs"))
	}()
	for _, step := range slices.Concat([]step{
		{"what the bus does at best, without fleet", l.measureBus},
		{"control plane, keys, certificates, operator", l.bringUp},
		{"Device objects, at the API server's own pace", func(step context.Context) error { return l.createDevices(step, ctx) }},
		{"devices connect", func(step context.Context) error { return l.connect(step, ctx) }},
		{"what was put off is written", l.settleAfter("a device that joins: writes to the API server")},
		{fmt.Sprintf("%d Deployments, each for every device", l.deployments), l.deploy},
		{"what was put off is written", l.settleAfter(fmt.Sprintf("%d Deployments: writes to the API server for each device", l.deployments))},
		{"one Deployment changes", l.repeated(l.change)},
		{"every device runs the last change", l.catchUp},
		{"what was put off is written", l.settleAfter(fmt.Sprintf("%d changes: writes to the API server for each device", l.repeat))},
		{"steady state", l.steady},
		{"containers end, and devices report it", l.reports},
		{"planner and agent", l.plan},
		{"kubectl fleet status", l.repeated(l.status)},
		{"the same without the operator", l.alone},
		{"the operator starts anew", l.repeated(l.coldStart)},
	}, l.storms(), []step{
		{"every aggregate is right", l.check},
	}, l.devicesWithPodman()) {
		stop := l.profile(ctx, step.name)
		err := l.progress.Step(step.name, func() error { return l.watched(ctx, step.do) })
		stop()
		if err != nil {
			// What was measured until then is true.
			return errors.Join(err, l.report())
		}
	}
	return l.report()
}

// watched ends a step when the operator ends without being told to: nothing would come then
// that the step waits for.
func (l *load) watched(ctx context.Context, do func(context.Context) error) error {
	if l.fleet == nil {
		return do(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-l.fleet.Operator.Ended():
			if l.fleet.Operator.Fallen() {
				cancel(l.fleet.Operator.Failure())
			}
		case <-ctx.Done():
		}
	}()
	err := do(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// repeated does a step several times and keeps the figures in the middle.
func (l *load) repeated(do func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		from := len(l.figures)
		var runs [][]figure
		for range l.repeat {
			if err := do(ctx); err != nil {
				return err
			}
			runs = append(runs, slices.Clone(l.figures[from:]))
			l.figures = l.figures[:from]
		}
		l.figures = append(l.figures, middle(runs)...)
		return nil
	}
}

// report tells what was measured.
func (l *load) report() error {
	atATime := ""
	if l.connected < l.devices {
		atATime = fmt.Sprintf(", of which %d are connected at a time and heartbeats are sent for the others", l.connected)
	}
	fmt.Fprintf(l.out, "\n%d devices%s, %d Deployments, %d cores\n\n",
		l.devices, atATime, l.deployments, goruntime.GOMAXPROCS(0))
	if err := writeTable(l.out, l.figures); err != nil {
		return err
	}
	if l.json == "" {
		return nil
	}
	return results{Devices: l.devices, Deployments: l.deployments, Connected: l.connected, Figures: l.figures}.write(l.json)
}

// step is a part of a run.
type step struct {
	name string
	do   func(context.Context) error
}

func (l *load) measureBus(ctx context.Context) (err error) {
	l.raw, err = measureRaw(ctx, l.bin, l.dir, l.devices, l.connected, 1<<10, l.progress.Say)
	debug.FreeOSMemory() // what follows measures memory
	return err
}

// until waits for a number, and tells about it from time to time.
func (l *load) until(ctx context.Context, limit time.Duration, what string, look func(context.Context) (is, want int, err error)) error {
	last := time.Now()
	return env.Until(ctx, limit, what, func(ctx context.Context) error {
		is, want, err := look(ctx)
		if err != nil {
			return err
		}
		if is >= want {
			return nil
		}
		if time.Since(last) > 5*time.Second {
			last = time.Now()
			l.progress.Say("  %d of %d %s", is, want, what)
		}
		return fmt.Errorf("%d of %d", is, want)
	})
}
