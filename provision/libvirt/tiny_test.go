package libvirt_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/libvirt/libvirttest"
)

func TestAMachineWithASystemIsReachedAndShutsDown(t *testing.T) {
	d := libvirttest.Start(t)
	kernel, initrd := libvirttest.TinyGuest(t)
	c, ctx := d.Dial(t), within(t)
	n := nat("tiny", "10.249.3.0/24")
	_, err := c.EnsureNetwork(ctx, n)
	must(t, err)
	m := bare("tiny")
	m.Arch, m.GuestAgent, m.MemoryBytes = libvirt.HostArch(), true, 96<<20
	m.Kernel, m.Initrd, m.Cmdline = kernel, initrd, "console=ttyS0"
	m.Interfaces = []libvirt.Interface{{Network: n.Name, MAC: n.Hosts[0].MAC}}
	must(t, c.Define(ctx, m))
	heard := events(t, c)
	refused(t, c.GuestPing(ctx, "tiny"), nil, "tiny")
	if all, err := c.Addresses(ctx, "tiny"); err != nil || len(all) != 0 {
		t.Errorf("shut off, it has the addresses %v, %v", all, err)
	}
	must(t, c.Start(ctx, "tiny"))

	eventually(t, "an address", func() error {
		all, err := c.Addresses(ctx, "tiny")
		if err == nil && (len(all) != 1 || all[0] != n.Hosts[0].IP) {
			err = fmt.Errorf("it has %v, want %s", all, n.Hosts[0].IP)
		}
		return err
	})
	eventually(t, "its guest agent", func() error { return c.GuestPing(ctx, "tiny") })
	eventually(t, "its page", func() error {
		client := http.Client{Timeout: time.Second}
		answer, err := client.Get("http://" + n.Hosts[0].IP.String() + "/")
		if err != nil {
			return err
		}
		return answer.Body.Close()
	})
	written, err := os.ReadFile(d.HostPath(c.ConsoleLog("tiny")))
	if err != nil || !bytes.Contains(written, []byte("Linux version")) {
		t.Errorf("its console is not written down: %v:\n%.500s", err, written)
	}
	// The balloon gives memory and takes it back.
	for _, bytes := range []int64{120 << 20, 88 << 20} {
		must(t, c.SetMemory(ctx, "tiny", bytes))
		eventually(t, fmt.Sprintf("%d bytes of memory", bytes), func() error {
			is, err := c.Machine(ctx, "tiny")
			if err == nil && is.MemoryBytes != bytes {
				err = fmt.Errorf("it has %d", is.MemoryBytes)
			}
			return err
		})
	}

	screen := &terminal{seen: make(chan struct{})}
	watching, leave := context.WithCancel(ctx)
	left := make(chan error, 1)
	go func() { left <- c.Console(watching, "tiny", screen) }()
	must(t, c.Shutdown(ctx, "tiny", patience))
	hear(t, heard, "tiny", libvirt.EventShutdown, "by its own system")
	hear(t, heard, "tiny", libvirt.EventStopped, "it shut down")
	select {
	case err := <-left: // with the machine
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the console outlives its machine")
	}
	leave()
	if is, err := c.Machine(ctx, "tiny"); err != nil || is.State != libvirt.StateShutOff || is.Reason != "it shut down" {
		t.Errorf("it is %+v, %v", is, err)
	}
	refused(t, c.Console(ctx, "tiny", screen), nil, "start it")
}

func TestAConsoleShowsWhatTheMachineSaysUntilItIsLeft(t *testing.T) {
	d := libvirttest.Start(t)
	kernel, initrd := libvirttest.TinyGuest(t)
	c, ctx := d.Dial(t), within(t)
	m := bare("tiny")
	m.Arch, m.Kernel, m.Initrd, m.Cmdline = libvirt.HostArch(), kernel, initrd, "console=ttyS0"
	must(t, c.Define(ctx, m))
	must(t, c.Start(ctx, "tiny"))
	screen := &terminal{seen: make(chan struct{})}
	watching, leave := context.WithCancel(ctx)
	left := make(chan error, 1)
	go func() { left <- c.Console(watching, "tiny", screen) }()
	select {
	case <-screen.seen:
	case err := <-left:
		t.Fatalf("the console ended: %v", err)
	case <-time.After(patience):
		t.Fatal("nothing is seen on the console")
	}
	leave()
	must(t, <-left)
	// The connection serves on, and so does the machine.
	if is, err := c.Machine(ctx, "tiny"); err != nil || is.State != libvirt.StateRunning {
		t.Errorf("it is %+v, %v", is, err)
	}
	// A terminal that is closed ends it, too: at the next thing that it should show.
	must(t, c.Destroy(ctx, "tiny"))
	must(t, c.Start(ctx, "tiny"))
	refused(t, c.Console(ctx, "tiny", &terminal{fails: errors.New("the window was closed")}), nil, "the window was closed")
}

// terminal is a screen, at whose keyboard nobody sits.
type terminal struct {
	once  sync.Once
	seen  chan struct{}
	fails error
}

func (s *terminal) Write(p []byte) (int, error) {
	if s.fails != nil {
		return 0, s.fails
	}
	s.once.Do(func() { close(s.seen) })
	return len(p), nil
}

func (s *terminal) Read([]byte) (int, error) { return 0, io.EOF }
