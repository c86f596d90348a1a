// Package supervise keeps components running: programs as child processes and
// servers inside this process, both behind the same small interface.
package supervise

// Instance is one incarnation of a component, from its start to its end.
type Instance interface {
	PID() int
	// Done is closed once the incarnation has ended.
	Done() <-chan struct{}
	// Err says how it ended; only meaningful after Done.
	Err() error
	// Stop asks it to end, Kill ends it at once. Neither waits.
	Stop()
	Kill()
}
