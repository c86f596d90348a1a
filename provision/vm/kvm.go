package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/topology"
)

// patience is how long a machine may take to its first sign of life under KVM, where a
// kernel prints its first line within a second.
const patience = 20 * time.Second

// how is how a machine is run.
type how struct {
	emulated bool
	// trial has KVM tried: libvirt claims it, and only a boot proves it.
	trial bool
	// why is a reason for people.
	why string
}

// decide chooses how a machine is run; tried is what is known of KVM on this host since it
// was booted, nil for nothing.
func decide(s Spec, host libvirt.Host, guest libvirt.Guest, tried *bool) how {
	switch {
	case s.Emulate:
		return how{emulated: true, why: "as asked for"}
	case s.Arch != host.Arch:
		return how{emulated: true, why: fmt.Sprintf("the host is %s and the machine %s", host.Arch, s.Arch)}
	case !guest.KVM:
		return how{emulated: true, why: "the host has no KVM: see kubectl fleet host check"}
	case tried == nil:
		return how{trial: true}
	case !*tried:
		return how{emulated: true, why: "KVM is there and has not booted a machine since the host was started"}
	}
	return how{}
}

// kernelTime is the time that a kernel puts before each line, in seconds since it began.
var kernelTime = regexp.MustCompile(`\[ *(\d+)\.\d{6}\]`)

// alive reports whether a machine's console shows a system that gets on. The first lines of
// a kernel do not count: one that stands still for want of a timer prints them too.
func alive(console []byte) bool {
	for _, m := range kernelTime.FindAllSubmatch(console, -1) {
		if seconds, err := strconv.Atoi(string(m[1])); err == nil && seconds >= 1 {
			return true
		}
	}
	for _, sign := range []string{"systemd[1]", "cloud-init", " login:", "Run /init as init", "Run /sbin/init as init"} {
		if bytes.Contains(console, []byte(sign)) {
			return true
		}
	}
	return false
}

// watcher keeps what a console shows, and says when there is life in it.
type watcher struct {
	mu    sync.Mutex
	shown []byte
	alive chan struct{}
	once  sync.Once
}

// keepConsole is how much of a console is looked at. It is the end that counts.
const keepConsole = 64 << 10

// Write takes what the machine shows.
func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shown = append(w.shown, p...)
	w.shown = w.shown[max(0, len(w.shown)-keepConsole):]
	if alive(w.shown) {
		w.once.Do(func() { close(w.alive) })
	}
	return len(p), nil
}

// Read has nothing to type.
func (w *watcher) Read([]byte) (int, error) { return 0, errNothing }

var errNothing = errors.New("nothing is typed")

// lives waits for a sign of life of a machine that has just been started: its kernel on the
// console, or that it has asked for an address. An error is that of libvirt.
func lives(ctx context.Context, conn *libvirt.Conn, name string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	w := &watcher{alive: make(chan struct{})}
	console := make(chan error, 1)
	go func() { console <- conn.Console(ctx, name, w) }()
	defer func() { cancel(); <-console }()
	// libvirt has no event for a lease.
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-w.alive:
			return true, nil
		case <-ctx.Done():
			return false, nil
		case <-tick.C:
		}
		is, err := conn.Machine(ctx, name)
		if err != nil {
			if ctx.Err() != nil {
				return false, nil
			}
			return false, err
		}
		if !is.Active() || is.State == libvirt.StateCrashed {
			return false, nil
		}
		if addresses, err := conn.Addresses(ctx, name); err == nil && len(addresses) > 0 {
			return true, nil
		}
	}
}

// Tried remembers of hosts whether KVM works there, until they are booted again.
type Tried struct {
	// Path is the file that keeps it.
	Path string
}

// TriedIn keeps it in a cache directory.
func TriedIn(cache string) *Tried { return &Tried{Path: filepath.Join(cache, "kvm.json")} }

type verdict struct {
	Boot  string `json:"boot"`
	Works bool   `json:"works"`
}

// read is empty when nothing is known, or nothing that can be read.
func (t *Tried) read() map[string]verdict {
	all := map[string]verdict{}
	data, err := os.ReadFile(t.Path)
	if err != nil || json.Unmarshal(data, &all) != nil {
		return map[string]verdict{}
	}
	return all
}

// Of is what is known of a host; nil for nothing.
func (t *Tried) Of(ctx context.Context, host *topology.KVMHost) *bool {
	if t == nil {
		return nil
	}
	boot, err := host.Linux().BootID(ctx)
	if err != nil {
		return nil
	}
	if v, known := t.read()[host.URI().String()]; known && v.Boot == boot {
		return &v.Works
	}
	return nil
}

// remember keeps what was found out.
func (t *Tried) remember(ctx context.Context, host *topology.KVMHost, works bool) error {
	if t == nil {
		return nil
	}
	boot, err := host.Linux().BootID(ctx)
	if err != nil {
		return err
	}
	all := t.read()
	all[host.URI().String()] = verdict{Boot: boot, Works: works}
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(t.Path), 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	temporary := t.Path + ".new"
	if err := os.WriteFile(temporary, append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, t.Path)
}
