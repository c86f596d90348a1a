// Package score is how hosts, machines and clusters are brought to what they should be: by
// steps each of which looks first, changes only what differs, and says which it was.
//
// A Score is for one type of topology. What needs a host on which libvirt runs is a Score
// of that type, and can't be interpreted on a host on which nobody has seen to that.
package score

import (
	"context"
	"fmt"
)

// Score brings a topology of type T to what it says. It may be interpreted again at any
// time, and changes nothing then.
type Score[T any] interface {
	// Name says in a few words what it is about.
	Name() string
	Interpret(ctx context.Context, topology T) (Outcome, error)
}

// Outcome is what a Score has done.
type Outcome struct {
	// Changed reports whether anything differed.
	Changed bool `json:"changed"`
	// What is what was changed, or what is there already, in words.
	What string `json:"what,omitempty"`
}

// Changed is the outcome of a Score that had something to do.
func Changed(format string, args ...any) Outcome {
	return Outcome{Changed: true, What: fmt.Sprintf(format, args...)}
}

// Unchanged is the outcome of one that had nothing to do.
func Unchanged(format string, args ...any) Outcome {
	return Outcome{What: fmt.Sprintf(format, args...)}
}

// Step is a Score that was interpreted.
type Step struct {
	Name    string `json:"name"`
	Outcome `json:",inline"`
}

// Report is told of each step when it is done. It may be nil.
type Report func(Step)

// All interprets Scores one after the other, up to the first that fails.
func All[T any](ctx context.Context, topology T, report Report, scores ...Score[T]) error {
	for _, s := range scores {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s: %w", s.Name(), err)
		}
		outcome, err := s.Interpret(ctx, topology)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name(), err)
		}
		if report != nil {
			report(Step{Name: s.Name(), Outcome: outcome})
		}
	}
	return nil
}
