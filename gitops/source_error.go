package gitops

import (
	"fmt"
	"strings"
)

// SourceError is a mistake in a file of the repository.
type SourceError struct {
	// File is relative to the repository's root; Line counts from 1, 0 is unknown.
	File string
	Line int
	// Message says what is wrong, Hint what to do about it; Hint may be empty.
	Message string
	Hint    string
}

// Error is the mistake on one line, with the hint behind it.
func (e *SourceError) Error() string {
	return joinHint(place(e.File, e.Line)+": "+e.Message, e.Hint)
}

func joinHint(message, hint string) string {
	if hint == "" {
		return message
	}
	return message + " (" + hint + ")"
}

// place is file:line as compilers print it, so that editors can jump there.
func place(file string, line int) string {
	if line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d", file, line)
}

// firstLine cuts a message of several lines to what stands on the first.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(line)
}
