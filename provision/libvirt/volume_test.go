package libvirt_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/libvirt/libvirttest"
)

func TestAPoolIsMadeOnceAndKeepsItsDirectory(t *testing.T) {
	d := libvirttest.Start(t)
	c, ctx := d.Dial(t), within(t)
	dir := filepath.Join(d.PoolDir(), "deep", "er")
	_, err := c.Pool(ctx, pool)
	refused(t, err, libvirt.ErrNotFound, "kubectl fleet host setup")
	must(t, c.EnsurePool(ctx, pool, dir))
	must(t, c.EnsurePool(ctx, pool, dir))
	is, err := c.Pool(ctx, pool)
	must(t, err)
	if is.Path != dir || is.Available == 0 || is.Capacity < is.Available {
		t.Errorf("it is %+v", is)
	}
	refused(t, c.EnsurePool(ctx, pool, d.PoolDir()), nil, "HARMONY_FLEET_POOL_NAME", dir)
	refused(t, c.EnsurePool(ctx, pool, "relative"), nil, "absolute")
	refused(t, c.EnsurePool(ctx, "a/b", dir), nil, "a/b")
	// One that can't be made leaves nothing.
	file := filepath.Join(d.PoolDir(), "file")
	must(t, os.WriteFile(file, nil, 0o644))
	refused(t, c.EnsurePool(ctx, "other", filepath.Join(file, "below")), nil, "other")
	_, err = c.Pool(ctx, "other")
	refused(t, err, libvirt.ErrNotFound)
}

func TestVolumesAreMadeGrownAndDeleted(t *testing.T) {
	d, c := withPool(t)
	ctx := within(t)
	must(t, c.CreateVolume(ctx, pool, "disk", 10<<20))
	is, err := c.Volume(ctx, pool, "disk")
	must(t, err)
	if is.Format != "qcow2" || is.Capacity != 10<<20 || is.Allocation > 1<<20 || is.Path != filepath.Join(d.PoolDir(), "disk") {
		t.Errorf("it is %+v", is)
	}
	refused(t, c.CreateVolume(ctx, pool, "disk", 10<<20), libvirt.ErrExists, "disk")
	refused(t, c.CreateVolume(ctx, pool, "a/b", 10<<20), nil, "a/b")
	refused(t, c.CreateVolume(ctx, pool, "none", 0), nil, "size")
	refused(t, c.CreateVolume(ctx, "missing", "disk", 1<<20), libvirt.ErrNotFound, "missing")
	must(t, c.ResizeVolume(ctx, pool, "disk", 20<<20))
	must(t, c.ResizeVolume(ctx, pool, "disk", 20<<20))
	refused(t, c.ResizeVolume(ctx, pool, "disk", 10<<20), nil, "smaller")
	if is, err = c.Volume(ctx, pool, "disk"); err != nil || is.Capacity != 20<<20 {
		t.Errorf("grown, it is %+v, %v", is, err)
	}
	must(t, c.DeleteVolume(ctx, pool, "disk"))
	must(t, c.DeleteVolume(ctx, pool, "disk"))
	must(t, c.DeleteVolume(ctx, "missing", "disk"))
	_, err = c.Volume(ctx, pool, "disk")
	refused(t, err, libvirt.ErrNotFound)
}

func TestAnOverlayIsACopyOnWriteOfAnImage(t *testing.T) {
	_, c := withPool(t)
	ctx := within(t)
	content := image(t, "8M")
	refused(t, c.CreateOverlay(ctx, pool, "disk", "image", 0), libvirt.ErrNotFound, "image")
	must(t, c.Upload(ctx, pool, "image", "qcow2", int64(len(content)), bytes.NewReader(content)))
	must(t, c.CreateOverlay(ctx, pool, "same", "image", 0))
	must(t, c.CreateOverlay(ctx, pool, "larger", "image", 16<<20))
	of, err := c.Volume(ctx, pool, "image")
	must(t, err)
	for name, size := range map[string]uint64{"same": 8 << 20, "larger": 16 << 20} {
		if is, err := c.Volume(ctx, pool, name); err != nil || is.Capacity != size || is.Backing != of.Path || is.Format != "qcow2" {
			t.Errorf("it is %+v, %v", is, err)
		}
	}
	refused(t, c.CreateOverlay(ctx, pool, "smaller", "image", 4<<20), nil, "smaller", "fewer")
	refused(t, c.CreateOverlay(ctx, pool, "same", "image", 0), libvirt.ErrExists)
	refused(t, c.CreateOverlay(ctx, pool, "twice", "same", 0), nil, "copy on write")
	refused(t, c.DeleteVolume(ctx, pool, "image"), libvirt.ErrInUse, "copy on write")
	must(t, c.DeleteVolume(ctx, pool, "same"))
	must(t, c.DeleteVolume(ctx, pool, "larger"))
	must(t, c.DeleteVolume(ctx, pool, "image"))
	if left := names(t, c); len(left) != 0 {
		t.Errorf("there are %q left", left)
	}
}

func TestAnImageIsUploadedAsItIs(t *testing.T) {
	d, c := withPool(t)
	ctx := within(t)
	for name, content := range map[string][]byte{
		"qcow2": image(t, "64M"),
		"raw":   bytes.Repeat([]byte("raw content "), 100000),
	} {
		must(t, c.Upload(ctx, pool, name, name, int64(len(content)), bytes.NewReader(content)))
		got, err := os.ReadFile(filepath.Join(d.PoolDir(), name))
		must(t, err)
		if !bytes.Equal(got, content) {
			t.Errorf("%s: the %d bytes in the pool are not the %d of the image", name, len(got), len(content))
		}
		is, err := c.Volume(ctx, pool, name)
		must(t, err)
		if is.Format != name || (name == "qcow2" && is.Capacity != 64<<20) {
			t.Errorf("%s: it is %+v", name, is)
		}
		refused(t, c.Upload(ctx, pool, name, name, int64(len(content)), bytes.NewReader(content)), libvirt.ErrExists, name)
	}
	// Whole at once, and smaller than what is written last.
	must(t, c.Upload(ctx, pool, "small", "raw", 5, strings.NewReader("small")))
}

func TestAnUploadThatFailsLeavesNoVolume(t *testing.T) {
	_, c := withPool(t)
	content := bytes.Repeat([]byte("raw content "), 100000)
	size := int64(len(content))
	cut := errors.New("the line was cut")
	canceled, cancel := context.WithCancel(within(t))
	for _, test := range []struct {
		name string
		ctx  context.Context
		size int64
		r    io.Reader
		kind error
		says string
	}{
		{"shorter than said", within(t), size + 1, bytes.NewReader(content), io.ErrUnexpectedEOF, "shorter"},
		{"shorter than its head", within(t), size, strings.NewReader("x"), io.ErrUnexpectedEOF, "shorter"},
		{"longer than said", within(t), size - 1, bytes.NewReader(content), nil, "longer"},
		{"its source fails", within(t), size, io.MultiReader(bytes.NewReader(content[:size/2]), &broken{cut, nil}), cut, "the line was cut"},
		{"it is given up", canceled, size, io.MultiReader(bytes.NewReader(content[:size/2]), &broken{cut, cancel}), context.Canceled, ""},
		{"no size", within(t), 0, bytes.NewReader(content), nil, "size"},
	} {
		t.Run(test.name, func(t *testing.T) {
			refused(t, c.Upload(test.ctx, pool, "image", "raw", test.size, test.r), test.kind, test.says, "upload volume test/image")
			if left := names(t, c); len(left) != 0 {
				t.Errorf("there are %q left", left)
			}
		})
	}
}

// broken is a source that ends what reads it, or fails.
type broken struct {
	err error
	end func()
}

func (b *broken) Read([]byte) (int, error) {
	if b.end != nil {
		b.end()
		select {} // as a download does whose server is silent
	}
	return 0, b.err
}

func TestAnUploadThatWasCutOffIsReplaced(t *testing.T) {
	d, c := withPool(t)
	ctx := within(t)
	content := image(t, "64M")
	// libvirtd is killed in the middle, so that nobody can take back what was begun.
	killing := &broken{errors.New("not reached"), nil}
	killing.end = func() { d.Kill(t) }
	half := io.MultiReader(bytes.NewReader(content[:len(content)-1000]), killing)
	refused(t, c.Upload(ctx, pool, "image", "qcow2", int64(len(content)), half), libvirt.ErrGone)
	d.Restart(t)
	c = d.Dial(t)
	if left := names(t, c); !slices.Equal(left, []string{"image"}) {
		t.Fatalf("there are %q left: the test doesn't show what it should", left)
	}
	refused(t, c.CreateOverlay(ctx, pool, "disk", "image", 0), libvirt.ErrNotFound, "upload it again")

	must(t, c.Upload(ctx, pool, "image", "qcow2", int64(len(content)), bytes.NewReader(content)))
	must(t, c.CreateOverlay(ctx, pool, "disk", "image", 0))
	got, err := os.ReadFile(filepath.Join(d.PoolDir(), "image"))
	must(t, err)
	if !bytes.Equal(got, content) {
		t.Error("what is there is not the image")
	}
}

func TestAnUploadIsNotTakenAwayFromTheOneWhoIsAtIt(t *testing.T) {
	_, c := withPool(t)
	ctx := within(t)
	content := image(t, "64M")
	line := &slowLine{r: bytes.NewReader(content), fast: len(content) - 1000, began: make(chan struct{}), end: make(chan struct{})}
	first := make(chan error, 1)
	go func() { first <- c.Upload(ctx, pool, "image", "qcow2", int64(len(content)), line) }()
	<-line.began
	refused(t, c.Upload(ctx, pool, "image", "qcow2", int64(len(content)), bytes.NewReader(content)), libvirt.ErrInUse, "somebody else")
	close(line.end)
	must(t, <-first)
	must(t, c.CreateOverlay(ctx, pool, "disk", "image", 0))
}

// slowLine is a source that becomes slow after a while, until end is closed.
type slowLine struct {
	r          io.Reader
	fast       int
	began, end chan struct{}
}

func (l *slowLine) Read(p []byte) (int, error) {
	if l.fast > 0 {
		n, err := l.r.Read(p[:min(len(p), l.fast)])
		if l.fast -= n; l.fast == 0 {
			close(l.began)
		}
		return n, err
	}
	select {
	case <-l.end:
		return l.r.Read(p)
	case <-time.After(100 * time.Millisecond):
		return l.r.Read(p[:1])
	}
}

func TestAFullPoolIsSaidToBeFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skip("no small file system: " + err.Error())
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	d := libvirttest.Start(t)
	c, ctx := d.Dial(t), within(t)
	must(t, c.EnsurePool(ctx, pool, dir))
	content := image(t, "1M")
	must(t, c.Upload(ctx, pool, "image", "qcow2", int64(len(content)), bytes.NewReader(content)))

	refused(t, c.CreateVolume(ctx, pool, "disk", 1<<30), libvirt.ErrPoolFull, "1.0 GiB", "MiB left")
	unread := &broken{errors.New("read all the same"), nil}
	refused(t, c.Upload(ctx, pool, "large", "raw", 8<<20, unread), libvirt.ErrPoolFull, "8.0 MiB")
	// Most of an image is never written to.
	must(t, c.CreateOverlay(ctx, pool, "overlay", "image", 1<<30))

	// Somebody fills what libvirt thinks is free, before it looks.
	fill(t, filepath.Join(dir, "filler"))
	refused(t, c.CreateOverlay(ctx, pool, "another", "image", 0), libvirt.ErrPoolFull)
	refused(t, c.CreateVolume(ctx, pool, "tiny", 1<<20), libvirt.ErrPoolFull)
	if left := names(t, c); !slices.Contains(left, "image") || slices.Contains(left, "another") || slices.Contains(left, "tiny") || slices.Contains(left, "large") {
		t.Errorf("there are %q", left)
	}
}

// fill writes until there is no space left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			return
		}
	}
}
