package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"time"
)

// Local runs commands on this machine.
type Local struct{}

// Host is this machine.
func (Local) Host() string { return "this machine" }

// lingering is how long the output of a command is waited for once it has ended: a daemon
// that it has left behind may hold it open for ever.
const lingering = 2 * time.Second

// Run runs a command.
func (l Local) Run(ctx context.Context, c Command) (Result, error) {
	args := c.line(os.Geteuid())
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	cmd.WaitDelay = lingering
	// What is parsed must not depend on the language of whoever runs it.
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	err := cmd.Run()
	result := Result{Stdout: out.String(), Stderr: errOut.String()}
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return result, nil
	case ctx.Err() != nil:
		return result, fmt.Errorf("%s: %w", c.Args[0], ctx.Err())
	case errors.As(err, &exit):
		result.Code = exit.ExitCode()
		return result, &ExitError{Host: l.Host(), Command: c, Result: result}
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		result.Code, result.Stderr = codeNotFound, args[0]+": not found"
		return result, &ExitError{Host: l.Host(), Command: c, Result: result}
	}
	return result, fmt.Errorf("run %s: %w", c.Args[0], err)
}
