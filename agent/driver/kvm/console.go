package kvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// tailBytes is how much of a console's end a report may have.
const tailBytes = 4 << 10

// maxTail is how much of the end is searched for lines.
const maxTail = 1 << 20

// followEvery is how often a console that is followed is looked at: its log is a file.
const followEvery = 250 * time.Millisecond

// Machines are the machines of a deployment that libvirt has, by their names in the score,
// and their names in libvirt.
func (d *Driver) Machines(ctx context.Context, n contracts.DeploymentName) (map[string]string, error) {
	o, err := d.Observe(ctx, n, nil)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, dom := range o.Domains {
		found[dom.Machine] = dom.Name
	}
	return found, nil
}

// Log is the end of what a machine wrote to its console.
func (d *Driver) Log(ctx context.Context, domain string) (string, error) {
	f, err := d.openConsole(ctx, domain)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := end(f, tailBytes)
	if err != nil {
		return "", d.consoleFailure(domain, err)
	}
	return strings.ToValidUTF8(strings.ReplaceAll(string(data), "\r\n", "\n"), "\ufffd"), nil
}

// StreamConsole writes what a machine wrote to its console: the last lines, or all of it
// with tail nil, and with follow what comes.
func (d *Driver) StreamConsole(ctx context.Context, domain string, tail *int64, follow bool, w io.Writer) error {
	f, err := d.openConsole(ctx, domain)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // whichever it is then
	if tail != nil {
		data, err := end(f, maxTail)
		if err != nil {
			return d.consoleFailure(domain, err)
		}
		if _, err := w.Write(lastLines(data, *tail)); err != nil {
			return err
		}
	}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		if _, err := io.Copy(w, f); err != nil || !follow {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if next := d.rotated(ctx, domain, f); next != nil {
			_ = f.Close() // which was only read
			f = next
		}
	}
}

// rotated returns the file that has taken f's place, which virtlogd moves away when it has
// grown large; nil when it is still the same.
func (d *Driver) rotated(ctx context.Context, domain string, f *os.File) *os.File {
	next, err := d.openConsole(ctx, domain)
	if err != nil {
		return nil
	}
	before, err1 := f.Stat()
	after, err2 := next.Stat()
	if err1 != nil || err2 != nil || os.SameFile(before, after) {
		_ = next.Close()
		return nil
	}
	return next
}

func (d *Driver) openConsole(ctx context.Context, domain string) (*os.File, error) {
	if domain == "" {
		return nil, d.consoleFailure(domain, fs.ErrNotExist)
	}
	conn, _, err := d.connect(ctx)
	if err != nil {
		return nil, d.failure("look for the console of machine "+domain, err, reconcile.ReasonNoDriver)
	}
	path := conn.ConsoleLog(domain)
	if d.o.HostPath != nil {
		path = d.o.HostPath(path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, d.consoleFailure(domain, err)
	}
	return f, nil
}

func (d *Driver) consoleFailure(domain string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return contracts.CommandErrorf(contracts.CodeRefused, "libvirt lets root alone read what machine %s writes to its console: %v; `virsh console %s` on the device shows it", domain, err, domain)
	case errors.Is(err, fs.ErrNotExist):
		return contracts.CommandErrorf(contracts.CodeNotFound, "machine %s has written nothing to a console, or has none: spec.score.kvm.machines[].console", domain)
	}
	return fmt.Errorf("read the console of machine %s: %w", domain, err)
}

// end is the last bytes of a file, and leaves it there.
func end(f *os.File, most int64) ([]byte, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(max(0, size-most), io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}

// lastLines are the last lines of text; the last may have no end.
func lastLines(text []byte, n int64) []byte {
	if n <= 0 {
		return nil
	}
	at := len(text)
	if bytes.HasSuffix(text, []byte("\n")) {
		at--
	}
	for ; n > 0; n-- {
		if at = bytes.LastIndexByte(text[:at], '\n'); at < 0 {
			return text
		}
	}
	return text[at+1:]
}
