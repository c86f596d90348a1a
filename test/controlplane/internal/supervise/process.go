package supervise

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// Command is a program to run as a child process.
type Command struct {
	Path string
	Args []string
	// Env is the whole environment: nothing is inherited, so that a proxy or
	// a KUBECONFIG of the caller changes nothing.
	Env []string
	Dir string
	// Log gets both outputs, appended.
	Log string
}

type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start runs the program. The kernel kills it when this process dies, however
// that happens.
func (c Command) Start() (Instance, error) {
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own descriptor
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Env, cmd.Dir = c.Env, c.Dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		// A Ctrl-C in the terminal is for us; we stop the children in order.
		Setpgid: true,
	}
	if err := onForkThread(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) PID() int              { return p.cmd.Process.Pid }
func (p *process) Done() <-chan struct{} { return p.done }
func (p *process) Err() error            { return p.err }
func (p *process) Stop()                 { _ = p.cmd.Process.Signal(syscall.SIGTERM) }
func (p *process) Kill()                 { _ = p.cmd.Process.Kill() }

var forks = startForkThread()

// startForkThread starts the goroutine that forks every child. The death
// signal of a child is sent when the *thread* that forked it ends, and Go ends
// idle threads as it likes; this one is locked to its goroutine for ever.
func startForkThread() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
}

func onForkThread(f func() error) error {
	result := make(chan error)
	forks <- func() { result <- f() }
	return <-result
}
