package libvirt_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/libvirt/libvirttest"
)

func TestALibvirtdThatIsKilledIsNoticedAndItsMachinesRunOn(t *testing.T) {
	d := libvirttest.Start(t)
	c, ctx := d.Dial(t), within(t)
	must(t, c.Define(ctx, bare("web")))
	must(t, c.Start(ctx, "web"))
	before, err := c.Machine(ctx, "web")
	must(t, err)

	// Somebody listens, and somebody waits for a machine that doesn't shut down.
	watching, shutting := make(chan error, 1), make(chan error, 1)
	s, err := c.Subscribe(ctx)
	must(t, err)
	go func() { watching <- s.Run(func(libvirt.Event) {}) }()
	go func() { shutting <- c.Shutdown(ctx, "web", time.Hour) }()

	began := time.Now()
	d.Kill(t)
	for what, ended := range map[string]<-chan error{"watch": watching, "shutdown": shutting} {
		select {
		case err := <-ended:
			refused(t, err, libvirt.ErrGone)
		case <-time.After(patience):
			t.Fatalf("%s still waits", what)
		}
	}
	<-c.Gone()
	_, err = c.Machine(ctx, "web")
	refused(t, err, libvirt.ErrGone, "web")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	if !qemuRuns(t, d, "web") {
		t.Error("the machine has ended, too")
	}
	_, err = libvirt.Dial(ctx, d.URI(), libvirt.DialOptions{})
	refused(t, err, nil, "start libvirtd")

	d.Restart(t)
	c = d.Dial(t)
	if after, err := c.Machine(ctx, "web"); err != nil || after.State != libvirt.StateRunning || after.ID != before.ID || after.Owner != before.Owner {
		t.Errorf("it was %+v and is %+v, %v", before, after, err)
	}
}

func TestAConnectionThatIsClosedIsGoneAndLeavesNothing(t *testing.T) {
	d := libvirttest.Start(t)
	ctx := within(t)
	before := goleak.IgnoreCurrent()
	c, err := libvirt.Dial(ctx, d.URI(), libvirt.DialOptions{})
	must(t, err)
	must(t, c.EnsurePool(ctx, pool, d.PoolDir()))
	must(t, c.Upload(ctx, pool, "small", "raw", 5, strings.NewReader("small")))
	watching := make(chan error, 1)
	s, err := c.Subscribe(ctx)
	must(t, err)
	go func() { watching <- s.Run(func(libvirt.Event) {}) }()
	must(t, c.Close())
	<-c.Gone()
	refused(t, <-watching, libvirt.ErrGone)
	_, err = c.Machines(ctx)
	refused(t, err, libvirt.ErrGone)
	_, err = c.Subscribe(ctx)
	refused(t, err, libvirt.ErrGone)
	refused(t, c.Upload(ctx, pool, "other", "raw", 5, strings.NewReader("other")), libvirt.ErrGone)
	goleak.VerifyNone(t, before)
}

func TestACallEndsWithItsContext(t *testing.T) {
	d := libvirttest.Start(t)
	c := d.Dial(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := c.Machines(ctx)
	refused(t, err, context.Canceled, "list the machines")
	if _, err := c.Machines(within(t)); err != nil {
		t.Errorf("the others' calls fail with it: %v", err)
	}
}

func TestAWatchEndsWithItsContext(t *testing.T) {
	d := libvirttest.Start(t)
	c := d.Dial(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	s, err := c.Subscribe(ctx)
	must(t, err)
	go func() { ended <- s.Run(func(libvirt.Event) {}) }()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	// The connection still serves.
	must(t, c.Define(within(t), bare("web")))
}

func TestALibvirtdThatHangsIsGivenUp(t *testing.T) {
	d := libvirttest.Start(t)
	ctx := within(t)
	c, err := libvirt.Dial(ctx, d.URI(), libvirt.DialOptions{Patience: 2 * time.Second})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.EnsurePool(ctx, pool, d.PoolDir()))
	heard := make(chan error, 1)
	s, err := c.Subscribe(ctx)
	must(t, err)
	go func() { heard <- s.Run(func(libvirt.Event) {}) }()

	freezing := &broken{nil, func() { d.Freeze(t) }}
	content := bytes.Repeat([]byte("raw content "), 100000)
	sending := make(chan error, 1)
	go func() {
		half := io.MultiReader(bytes.NewReader(content[:len(content)/2]), freezing)
		sending <- c.Upload(ctx, pool, "image", "raw", int64(len(content)), half)
	}()
	for what, ended := range map[string]<-chan error{"watch": heard, "upload": sending} {
		select {
		case err := <-ended:
			refused(t, err, libvirt.ErrGone)
		case <-time.After(patience):
			t.Fatalf("%s still waits", what)
		}
	}
	_, err = c.Machines(ctx)
	refused(t, err, libvirt.ErrGone)
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err = libvirt.Dial(short, d.URI(), libvirt.DialOptions{})
	refused(t, err, context.DeadlineExceeded, "doesn't answer")
}

// A silent server is what a host is that was cut off.
func TestAServerThatDoesNotAnswerIsGivenUp(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	must(t, err)
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_, err = libvirt.Dial(ctx, libvirt.MustURI("qemu:///system?socket="+socket), libvirt.DialOptions{})
	refused(t, err, context.DeadlineExceeded, "doesn't answer", socket)
}

func TestAServerThatHangsUpIsGone(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	must(t, err)
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	_, err = libvirt.Dial(within(t), libvirt.MustURI("qemu:///system?socket="+socket), libvirt.DialOptions{})
	refused(t, err, libvirt.ErrGone, socket)
}

func TestAHostWithoutLibvirtIsToldWhatToInstall(t *testing.T) {
	_, err := libvirt.Dial(within(t), libvirt.MustURI("qemu:///system?socket=/nowhere/libvirt-sock"), libvirt.DialOptions{})
	refused(t, err, nil, "/nowhere/libvirt-sock", "libvirt-daemon-system")
}

func TestAConnectionThroughSSHIsOpenedByTheCaller(t *testing.T) {
	u := libvirt.MustURI("qemu+ssh://root@edge-1/system")
	_, err := libvirt.Dial(within(t), u, libvirt.DialOptions{})
	refused(t, err, nil, "ssh")
	_, err = libvirt.Dial(within(t), libvirt.URI{}, libvirt.DialOptions{})
	refused(t, err, nil, "no URI")

	d := libvirttest.Start(t)
	var asked []string
	c, err := libvirt.Dial(within(t), u, libvirt.DialOptions{SSH: func(ctx context.Context, socket string) (net.Conn, error) {
		asked = append(asked, socket)
		if socket != "/run/libvirt/virtqemud-sock" {
			return nil, errors.New("no such socket")
		}
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", d.HostPath("/run/libvirt/libvirt-sock"))
	}})
	must(t, err)
	defer c.Close()
	if len(asked) != 2 || asked[0] != "/run/libvirt/libvirt-sock" {
		t.Errorf("it asks for %q", asked)
	}
	must(t, c.Define(within(t), bare("web")))
}
