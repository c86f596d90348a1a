package libvirt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	rpc "github.com/digitalocean/go-libvirt"
)

const (
	// headSize is how much of an image is written last. libvirt can't rename a volume, so
	// that one which is uploaded under its own name and was cut off has to be recognised: it
	// begins with zeros, which no image does. 64 KiB hold the header of a qcow2 image, a
	// partition table and an ISO image's descriptor.
	headSize = 64 << 10
	// chunkSize is how much is sent at once; the client would take 4 MiB and copy them.
	chunkSize = 256 << 10
	// stillFor is how long nobody may have written to an unfinished volume for it to be
	// taken for one that nobody will finish.
	stillFor = 3 * time.Second
)

// errSource keeps what is wrong with the source of an image apart from what is wrong with
// libvirt: both may be a connection that was cut.
var errSource = errors.New("the image can't be read")

// Upload makes a volume of what r has, which is size bytes of format qcow2 or raw. A
// failed one leaves no volume behind, one whose process was killed is replaced by the next;
// a volume of that name that is whole is ErrExists, one that somebody else is at ErrInUse. An
// image that refers to other files is refused: a machine could read the host's through it.
// When ctx ends, a read from r may still be under way.
func (c *Conn) Upload(ctx context.Context, pool, name, format string, size int64, r io.Reader) error {
	what := "upload volume " + pool + "/" + name
	if err := checkName("volume", name); err != nil {
		return err
	}
	if size <= 0 {
		return fmt.Errorf("%s: it needs a size", what)
	}
	p, err := c.pool(ctx, pool)
	if err != nil {
		return err
	}
	if err := c.makeWay(ctx, p, name); err != nil {
		return err
	}
	if err := c.room(ctx, pool, name, uint64(size)); err != nil {
		return err
	}
	head := make([]byte, min(size, headSize))
	if _, err := io.ReadFull(r, head); err != nil {
		return fmt.Errorf("%s: read the image: %w", what, tooShort(err))
	}
	if err := checkHead(format, head); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	// With all of its space taken at once, a pool that is too small shows before anything is
	// sent. It is raw for libvirt as long as it is empty; what it becomes, it sees later.
	err = c.create(ctx, pool, volumeXML{
		Name: name, Capacity: bytesXML{"bytes", uint64(size)}, Allocation: &bytesXML{"bytes", uint64(size)},
		Target: volumeTargetXML{Format: &formatXML{"raw"}},
	})
	if err != nil {
		return err
	}
	vol, err := c.volume(ctx, p, name)
	if err == nil {
		err = c.fill(ctx, what, vol, head, size, r)
	}
	if err == nil {
		err = c.verify(ctx, what, p, name, format)
	}
	if err == nil || errors.Is(err, ErrGone) {
		return err // what is left then, the next upload replaces
	}
	if vol.Name == "" {
		vol = rpc.StorageVol{Pool: pool, Name: name}
	}
	return errors.Join(c.orFull(ctx, pool, err), c.delete(ctx, vol))
}

// makeWay is ErrExists for a volume of that name that is whole, ErrInUse for one that is
// being uploaded, and takes away one that nobody will finish.
func (c *Conn) makeWay(ctx context.Context, p rpc.StoragePool, name string) error {
	vol, err := c.volume(ctx, p, name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	c.refresh(ctx, p)
	is, err := c.describe(ctx, vol)
	if err != nil {
		return err
	}
	unfinished, err := c.unfinished(ctx, is)
	if err != nil {
		return err
	}
	if !unfinished {
		return asKind(ErrExists, "volume %s/%s exists", p.Name, name)
	}
	still := time.NewTimer(stillFor)
	defer still.Stop()
	select {
	case <-still.C:
	case <-ctx.Done():
		return fmt.Errorf("wait for volume %s/%s: %w", p.Name, name, context.Cause(ctx))
	}
	c.refresh(ctx, p)
	now, err := c.describe(ctx, vol)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if now.changed != is.changed {
		return asKind(ErrInUse, "volume %s/%s is being uploaded by somebody else: wait for that", p.Name, name)
	}
	c.log.Info("a volume that was never uploaded to the end is replaced", "pool", p.Name, "volume", name)
	return c.delete(ctx, vol)
}

// fill writes what comes behind the head, and then the head.
func (c *Conn) fill(ctx context.Context, what string, vol rpc.StorageVol, head []byte, size int64, r io.Reader) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	return c.apart(ctx, what, func(client *rpc.Libvirt) error {
		if rest := size - int64(len(head)); rest > 0 {
			body := &source{r, rest, fail}
			if err := client.StorageVolUpload(vol, body, uint64(len(head)), uint64(rest), 0); err != nil {
				return err
			}
		}
		if n, _ := r.Read(make([]byte, 1)); n > 0 {
			return fmt.Errorf("the image is longer than the %d bytes that it should have", size)
		}
		return client.StorageVolUpload(vol, bytes.NewReader(head), 0, uint64(len(head)), 0)
	})
}

// verify is an error if libvirt takes the volume for something else than its uploader.
func (c *Conn) verify(ctx context.Context, what string, p rpc.StoragePool, name, format string) error {
	c.refresh(ctx, p)
	vol, err := c.volume(ctx, p, name)
	if err != nil {
		return err
	}
	is, err := c.describe(ctx, vol)
	if err != nil {
		return err
	}
	if is.Format != format {
		return fmt.Errorf("%s: libvirt takes it for %s, not for %s", what, is.Format, format)
	}
	return nil
}

// unfinished reports whether v was begun by Upload and not finished.
func (c *Conn) unfinished(ctx context.Context, v Volume) (bool, error) {
	if v.Format != "raw" {
		return false, nil // it has been recognised by its head
	}
	p, err := c.pool(ctx, v.Pool)
	if err != nil {
		return false, err
	}
	vol, err := c.volume(ctx, p, v.Name)
	if err != nil {
		return false, err
	}
	var head bytes.Buffer
	err = c.apart(ctx, "look into volume "+v.Pool+"/"+v.Name, func(client *rpc.Libvirt) error {
		return client.StorageVolDownload(vol, &head, 0, min(headSize, v.Capacity), 0)
	})
	if err != nil {
		return false, err
	}
	return isZero(head.Bytes()), nil
}

func isZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// source is a reader of left bytes, no more and no fewer. When it can't have them it ends
// what reads from it: the client would wait for libvirtd's opinion of that.
type source struct {
	io.Reader
	left int64
	fail context.CancelCauseFunc
}

func (s *source) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.Reader.Read(p[:min(int64(len(p)), s.left, chunkSize)])
	s.left -= int64(n)
	if err != nil && s.left > 0 {
		err = asKind(errSource, "read the image: %w", tooShort(err))
		s.fail(err)
		return n, err
	}
	return n, nil
}

// tooShort says what the end of an image means that should be longer.
func tooShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("it is shorter than it should be: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// checkHead refuses an image that is not of the format, that refers to other files, or
// whose upload could not be told from one that was cut off.
func checkHead(format string, head []byte) error {
	isQCOW2 := bytes.HasPrefix(head, []byte("QFI\xfb"))
	switch {
	case format != "qcow2" && format != "raw":
		return fmt.Errorf("format %q: want qcow2 or raw", format)
	case isZero(head):
		return fmt.Errorf("the image begins with %d zeros: it is empty or damaged", len(head))
	case format == "raw" && isQCOW2:
		return errors.New("the image is of format qcow2, not raw")
	case format == "raw":
		return nil
	case !isQCOW2:
		return errors.New("the image is not of format qcow2: convert it (qemu-img convert -O qcow2), or is it compressed?")
	}
	return checkQCOW2(head)
}

// checkQCOW2 reads the header of a qcow2 image, which is described in QEMU's
// docs/interop/qcow2.txt.
func checkQCOW2(head []byte) error {
	const (
		versionAt, backingAt, incompatibleAt = 4, 8, 72
		externalData                         = 1 << 2
	)
	if len(head) < incompatibleAt {
		return errors.New("the image ends within its header")
	}
	version := binary.BigEndian.Uint32(head[versionAt:])
	switch {
	case version != 2 && version != 3:
		return fmt.Errorf("the image is of version %d of format qcow2: want 2 or 3", version)
	case binary.BigEndian.Uint64(head[backingAt:]) != 0:
		return errors.New("the image is a copy on write of another file: make it whole (qemu-img convert)")
	case version == 2:
		return nil
	case len(head) < incompatibleAt+8:
		return errors.New("the image ends within its header")
	case binary.BigEndian.Uint64(head[incompatibleAt:])&externalData != 0:
		return errors.New("the image keeps its data in another file: make it whole (qemu-img convert)")
	}
	return nil
}
