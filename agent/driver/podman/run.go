package podman

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nationtech/fleet/contracts"
)

// Command is a command that somebody runs in a container, and what it is connected
// with.
type Command struct {
	Args []string
	TTY  bool
	// Size of the terminal at first; nil for podman's own.
	Size *contracts.TerminalSize
	// Stdin is nil for a command without input. Closing it ends a Read that waits.
	Stdin          io.ReadCloser
	Stdout, Stderr io.Writer
	Resize         <-chan contracts.TerminalSize
}

// How long a command may go on after its context has ended, and how long podman is
// asked for what it does not know yet.
const (
	lastWords = 10 * time.Second
	toHangUp  = 500 * time.Millisecond
	toKill    = time.Second
	patience  = 5 * time.Second
)

// Run runs a command in a container and returns its exit code. When the context ends
// first the command is ended, as far as that can be done from outside: podman has no
// way to end it (see end).
func (d *Driver) Run(ctx context.Context, id string, c Command) (int, error) {
	var made struct {
		ID string `json:"Id"`
	}
	if err := d.c.call(ctx, http.MethodPost, "/containers/"+id+"/exec", nil, map[string]any{
		"Cmd": c.Args, "Tty": c.TTY, "AttachStdin": c.Stdin != nil, "AttachStdout": true, "AttachStderr": true,
	}, &made); err != nil {
		return 0, commandError("run a command in container "+short(id), err)
	}
	// The stream outlives the context a little: podman is to see the end of the input.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	start := map[string]any{"Detach": false, "Tty": c.TTY}
	if c.Size != nil {
		start["w"], start["h"] = c.Size.Width, c.Size.Height
	}
	stream, err := d.c.upgrade(life, "/exec/"+made.ID+"/start", start)
	if err != nil {
		return 0, commandError("run a command in container "+short(id), err)
	}
	var parts sync.WaitGroup
	defer parts.Wait()
	defer stream.Close()
	done := make(chan struct{})
	defer close(done)
	if c.Stdin != nil {
		defer c.Stdin.Close()
		parts.Go(func() {
			// That the command has closed its input is its own business.
			if _, err := io.Copy(stream, c.Stdin); err == nil {
				_ = stream.CloseWrite()
			}
		})
	}
	if c.TTY {
		parts.Go(func() { d.resize(life, made.ID, c.Resize, done) })
	}
	copied := make(chan error, 1)
	parts.Go(func() {
		if c.TTY {
			_, err := io.Copy(c.Stdout, stream)
			copied <- err
			return
		}
		copied <- split(stream, c.Stdout, c.Stderr)
	})
	select {
	case err = <-copied:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if ctx.Err() != nil {
		d.end(life, id, made.ID, c.TTY, stream)
		end()
		return 0, context.Cause(ctx)
	}
	// What has ended with input that it has not read ends with a reset, after all of its
	// output.
	if errors.Is(err, syscall.ECONNRESET) {
		if code, err := d.exitCode(ctx, made.ID); err == nil {
			return code, nil
		}
	}
	if err != nil {
		d.end(life, id, made.ID, c.TTY, stream)
		end()
		return 0, fmt.Errorf("command in container %s: %w", short(id), err)
	}
	return d.exitCode(ctx, made.ID)
}

// commandError is an error of podman's as whoever gave a command is told of it.
func commandError(what string, err error) error {
	switch {
	case isStatus(err, http.StatusNotFound):
		return contracts.CommandErrorf(contracts.CodeNotFound, "%s: %v", what, err)
	case isUnavailable(err):
		return contracts.CommandErrorf(contracts.CodeInternal, "%s: podman does not answer: %v", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// resize sets the terminal's size until done. One may come before there is a terminal.
func (d *Driver) resize(ctx context.Context, exec string, sizes <-chan contracts.TerminalSize, done <-chan struct{}) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var size *contracts.TerminalSize
	for tries := 0; ; {
		var again <-chan time.Time
		if size != nil {
			query := url.Values{"w": {strconv.Itoa(int(size.Width))}, "h": {strconv.Itoa(int(size.Height))}}
			err := d.c.call(ctx, http.MethodPost, "/exec/"+exec+"/resize", query, nil, nil)
			if tries++; err != nil && tries < 20 {
				again = time.After(100 * time.Millisecond)
			} else {
				size = nil
			}
		}
		select {
		case <-done:
			return
		case latest := <-sizes:
			size, tries = &latest, 0
		case <-again:
		}
	}
}

// execState is how a command stands.
type execState struct {
	Running  bool
	ExitCode int
	Pid      int
}

func (d *Driver) execState(ctx context.Context, exec string) (execState, error) {
	var s execState
	err := d.c.call(ctx, http.MethodGet, "/exec/"+exec+"/json", nil, nil, &s)
	return s, err
}

// exitCode asks until podman has noticed that the command has ended.
func (d *Driver) exitCode(ctx context.Context, exec string) (int, error) {
	for begun := time.Now(); ; {
		s, err := d.execState(ctx, exec)
		switch {
		case err != nil:
			return 0, fmt.Errorf("ask for the command's exit code: %w", err)
		case !s.Running:
			return s.ExitCode, nil
		case time.Since(begun) > patience:
			return 0, errors.New("podman does not say how the command has ended: its output has, and it has not")
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// end ends a command that nobody waits for any longer. Podman goes on running it when
// its stream is closed, and has no call to end it. So its input ends, after the
// terminal's keys for interrupt and end where it has one; what heeds neither gets a
// signal where the agent may send one, which takes the command's user or root.
func (d *Driver) end(ctx context.Context, container, exec string, tty bool, stream duplex) {
	ctx, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	_ = stream.SetWriteDeadline(time.Now().Add(toHangUp))
	if tty {
		_, _ = stream.Write([]byte{3, 4})
	}
	_ = stream.CloseWrite()
	for begun := time.Now(); ; {
		s, err := d.execState(ctx, exec)
		if err != nil {
			d.o.Logger.Warn("a command may go on running in its container", "container", short(container), "error", err)
			return
		}
		if !s.Running {
			return
		}
		if time.Since(begun) > toHangUp {
			signal := syscall.SIGHUP
			if time.Since(begun) > toKill {
				signal = syscall.SIGKILL
			}
			if err := kill(s.Pid, container, signal); err != nil {
				d.o.Logger.Warn("a command goes on running in its container, and the agent may not end it", "container", short(container), "pid", s.Pid, "error", err)
				return
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}

// kill sends a signal to a process if it is of the container: its number may be
// another's by now.
func kill(pid int, container string, signal syscall.Signal) error {
	if pid <= 1 {
		return errors.New("its process is not known")
	}
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if errors.Is(err, os.ErrNotExist) {
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
			return nil // it has just ended
		}
		return errors.New("the agent may not see its process")
	}
	if err != nil {
		return err
	}
	if !strings.Contains(string(groups), container) {
		return errors.New("its process is not known")
	}
	if err := syscall.Kill(pid, signal); !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}
