// Package commands is what a device does at the word of an operator: it says that it
// is there, shows logs, runs commands in containers and restarts them, each as far as
// the device's own configuration allows.
package commands

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nationtech/fleet/agent/config"
	"github.com/nationtech/fleet/agent/driver/podman"
	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/internal/version"
)

// Driver is the runtime, as far as commands need it.
type Driver interface {
	// Containers of a deployment.
	Containers(ctx context.Context, n contracts.DeploymentName) ([]reconcile.Container, error)
	// StreamLog writes a container's log.
	StreamLog(ctx context.Context, id string, o podman.LogOptions, w io.Writer) error
	// Run runs a command in a container and returns its exit code.
	Run(ctx context.Context, id string, c podman.Command) (int, error)
}

// Machines is the runtime of virtual machines, as far as commands need it.
type Machines interface {
	// Machines of a deployment by their names in the score, and their names in libvirt.
	Machines(ctx context.Context, n contracts.DeploymentName) (map[string]string, error)
	// StreamConsole writes what a machine wrote to its console: the last lines, all with
	// tail nil, and with follow what comes.
	StreamConsole(ctx context.Context, domain string, tail *int64, follow bool, w io.Writer) error
}

// Handler carries out commands. It is a bus.CommandHandler.
type Handler struct {
	Allow config.Commands
	// Driver and Machines are nil for what the device has not.
	Driver   Driver
	Machines Machines
	// DriverOf is the name of the driver that runs a deployment; empty for none.
	DriverOf func(n contracts.DeploymentName) string
	// Restart restarts containers of a deployment, the one of that name or with no name
	// all, and returns which.
	Restart func(ctx context.Context, n contracts.DeploymentName, container string) ([]string, error)
	// Started is when the agent did.
	Started time.Time
}

// Ping says that the agent is there.
func (h *Handler) Ping() (contracts.Pong, error) {
	if !h.Allow.Ping {
		return contracts.Pong{}, refused(contracts.VerbPing)
	}
	now := time.Now()
	return contracts.Pong{AgentVersion: version.Version, UptimeSeconds: int64(now.Sub(h.Started) / time.Second), Time: now.UTC()}, nil
}

// Prepare looks whether a command may and can be carried out.
func (h *Handler) Prepare(ctx context.Context, r contracts.CommandRequest) (bus.Task, error) {
	switch {
	case r.Logs != nil && h.Allow.Logs:
		if h.machines(r.Logs.Deployment) {
			return h.console(ctx, *r.Logs)
		}
		return h.logs(ctx, *r.Logs)
	case r.Exec != nil && h.Allow.Exec:
		if h.machines(r.Exec.Deployment) {
			return nil, contracts.CommandErrorf(contracts.CodeUnsupported, "deployment %s runs virtual machines, in which nothing can be executed from outside: log in with ssh, or see the console with kubectl fleet logs", r.Exec.Deployment)
		}
		return h.exec(ctx, *r.Exec)
	case r.Restart != nil && h.Allow.Restart:
		return h.restart(*r.Restart), nil
	}
	return nil, refused(r.Verb)
}

func refused(v contracts.Verb) error {
	return contracts.CommandErrorf(contracts.CodeRefused, "the device's configuration does not allow %s: set commands.%s to allow in its configuration file", v, v)
}

func (h *Handler) logs(ctx context.Context, r contracts.LogsRequest) (bus.Task, error) {
	if r.Previous {
		return nil, contracts.CommandErrorf(contracts.CodeUnsupported, "podman keeps one log for all runs of a container, so there is no previous one: it is in the log itself, see --since and --tail")
	}
	c, err := h.find(ctx, r.Deployment, r.Container)
	if err != nil {
		return nil, err
	}
	// What has ended is read to its end, which podman does not do when it follows.
	follow := r.Follow && c.State != reconcile.StateExited
	o := podman.LogOptions{Tail: r.Tail, Follow: follow, Timestamps: r.Timestamps}
	switch {
	case r.SinceSeconds != nil:
		o.Since = time.Now().Add(-time.Duration(*r.SinceSeconds) * time.Second)
	case r.SinceTime != nil:
		o.Since = *r.SinceTime
	}
	return func(ctx context.Context, s bus.Streams) (contracts.CommandEnd, error) {
		return contracts.CommandEnd{}, h.Driver.StreamLog(ctx, c.ID, o, s.Stdout)
	}, nil
}

func (h *Handler) exec(ctx context.Context, r contracts.ExecRequest) (bus.Task, error) {
	c, err := h.find(ctx, r.Deployment, r.Container)
	if err != nil {
		return nil, err
	}
	if c.State != reconcile.StateRunning {
		return nil, contracts.CommandErrorf(contracts.CodeNotFound, "container %s of deployment %s does not run: it is %s", c.Unit, r.Deployment, c.State)
	}
	return func(ctx context.Context, s bus.Streams) (contracts.CommandEnd, error) {
		command := podman.Command{Args: r.Command, TTY: r.TTY, Size: r.Size, Stdout: s.Stdout, Stderr: s.Stderr, Resize: s.Resize}
		if r.Stdin {
			command.Stdin = s.Stdin
		}
		code, err := h.Driver.Run(ctx, c.ID, command)
		if err != nil {
			return contracts.CommandEnd{}, err
		}
		return contracts.CommandEnd{ExitCode: new(int32(code))}, nil
	}, nil
}

func (h *Handler) restart(r contracts.RestartRequest) bus.Task {
	return func(ctx context.Context, _ bus.Streams) (contracts.CommandEnd, error) {
		names, err := h.Restart(ctx, r.Deployment, r.Container)
		if err != nil {
			return contracts.CommandEnd{}, err
		}
		return contracts.CommandEnd{Restarted: names}, nil
	}
}

func (h *Handler) find(ctx context.Context, n contracts.DeploymentName, container string) (reconcile.Container, error) {
	if h.Driver == nil {
		return reconcile.Container{}, contracts.CommandErrorf(contracts.CodeNotFound, "this device has no container of deployment %s", n)
	}
	all, err := h.Driver.Containers(ctx, n)
	if err != nil {
		return reconcile.Container{}, err
	}
	return choose(n, container, all)
}

// choose finds the container that is meant: by its name in the score or, without one,
// the only one there is besides init containers. Where an old and a new one of the same
// name stand side by side it is the one that runs, and of two that do the later.
func choose(n contracts.DeploymentName, container string, all []reconcile.Container) (reconcile.Container, error) {
	byUnit := map[string]reconcile.Container{}
	var names []string
	for _, c := range all {
		if c.Unit == "" || c.State == reconcile.StateBroken {
			continue
		}
		before, known := byUnit[c.Unit]
		if !known && !c.Init {
			names = append(names, c.Unit)
		}
		if !known || better(c, before) {
			byUnit[c.Unit] = c
		}
	}
	if container != "" {
		if c, ok := byUnit[container]; ok {
			return c, nil
		}
		if len(byUnit) > 0 {
			names = slices.Sorted(maps.Keys(byUnit))
			return reconcile.Container{}, contracts.CommandErrorf(contracts.CodeNotFound, "deployment %s has no container %s on this device; there is %s", n, container, strings.Join(names, ", "))
		}
	}
	slices.Sort(names)
	switch len(names) {
	case 0:
		return reconcile.Container{}, contracts.CommandErrorf(contracts.CodeNotFound, "this device has no container of deployment %s", n)
	case 1:
		return byUnit[names[0]], nil
	}
	return reconcile.Container{}, contracts.CommandErrorf(contracts.CodeInvalid, "deployment %s has several containers, name one of %s", n, strings.Join(names, ", "))
}

func better(a, b reconcile.Container) bool {
	if running := a.State == reconcile.StateRunning; running != (b.State == reconcile.StateRunning) {
		return running
	}
	return a.Started.After(b.Started)
}
