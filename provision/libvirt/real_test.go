package libvirt_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/libvirt/libvirttest"
)

const (
	patience = time.Minute
	pool     = "test"
)

// within is a context for one test, which ends well before the test binary does.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until check finds nothing wrong.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s: not after %s: %v", what, patience, err)
		}
	}
}

// owner is the test's, of a thing of that name.
func owner(name string) libvirt.Owner {
	return libvirt.Owner{Device: "edge-1", Deployment: "shop", Name: name, Hash: "h1"}
}

// bare is a machine without a system: its firmware finds nothing to boot.
func bare(name string) libvirt.Machine {
	return libvirt.Machine{
		Name: name, Title: "a test's", Owner: owner(name), Arch: libvirt.X86_64, Emulated: true,
		CPUs: 1, MaxCPUs: 2, MemoryBytes: 64 << 20, MaxMemoryBytes: 128 << 20, Console: true,
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused fails the test unless err is of the kind and says each part.
func refused(t *testing.T, err, kind error, says ...string) {
	t.Helper()
	if err == nil || (kind != nil && !errors.Is(err, kind)) {
		t.Errorf("want %v, got: %v", kind, err)
		return
	}
	for _, part := range says {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q: %v", part, err)
		}
	}
}

// withPool is a daemon with a storage pool.
func withPool(t *testing.T) (*libvirttest.Daemon, *libvirt.Conn) {
	t.Helper()
	d := libvirttest.Start(t)
	c := d.Dial(t)
	must(t, c.EnsurePool(within(t), pool, d.PoolDir()))
	return d, c
}

// image is a qcow2 image with something in it.
func image(t *testing.T, size string) []byte {
	t.Helper()
	dir := t.TempDir()
	raw, path := filepath.Join(dir, "raw"), filepath.Join(dir, "image")
	must(t, os.WriteFile(raw, bytes.Repeat([]byte("content of an image "), 20000), 0o644))
	for _, args := range [][]string{
		{"convert", "-f", "raw", "-O", "qcow2", raw, path},
		{"resize", "-q", path, size},
	} {
		if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
			t.Fatalf("qemu-img %s: %v: %s", args[0], err, out)
		}
	}
	content, err := os.ReadFile(path)
	must(t, err)
	return content
}

func names(t *testing.T, c *libvirt.Conn) []string {
	t.Helper()
	all, err := c.Volumes(within(t), pool)
	must(t, err)
	var found []string
	for _, v := range all {
		found = append(found, v.Name)
	}
	return found
}

// events are what is heard of machines from now on.
func events(t *testing.T, c *libvirt.Conn) <-chan libvirt.Event {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s, err := c.Subscribe(ctx)
	must(t, err)
	heard := make(chan libvirt.Event, 100)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(func(e libvirt.Event) { heard <- e }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, libvirt.ErrGone) {
			t.Errorf("listening ended with %v", err)
		}
	})
	return heard
}

// hear waits for an event of the kind about the machine, and passes over others.
func hear(t *testing.T, heard <-chan libvirt.Event, machine, kind, detail string) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	var other []libvirt.Event
	for {
		select {
		case e := <-heard:
			if e.Machine == machine && e.Kind == kind {
				if e.Detail != detail {
					t.Errorf("%s %s, with the detail %q and not %q", machine, kind, e.Detail, detail)
				}
				return
			}
			other = append(other, e)
		case <-deadline.C:
			t.Fatalf("%s %s: not heard after %s, only %+v", machine, kind, patience, other)
		}
	}
}
