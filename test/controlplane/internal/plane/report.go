package plane

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/nationtech/fleet/test/controlplane/env"
	"github.com/nationtech/fleet/test/controlplane/internal/pki"
	"github.com/nationtech/fleet/test/controlplane/internal/supervise"
)

// reporter tells about changes of status: a line for the reader, and env.json
// for programs. One goroutine does both, in the order of the changes.
type reporter struct {
	out    io.Writer
	env    env.Env // the parts that do not change
	events chan event
	done   chan struct{}
}

// event is a change of a unit, or a turn of the whole.
type event struct {
	status   supervise.Status
	ready    time.Duration // everything is ready, after that long
	stopping bool
	handled  chan<- struct{}
}

func newReporter(out io.Writer, e env.Env) *reporter {
	r := &reporter{out: out, env: e, events: make(chan event, 1024), done: make(chan struct{})}
	go r.run()
	return r
}

// notify is called by a unit that is locked, so it only queues.
func (r *reporter) notify(s supervise.Status) { r.events <- event{status: s} }

// flush returns when all that happened so far has been reported: a caller of
// ctl finds env.json up to date.
func (r *reporter) flush() { r.send(event{}) }

func (r *reporter) ready(after time.Duration) { r.send(event{ready: after}) }
func (r *reporter) stopping()                 { r.send(event{stopping: true}) }

func (r *reporter) send(e event) {
	handled := make(chan struct{})
	e.handled = handled
	r.events <- e
	<-handled
}

func (r *reporter) close() {
	close(r.events)
	<-r.done
}

func (r *reporter) run() {
	defer close(r.done)
	last := map[string]supervise.Status{}
	var ready, stopping bool
	for e := range r.events {
		before := last[e.status.Name]
		switch {
		case e.ready > 0:
			ready = true
			r.env.ReadyAfter = e.ready.Round(time.Millisecond).String()
			r.write(last)
			r.line("✔", "control plane", "ready in %s: %s", round(e.ready), r.env.Dir)
		case e.stopping:
			stopping = true
			r.line("►", "control plane", "stopping")
			if err := removeFile(r.env.Dir + "/" + env.File); err != nil {
				r.line("✗", env.File, "%v", err)
			}
		case e.status.Name != "":
			last[e.status.Name] = e.status
			r.describe(before, e.status)
			if ready && !stopping && before.PID != e.status.PID {
				r.write(last)
			}
		}
		if e.handled != nil {
			close(e.handled)
		}
	}
}

// describe prints what a person wants to know of a change.
func (r *reporter) describe(before, now supervise.Status) {
	if before.State == now.State {
		return
	}
	switch now.State {
	case supervise.Ready:
		r.line("✔", now.Name, "ready in %s (pid %d, 127.0.0.1:%d)", round(now.Since.Sub(before.Since)), now.PID, now.Port)
	case supervise.BackOff:
		r.line("✗", now.Name, "%s; starting again", now.Message)
	case supervise.Stopped:
		r.line("■", now.Name, "stopped")
	}
}

func (r *reporter) line(sign, name, format string, args ...any) {
	fmt.Fprintf(r.out, "%s %-23s %s\n", sign, name, fmt.Sprintf(format, args...))
}

func (r *reporter) write(last map[string]supervise.Status) {
	e := r.env
	e.Components = map[string]env.Component{}
	for name, s := range last {
		e.Components[name] = env.Component{PID: s.PID, Port: s.Port, Log: s.Log}
	}
	if err := env.Write(e); err != nil {
		r.line("✗", env.File, "%v", err)
	}
}

// describe fills in what does not change while the control plane runs.
func (p *Plane) describe(began time.Time) env.Env {
	l := p.layout
	e := env.Env{Dir: l.Dir, PID: os.Getpid(), StartedAt: began, ControlSocket: l.Socket(), Assets: l.Assets}
	if p.has(APIServer) {
		e.Kubeconfig, e.APIServer = l.Kubeconfig(), l.APIServer()
		e.CACert, e.FrontProxyCACert = l.PKI().Path(pki.CA), l.PKI().Path(pki.FrontProxyCA)
	}
	if p.has(NATS) {
		e.NATS, e.NATSMonitor, e.NATSProfile = "nats://"+l.addr(portNATS), "http://"+l.addr(portNATSMonitor), "http://"+l.addr(portNATSProfile)
	}
	if p.has(Git) {
		e.Git = "http://" + l.addr(portGit)
	}
	if p.has(Registry) {
		e.Registry = l.addr(portRegistry)
	}
	return e
}

// startError adds what helps to find the cause: the log, and its end.
func startError(err error, log string) error {
	raw, readErr := os.ReadFile(log)
	if readErr != nil || len(bytes.TrimSpace(raw)) == 0 {
		return fmt.Errorf("%w (log %s is empty)", err, log)
	}
	return fmt.Errorf("%w\n%s ends with:\n%s", err, log, indent(tail(string(raw), 20)))
}

// tail returns the last n lines.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func indent(s string) string { return "  " + strings.ReplaceAll(s, "\n", "\n  ") }

func round(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Millisecond)
}
