// Package command runs commands on a Linux host, this one or another.
package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Command is one command, without a shell.
type Command struct {
	Args []string
	// Env are variables for it, as KEY=VALUE.
	Env []string
	// Root has it run as root: through sudo, where the user is another.
	Root bool
}

// New is a command that any user may run.
func New(args ...string) Command { return Command{Args: args} }

// AsRoot is a command for root.
func AsRoot(args ...string) Command { return Command{Args: args, Root: true} }

// Result is what a command has printed, and its exit code.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Runner runs commands on one host. A command that ends with another code than 0 is an
// *ExitError, and its Result is there as well.
type Runner interface {
	Run(ctx context.Context, c Command) (Result, error)
	// Host names the host.
	Host() string
}

// ExitError tells that a command has failed.
type ExitError struct {
	Host    string
	Command Command
	Result  Result
}

// Error has the last line that the command has said, which is where commands say why.
func (e *ExitError) Error() string {
	said := e.Result.Stderr
	if strings.TrimSpace(said) == "" {
		said = e.Result.Stdout
	}
	switch {
	case e.Command.Root && strings.Contains(said, "sudo: a password is required"), e.Command.Root && strings.Contains(said, "sudo: a terminal is required"):
		return fmt.Sprintf("%s on %s needs root, and sudo asks for a password: be root there, or allow this user sudo without one", e.Command.Args[0], e.Host)
	case e.Command.Root && e.Result.Code == codeNotFound && strings.Contains(said, "sudo"):
		return fmt.Sprintf("%s on %s needs root, and there is no sudo: be root there", e.Command.Args[0], e.Host)
	}
	return fmt.Sprintf("%s on %s failed with exit code %d: %s", strings.Join(e.Command.Args, " "), e.Host, e.Result.Code, last(said))
}

// codeNotFound is the exit code of a shell for a command that it does not find.
const codeNotFound = 127

// NotFound reports whether a host does not have the command at all.
func NotFound(err error) bool {
	var exit *ExitError
	return errors.As(err, &exit) && exit.Result.Code == codeNotFound
}

// last is the last few lines of what a command has said, on one line.
func last(text string) string {
	lines := strings.FieldsFunc(strings.TrimSpace(text), func(r rune) bool { return r == '\n' || r == '\r' })
	if len(lines) == 0 {
		return "it has said nothing"
	}
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}

// Succeeds reports whether a command ends with 0. Any other code is an answer too, a
// command that can't be run is not.
func Succeeds(ctx context.Context, r Runner, c Command) (bool, error) {
	_, err := r.Run(ctx, c)
	var exit *ExitError
	switch {
	case err == nil:
		return true, nil
	case errors.As(err, &exit) && exit.Result.Code != codeNotFound:
		return false, nil
	}
	return false, err
}

// line is what is executed for a command by a user.
func (c Command) line(uid int) []string {
	args := c.Args
	if len(c.Env) > 0 {
		args = slices.Concat([]string{"env"}, c.Env, args)
	}
	if c.Root && uid != 0 {
		args = slices.Concat([]string{"sudo", "-n", "--"}, args)
	}
	return args
}

// Shell is the command as one line for the shell of a user with this number.
func (c Command) Shell(uid int) string {
	var words []string
	for _, arg := range c.line(uid) {
		words = append(words, Quote(arg))
	}
	return strings.Join(words, " ")
}

// Quote has a POSIX shell take a text as one word.
func Quote(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=,+@%", r)
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
