package agent_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
)

const toolImage = "localhost/tool:1"

// TestCommandsOnARealPodman commands one device. As in a device's life, a podman for
// each part would take too long.
func TestCommandsOnARealPodman(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("commands", func(t *testing.T) {
		w := newWorld(t)
		binary := filepath.Join(t.TempDir(), "tool")
		build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", binary, "./testdata/tool")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build the tool: %v: %s", err, out)
		}
		must(t, w.podman.LoadImage(toolImage, binary))
		talk := contracts.Container{Name: "talk", Image: toolImage, PullPolicy: "Never", Args: []string{"talk"}}
		talks := w.tell("talks", contracts.PodmanScore{Containers: []contracts.Container{talk}})
		w.runs(talks)
		c := &commanded{world: w, Commander: bus.NewCommander(w.js.Conn(), slog.New(slog.DiscardHandler)), talks: talks}
		c.pings()
		c.refusesExec()
		c.logs()
		c.restarts()
		// The device's own configuration says so, and is read at its start.
		w.config.Commands.Exec = true
		w.restart()
		w.eventually("the agent answers", func() error { _, err := c.Ping(t.Context(), device); return err })
		c.execs()
		c.terminal()
		c.floods()
		c.ends()
	})
}

type commanded struct {
	*world
	*bus.Commander
	talks contracts.DesiredState
}

func (c *commanded) code(err error, want contracts.CommandCode, says string) {
	c.Helper()
	if e, ok := errors.AsType[*contracts.CommandError](err); !ok || e.Code != want || !strings.Contains(e.Message, says) {
		c.Errorf("error %v, want one of code %s that says %q", err, want, says)
	}
}

func (c *commanded) pings() {
	pong, err := c.Ping(c.Context(), device)
	must(c.T, err)
	if pong.AgentVersion == "" || pong.UptimeSeconds < 0 || time.Since(pong.Time).Abs() > time.Minute {
		c.Errorf("it answers %+v", pong)
	}
	_, err = c.Ping(c.Context(), "till-2")
	c.code(err, contracts.CodeOffline, "offline")
}

func (c *commanded) refusesExec() {
	_, err := c.Exec(c.Context(), device, contracts.ExecRequest{Deployment: "talks", Command: []string{"/app", "size"}})
	c.code(err, contracts.CodeRefused, "commands.exec")
}

func (c *commanded) logs() {
	r, err := c.Logs(c.Context(), device, contracts.LogsRequest{Deployment: "talks", Tail: new(int64(4))})
	must(c.T, err)
	data, err := io.ReadAll(r)
	must(c.T, err)
	must(c.T, r.Close())
	if lines := strings.Split(strings.TrimSpace(string(data)), "\n"); len(lines) != 4 || !strings.Contains(string(data), "err ") || !strings.Contains(string(data), "out ") {
		c.Errorf("the last four lines are %q", data)
	}
	// Followed, it brings what is written now, until nobody reads.
	r, err = c.Logs(c.Context(), device, contracts.LogsRequest{Deployment: "talks", Container: "talk", Tail: new(int64(0)), Follow: true, Timestamps: true})
	must(c.T, err)
	lines := bufio.NewScanner(r)
	for range 40 {
		if !lines.Scan() {
			c.Fatalf("the log ends: %v", lines.Err())
		}
		stamp, _, _ := strings.Cut(lines.Text(), " ")
		if at, err := time.Parse(time.RFC3339, stamp); err != nil || time.Since(at).Abs() > time.Minute {
			c.Fatalf("the line is %q", lines.Text())
		}
	}
	must(c.T, r.Close())
	c.idle()
	r, err = c.Logs(c.Context(), device, contracts.LogsRequest{Deployment: "talks", SinceTime: new(time.Now().Add(time.Hour))})
	must(c.T, err)
	data, err = io.ReadAll(r)
	if err != nil || len(data) > 0 {
		c.Errorf("the log since in an hour is %q, %v", data, err)
	}
	must(c.T, r.Close())
	_, err = c.Logs(c.Context(), device, contracts.LogsRequest{Deployment: "nothing"})
	c.code(err, contracts.CodeNotFound, "nothing")
	_, err = c.Logs(c.Context(), device, contracts.LogsRequest{Deployment: "talks", Container: "other"})
	c.code(err, contracts.CodeNotFound, "talk")
	_, err = c.Logs(c.Context(), device, contracts.LogsRequest{Deployment: "talks", Previous: true})
	c.code(err, contracts.CodeUnsupported, "previous")
}

// idle waits until the agent carries out nothing.
func (c *commanded) idle() {
	c.Helper()
	c.eventually("every command has ended", func() error {
		text := c.log.String()
		begun, ended := strings.Count(text, "carrying out a command"), strings.Count(text, "a command has ended")
		if begun != ended {
			return fmt.Errorf("%d have begun and %d ended", begun, ended)
		}
		return nil
	})
}

func (c *commanded) restarts() {
	before := c.runs(c.talks)
	id := c.containers("talks")["talk"]
	started := c.startedAt(id)
	names, err := c.Restart(c.Context(), device, contracts.RestartRequest{Deployment: "talks"})
	must(c.T, err)
	if fmt.Sprint(names) != "[talk]" {
		c.Errorf("it restarted %v", names)
	}
	if after := c.startedAt(id); after == started {
		c.Errorf("it was started at %s, as before", after)
	}
	after := c.reports(c.talks, "running again", func(s contracts.DeploymentState) bool {
		return s.Phase == contracts.PhaseRunning && s.Seq > before.Seq
	})
	if after.Restarts != before.Restarts || after.Drifts != before.Drifts || after.Containers[0].Restarts != before.Containers[0].Restarts {
		c.Errorf("it counts %+v, before %+v", after, before)
	}
	if !strings.Contains(c.log.String(), "restarts on command: talk") {
		c.Error("the restart was not reported")
	}
	// What podman tells late is not counted either.
	time.Sleep(2 * time.Second)
	if late := c.runs(c.talks); late.Restarts != before.Restarts || late.Drifts != before.Drifts {
		c.Errorf("it counts %+v, before %+v", late, before)
	}
	if now := c.containers("talks")["talk"]; now != id {
		c.Errorf("the container is another one: %s, before %s", now, id)
	}
	_, err = c.Restart(c.Context(), device, contracts.RestartRequest{Deployment: "talks", Container: "other"})
	c.code(err, contracts.CodeNotFound, "other")
	_, err = c.Restart(c.Context(), device, contracts.RestartRequest{Deployment: "nothing"})
	c.code(err, contracts.CodeNotFound, "nothing")
}

func (c *commanded) startedAt(id string) string {
	c.Helper()
	out, err := c.podman.Run("inspect", "--format", "{{.State.StartedAt.UnixNano}}", id)
	must(c.T, err)
	return strings.TrimSpace(string(out))
}

func (c *commanded) exec(r contracts.ExecRequest) *bus.Execution {
	c.Helper()
	r.Deployment = "talks"
	e, err := c.Exec(c.Context(), device, r)
	must(c.T, err)
	return e
}

func (c *commanded) exits(e *bus.Execution, want int) {
	c.Helper()
	code, err := e.Wait()
	if err != nil || code != want {
		c.Errorf("it ended with %d, %v, want %d", code, err, want)
	}
	must(c.T, e.Close())
}

func (c *commanded) execs() {
	e := c.exec(contracts.ExecRequest{Command: []string{"/app", "cat", "42"}, Stdin: true})
	data := bytes.Repeat([]byte("some\x00thing\xff\r\n"), 100_000)
	go func() {
		_, _ = e.Stdin().Write(data)
		_ = e.Stdin().Close()
	}()
	out, err := io.ReadAll(e.Stdout())
	must(c.T, err)
	if !bytes.Equal(out, data) {
		c.Errorf("%d bytes came back, not the %d that were sent", len(out), len(data))
	}
	said, err := io.ReadAll(e.Stderr())
	must(c.T, err)
	if string(said) != "done" {
		c.Errorf("it says %q", said)
	}
	c.exits(e, 42)
	// Without input it finds that closed.
	e = c.exec(contracts.ExecRequest{Command: []string{"/app", "cat", "0"}})
	out, err = io.ReadAll(e.Stdout())
	if err != nil || len(out) > 0 {
		c.Errorf("%q, %v", out, err)
	}
	c.exits(e, 0)
	e = c.exec(contracts.ExecRequest{Command: []string{"/no/such/thing"}})
	said, err = io.ReadAll(e.Stderr())
	if err != nil || !strings.Contains(string(said), "no such file") {
		c.Errorf("it says %q, %v", said, err)
	}
	c.exits(e, 127)
}

func (c *commanded) terminal() {
	e := c.exec(contracts.ExecRequest{Command: []string{"/app", "size"}, Stdin: true, TTY: true, Size: &contracts.TerminalSize{Width: 91, Height: 31}})
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(e.Stdout()); scanner.Scan(); {
			lines <- strings.TrimSpace(scanner.Text())
		}
	}()
	says := func(want string) {
		c.Helper()
		for timeout := time.After(20 * time.Second); ; {
			select {
			case line, ok := <-lines:
				if line == want {
					return
				}
				if !ok {
					c.Fatalf("it ended without %q", want)
				}
			case <-timeout:
				c.Fatalf("it does not say %q", want)
			}
		}
	}
	// From the first: a program asks once, when it begins.
	if line := <-lines; line != "91x31" {
		c.Errorf("the terminal is %q at first, want 91x31", line)
	}
	must(c.T, e.Resize(contracts.TerminalSize{Width: 132, Height: 43}))
	says("132x43")
	_, err := io.WriteString(e.Stdin(), "q\n")
	must(c.T, err)
	for range lines { // to its end
	}
	c.exits(e, 5)
}

// floods has a container write much in one line that is no text, as a command and into
// the log.
func (c *commanded) floods() {
	const size = 64 << 20
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	count := func(r io.Reader) int64 {
		n, err := io.Copy(io.Discard, r)
		must(c.T, err)
		return n
	}
	e := c.exec(contracts.ExecRequest{Command: []string{"/app", "flood", fmt.Sprint(size)}})
	if n := count(e.Stdout()); n != size {
		c.Errorf("%d bytes of %d came", n, size)
	}
	c.exits(e, 0)
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > size/2 {
		c.Errorf("the heap has grown by %d bytes for %d that went through", grown, size)
	}
	flood := func(size int) {
		talks := contracts.Container{Name: "flood", Image: toolImage, PullPolicy: "Never", Args: []string{"flood", fmt.Sprint(size)}}
		c.runs(c.tell("floods", contracts.PodmanScore{Containers: []contracts.Container{talks}, RestartPolicy: "Never"}))
	}
	flood(size / 8)
	// Perhaps it still writes, which is faster than it can be read.
	r, err := c.Logs(c.Context(), device, contracts.LogsRequest{Deployment: "floods", Follow: true})
	must(c.T, err)
	if n := count(r); n < size/8 {
		c.Errorf("%d bytes of a log of %d came", n, size/8)
	}
	must(c.T, r.Close())
	// A log that has grown too large begins anew, and has its end.
	flood(size)
	c.eventually("the log of a container that has ended is kept in bounds", func() error {
		r, err := c.Logs(c.Context(), device, contracts.LogsRequest{Deployment: "floods"})
		if err != nil {
			return err
		}
		if n := count(r); n == 0 || n > size/4 {
			err = fmt.Errorf("%d bytes of %d are kept", n, size)
		}
		return errors.Join(err, r.Close())
	})
	c.withdraw("floods")
}

// ends has commands end whose operator is gone, also one that does not want to.
func (c *commanded) ends() {
	for _, r := range []contracts.ExecRequest{
		{Command: []string{"/app", "deaf"}}, {Command: []string{"/app", "deaf"}, TTY: true, Stdin: true}, {Command: []string{"/app", "size"}, TTY: true, Stdin: true},
		{Command: []string{"/app", "cat", "0"}, Stdin: true},
	} {
		e := c.exec(r)
		if r.Command[1] != "cat" {
			if _, err := bufio.NewReader(e.Stdout()).ReadString('\n'); err != nil {
				c.Fatal(err)
			}
		}
		must(c.T, e.Close())
		if _, err := e.Wait(); err == nil {
			c.Error("one that was closed ends well")
		}
	}
	c.idle()
	c.eventually("no process is left in the container", func() error {
		out, err := c.podman.Run("top", c.containers("talks")["talk"], "args")
		if err == nil && len(strings.Fields(string(out))) != len(strings.Fields("COMMAND /app talk")) {
			return fmt.Errorf("there are %q", out)
		}
		return err
	})
	// A log that is followed ends with its container, and a deadline ends it before.
	ctx, cancel := context.WithTimeout(c.Context(), time.Second)
	defer cancel()
	r, err := c.Logs(ctx, device, contracts.LogsRequest{Deployment: "talks", Follow: true})
	must(c.T, err)
	_, err = io.Copy(io.Discard, r)
	c.code(err, contracts.CodeTimeout, "")
	must(c.T, r.Close())
	r, err = c.Logs(c.Context(), device, contracts.LogsRequest{Deployment: "talks", Follow: true, SinceSeconds: new(int64(1))})
	must(c.T, err)
	c.withdraw("talks")
	_, err = io.Copy(io.Discard, r)
	if err != nil {
		c.code(err, contracts.CodeNotFound, "")
	}
	must(c.T, r.Close())
}
