package env

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Progress tells a person what goes on: ► begins, ✔ done, ✗ failed.
type Progress struct {
	mu    sync.Mutex
	out   io.Writer
	start time.Time
}

// NewProgress writes to out.
func NewProgress(out io.Writer) *Progress { return &Progress{out: out, start: time.Now()} }

// Say writes one line.
func (p *Progress) Say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, format+"\n", args...)
}

// Step does one thing and says how long it took. A step that takes long is
// announced when it begins.
func (p *Progress) Step(name string, do func() error) error {
	start := time.Now()
	announce := time.AfterFunc(2*time.Second, func() { p.Say("◎ %s …", name) })
	err := do()
	announce.Stop()
	if err != nil {
		p.Say("✗ %s (%s)", name, round(time.Since(start)))
		return fmt.Errorf("%s: %w", name, err)
	}
	p.Say("✔ %s (%s)", name, round(time.Since(start)))
	return nil
}

func round(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}
