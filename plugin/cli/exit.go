package cli

import (
	"errors"
	"fmt"
)

// Exit codes of every command.
const (
	// CodeOK: all is well, or what was asked for was printed.
	CodeOK = 0
	// CodeBad: what was asked about is not well: a stalled rollout, or something
	// wrong with --exit-code.
	CodeBad = 1
	// CodeUnfinished: a rollout is still in progress.
	CodeUnfinished = 2
	// CodeError: there is no answer: no cluster, no permission, no such object, a
	// flag that does not exist.
	CodeError = 3
	// CodeInterrupted: Ctrl-C, as shells count it.
	CodeInterrupted = 130
)

// ExitError ends the program with a code. Without Err it says nothing more: what
// there is to say has been printed.
type ExitError struct {
	Code int
	Err  error
}

// Error is the error that caused the exit.
func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

// Unwrap is the error that caused the exit.
func (e *ExitError) Unwrap() error { return e.Err }

// ExitCode is the code to end with.
func (e *ExitError) ExitCode() int { return e.Code }

// Silent reports whether everything has been said.
func (e *ExitError) Silent() bool { return e.Err == nil }

// Exit ends with a code and nothing more to say; nil for CodeOK.
func Exit(code int) error {
	if code == CodeOK {
		return nil
	}
	return &ExitError{Code: code}
}

// CodeOf is the exit code that an error asks for: its own when it has one,
// CodeError otherwise.
func CodeOf(err error) int {
	if err == nil {
		return CodeOK
	}
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return CodeError
}

// IsSilent reports whether there is nothing to print about an error.
func IsSilent(err error) bool {
	var silent interface{ Silent() bool }
	return errors.As(err, &silent) && silent.Silent()
}
