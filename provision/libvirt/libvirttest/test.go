package libvirttest

import (
	"context"
	"errors"
	"os"
	"testing"

	rpc "github.com/digitalocean/go-libvirt"

	"github.com/nationtech/fleet/provision/libvirt"
)

// Start starts a libvirtd with nothing in it, which ends with the test, as does all that it
// runs. Where that can't be, the test is skipped and says why.
func Start(t testing.TB) *Daemon {
	t.Helper()
	if why := missing(); why != "" {
		t.Skip("no libvirtd of the test's own: " + why)
	}
	// The path is short since sockets are in it.
	root, err := os.MkdirTemp("", "lv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(root); err != nil {
			t.Errorf("take away what libvirtd leaves: %v", err)
		}
	})
	d, err := launch(context.Background(), root)
	if errors.Is(err, errNoNamespace) {
		t.Skipf("no libvirtd of the test's own: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last that libvirtd said:\n%s", d.logged())
		}
		d.Stop(t)
	})
	return d
}

// Dial is a connection that is closed at the end of the test.
func (d *Daemon) Dial(t testing.TB) *libvirt.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c, err := libvirt.Dial(ctx, d.URI(), libvirt.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Stranger is a connection of somebody who doesn't know of fleet, and does to machines what
// a person does by hand.
func (d *Daemon) Stranger(t testing.TB) *rpc.Libvirt {
	t.Helper()
	client, err := d.connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect() })
	return client
}

// Kill ends libvirtd as if it had crashed. Its machines run on.
func (d *Daemon) Kill(t testing.TB) {
	t.Helper()
	if err := d.tell("kill"); err != nil {
		t.Fatal(err)
	}
}

// Freeze makes libvirtd hang until the end of the test: it is there and doesn't answer.
func (d *Daemon) Freeze(t testing.TB) {
	t.Helper()
	if err := d.tell("freeze"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.tell("thaw"); err != nil {
			t.Error(err)
		}
	})
}

// Restart ends libvirtd, if it runs, and starts it anew; its machines run on.
func (d *Daemon) Restart(t testing.TB) {
	t.Helper()
	for _, do := range []func() error{
		func() error { return d.tell("kill") },
		func() error { return d.tell("start") },
		func() error { return d.await(context.Background()) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
}

// Stop ends libvirtd and all that it runs. The end of the test does so too.
func (d *Daemon) Stop(t testing.TB) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
