package env

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a child that is killed and started again at will. Its output is
// appended to Log over all its lives.
type Process struct {
	Name string
	Path string
	Args []string
	// Env is added to this process's own environment.
	Env []string
	Log string
	// UID is the user it runs as. Default: that of this process.
	UID int

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
}

// starts hands every fork to one goroutine that stays on its thread: the kernel
// sends the parent-death signal when the forking thread ends, not the process.
var starts = sync.OnceValue(func() chan<- func() {
	queue := make(chan func())
	go func() {
		runtime.LockOSThread()
		for start := range queue {
			start()
		}
	}()
	return queue
})

// Start starts the process; it dies with this one.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return fmt.Errorf("%s is running already", p.Name)
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true, Credential: credential(p.UID)}
	failed := make(chan error)
	starts() <- func() { failed <- cmd.Start() }
	if err := <-failed; err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	p.cmd, p.done = cmd, make(chan struct{})
	go func(done chan struct{}) {
		// How it ended is in its log; whoever waits looks at Running.
		_ = cmd.Wait()
		close(done)
	}(p.done)
	return nil
}

// credential of a user who is in no group but their own; nil for this process's.
func credential(uid int) *syscall.Credential {
	if uid == 0 {
		return nil
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
}

// Running reports whether the process was started and has not ended.
func (p *Process) Running() bool {
	started, ended := p.stands()
	return started && !ended
}

// Fallen reports whether the process has ended without being told to.
func (p *Process) Fallen() bool {
	started, ended := p.stands()
	return started && ended
}

// stands is whether the process was started, and not told to end since, and whether that
// has ended.
func (p *Process) stands() (started, ended bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return false, false
	}
	select {
	case <-p.done:
		return true, true
	default:
		return true, false
	}
}

// Ended is closed when the running process has ended, and nil when none was started.
func (p *Process) Ended() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// PID of the running process, or 0.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Kill sends SIGKILL and waits for the end.
func (p *Process) Kill() { p.end(syscall.SIGKILL, 0) }

// Stop sends SIGTERM, waits up to grace, and kills what is left then.
func (p *Process) Stop(grace time.Duration) { p.end(syscall.SIGTERM, grace) }

func (p *Process) end(signal syscall.Signal, grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	// It may have ended by itself; then there is nobody to signal.
	_ = p.cmd.Process.Signal(signal)
	if signal != syscall.SIGKILL {
		select {
		case <-p.done:
		case <-time.After(grace):
			_ = p.cmd.Process.Kill()
		}
	}
	<-p.done
	p.cmd = nil
}

// Failure describes an ended process for an error message.
func (p *Process) Failure() error {
	return fmt.Errorf("%s ended unexpectedly; its log is %s:\n%s", p.Name, p.Log, tail(p.Log, 15))
}

// tail is the last lines of a file, indented.
func tail(path string, lines int) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "  " + err.Error()
	}
	all := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return "  " + strings.Join(all, "\n  ")
}

// run runs a command to its end and returns what it printed on stdout, also with
// an error, which carries what it printed on stderr.
func run(ctx context.Context, dir, path string, args ...string) (string, error) {
	return runAs(ctx, 0, dir, path, args...)
}

// runAs is run by a user; 0 is that of this process.
func runAs(ctx context.Context, uid int, dir, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential(uid)}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s", path, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
