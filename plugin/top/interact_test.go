package top

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"go.uber.org/goleak"
	"golang.org/x/term"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/nationtech/fleet/plugin/cli"
)

// terminal is a terminal, and what was written to it.
type terminal struct {
	t       *testing.T
	control *os.File
	tty     *os.File

	mu      sync.Mutex
	written bytes.Buffer
	// seen is how much of that was waited for already.
	seen int
}

func newTerminal(t *testing.T, width, height uint16) *terminal {
	t.Helper()
	control, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := pty.Setsize(control, &pty.Winsize{Cols: width, Rows: height}); err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, control: control, tty: tty}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 4096)
		for {
			n, err := control.Read(buffer)
			x.mu.Lock()
			x.written.Write(buffer[:n])
			x.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		tty.Close()
		control.Close()
		<-done
	})
	return x
}

func (x *terminal) streams() genericiooptions.IOStreams {
	return genericiooptions.IOStreams{In: x.tty, Out: x.tty, ErrOut: x.tty}
}

func (x *terminal) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.written.String()
}

// await waits for text that comes after what was waited for before.
func (x *terminal) await(text string) {
	x.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		all := x.text()
		if i := strings.Index(all[x.seen:], text); i >= 0 {
			x.seen += i + len(text)
			return
		}
		if time.Now().After(deadline) {
			x.t.Fatalf("%q did not come; what came last is %q", text, all[max(x.seen, len(all)-2000):])
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (x *terminal) press(keys string) {
	x.t.Helper()
	if _, err := x.control.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

// resize makes it another size, of which the kernel tells nobody here: the terminal is
// not the one that controls the test.
func (x *terminal) resize(width, height uint16) {
	x.t.Helper()
	if err := pty.Setsize(x.control, &pty.Winsize{Cols: width, Rows: height}); err != nil {
		x.t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil {
		x.t.Fatal(err)
	}
}

// run runs the command until end has it end, and checks that it leaves the terminal as
// it was, and nothing running.
func run(t *testing.T, a *api, end func(*terminal, context.CancelFunc)) error {
	t.Helper()
	x := newTerminal(t, 80, 24)
	before, err := term.GetState(int(x.tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	others := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		cmd := NewCommand(a.env(t, x.streams()))
		cmd.SetArgs(nil)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		ended <- cmd.ExecuteContext(ctx)
	}()
	end(x, cancel)
	select {
	case err = <-ended:
	case <-time.After(30 * time.Second):
		t.Fatalf("it did not end; what came last is %q", x.text())
	}
	x.await("\x1b[?1049l")
	all := x.text()
	if !strings.Contains(all, "\x1b[?1049h") || strings.LastIndex(all, "\x1b[?25h") < strings.LastIndex(all, "\x1b[?25l") {
		t.Errorf("the cursor was not left as it was: %q", all)
	}
	if after, err := term.GetState(int(x.tty.Fd())); err != nil || !reflect.DeepEqual(before, after) {
		t.Errorf("the terminal is in another state than before: %v", err)
	}
	a.CloseClientConnections()
	goleak.VerifyNone(t, others)
	return err
}

func TestScreenFollowsTheFleet(t *testing.T) {
	a := serve(t)
	err := run(t, a, func(x *terminal, _ context.CancelFunc) {
		x.await("► till-5")
		a.change(beat("till-9", 95*time.Second))
		x.await("► till-9")
		x.press("\t")
		x.await("[Placements]")
		x.await("► till-2.signage")
		x.resize(40, 10)
		x.await("till-2.signage")
		a.refuse(unready())
		x.await("connection lost")
		a.refuse(nil)
		x.await("live")
		x.press("j\rG")
		x.await("Drifts")
		x.press("q")
	})
	if err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestScreenEndsWithCtrlC(t *testing.T) {
	if err := run(t, serve(t), func(x *terminal, _ context.CancelFunc) {
		x.await("till-5")
		x.press("\x03")
	}); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestScreenEndsWithSignal(t *testing.T) {
	if err := run(t, serve(t), func(x *terminal, cancel context.CancelFunc) {
		x.await("till-5")
		cancel()
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

func TestScreenEndsWithWhatIsNotAllowed(t *testing.T) {
	a := serve(t)
	a.refuse(forbidden())
	if err := run(t, a, func(*terminal, context.CancelFunc) {}); err == nil || !strings.Contains(err.Error(), "in namespace shops: ") || cli.Explain(err) == "" {
		t.Errorf("it ended with %v", err)
	}
}

func TestWithoutScreenItPrintsOnce(t *testing.T) {
	a := serve(t)
	for name, c := range map[string]struct {
		terminal bool
		term     string
	}{
		"in a pipe":            {false, "xterm"},
		"on a simple terminal": {true, "dumb"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			streams := genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out}
			x := newTerminal(t, 80, 24)
			if c.terminal {
				streams = x.streams()
			}
			env := a.env(t, streams)
			env.Getenv = func(name string) string { return map[string]string{"TERM": c.term}[name] }
			cmd := NewCommand(env)
			cmd.SetArgs([]string{"--sort", "name"})
			if err := cmd.ExecuteContext(t.Context()); err != nil {
				t.Fatal(err)
			}
			if c.terminal {
				x.await("till-8.signage")
				out.WriteString(x.text())
			}
			if got := out.String(); !strings.Contains(got, "8 devices") || !strings.Contains(got, "till-6.hello") || strings.Contains(got, "\x1b") {
				t.Errorf("it printed %q", got)
			}
		})
	}
}

// TestImportAsksTheTerminalNothing runs this very program without a test on a terminal.
func TestImportAsksTheTerminalNothing(t *testing.T) {
	x := newTerminal(t, 80, 24)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "CI=") && !strings.HasPrefix(v, "TERM=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "TERM=xterm-256color")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = x.tty, x.tty, x.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	x.await("PASS")
	if got := x.text(); strings.Contains(got, "\x1b") {
		t.Errorf("it wrote %q", got)
	}
	if _, set := os.LookupEnv("CI"); set != strings.Contains(strings.Join(os.Environ(), "\n"), "\nCI=") {
		t.Error("the environment is not as it was")
	}
}
