package cloudimage

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// Meter begins to show how something of that many bytes goes on, of which some are there
// already. total is negative when it is not known. What is written to what it returns is
// counted.
type Meter func(name string, total, have int64) io.WriteCloser

func (c *Cache) start(name string, total, have int64) io.WriteCloser {
	if c.Meter == nil {
		return nowhere{}
	}
	return c.Meter(name, total, have)
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) Close() error                { return nil }

// Bar shows a bar that is drawn over, for a terminal.
func Bar(out io.Writer) Meter {
	return func(name string, total, have int64) io.WriteCloser {
		bar := progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(out), progressbar.OptionSetDescription(name),
			progressbar.OptionShowBytes(true), progressbar.OptionShowTotalBytes(true), progressbar.OptionUseIECUnits(true),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionFullWidth(), progressbar.OptionClearOnFinish(),
		)
		_ = bar.Set64(have)
		return bar
	}
}

// linesEvery is the least time between two lines.
const linesEvery = 5 * time.Second

// Lines writes a line each tenth of the way, for a log.
func Lines(tell func(format string, args ...any), now func() time.Time) Meter {
	return func(name string, total, have int64) io.WriteCloser {
		return &lines{tell: tell, now: now, name: name, total: total, at: have, last: now()}
	}
}

type lines struct {
	tell      func(format string, args ...any)
	now       func() time.Time
	name      string
	total, at int64
	last      time.Time
	tenth     int64
}

// Write counts, and says so when it is time.
func (l *lines) Write(p []byte) (int, error) {
	l.at += int64(len(p))
	now := l.now()
	if l.total <= 0 {
		if now.Sub(l.last) >= linesEvery {
			l.last = now
			l.tell("%s: %s", l.name, Bytes(l.at))
		}
		return len(p), nil
	}
	if tenth := 10 * l.at / l.total; tenth > l.tenth && (now.Sub(l.last) >= linesEvery || l.at == l.total) {
		l.tenth, l.last = tenth, now
		l.tell("%s: %d%% of %s", l.name, 100*l.at/l.total, Bytes(l.total))
	}
	return len(p), nil
}

// Close has nothing to do.
func (l *lines) Close() error { return nil }

// Bytes is a size for people.
func Bytes[N int64 | uint64](n N) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, units := float64(n)/unit, "KMGT"
	i := 0
	for value >= unit && i < len(units)-1 {
		value /= unit
		i++
	}
	return fmt.Sprintf("%.1f %ciB", value, units[i])
}
