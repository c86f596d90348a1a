package libvirt

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
)

// leastSpace is what making the smallest volume takes, roughly: a pool that has less is
// full.
const leastSpace = 1 << 20

// CreateVolume makes an empty qcow2 volume, which takes space as it is written to. One
// larger than what the pool has left is ErrPoolFull: its machine would stand still one day.
func (c *Conn) CreateVolume(ctx context.Context, pool, name string, bytes uint64) error {
	if bytes == 0 {
		return fmt.Errorf("volume %s/%s: it needs a size", pool, name)
	}
	if err := c.room(ctx, pool, name, bytes); err != nil {
		return err
	}
	return c.create(ctx, pool, volumeXML{
		Name: name, Capacity: bytesXML{"bytes", bytes}, Allocation: &bytesXML{"bytes", 0},
		Target: volumeTargetXML{Format: &formatXML{"qcow2"}},
	})
}

// CreateOverlay makes a volume that is a copy on write of image, which has to stay as it
// is. It has the image's size if bytes is 0, and can't be smaller. It may be larger than
// what the pool has left: most of an image is never written to.
func (c *Conn) CreateOverlay(ctx context.Context, pool, name, image string, bytes uint64) error {
	of, err := c.Volume(ctx, pool, image)
	if errors.Is(err, ErrNotFound) {
		return asKind(ErrNotFound, "volume %s/%s: its image %s is not there: %w", pool, name, image, err)
	}
	if err != nil {
		return err
	}
	if bytes == 0 {
		bytes = of.Capacity
	}
	switch {
	case of.Format != "qcow2" && of.Format != "raw":
		return fmt.Errorf("volume %s/%s: its image %s is of format %q: convert it (qemu-img convert -O qcow2)", pool, name, image, of.Format)
	case of.Backing != "":
		return fmt.Errorf("volume %s/%s: its image %s is itself a copy on write of %s: make the image whole (qemu-img convert)", pool, name, image, of.Backing)
	case bytes < of.Capacity:
		return fmt.Errorf("volume %s/%s: %d bytes are fewer than the %d of its image %s", pool, name, bytes, of.Capacity, image)
	}
	if unfinished, err := c.unfinished(ctx, of); err != nil {
		return err
	} else if unfinished {
		return asKind(ErrNotFound, "volume %s/%s: its image %s was never uploaded to the end: upload it again", pool, name, image)
	}
	if err := c.room(ctx, pool, name, leastSpace); err != nil {
		return err
	}
	return c.create(ctx, pool, volumeXML{
		Name: name, Capacity: bytesXML{"bytes", bytes}, Allocation: &bytesXML{"bytes", 0},
		Target:  volumeTargetXML{Format: &formatXML{"qcow2"}},
		Backing: &volumeTargetXML{Path: of.Path, Format: &formatXML{of.Format}},
	})
}

// room is ErrPoolFull if the pool hasn't bytes left.
func (c *Conn) room(ctx context.Context, pool, volume string, bytes uint64) error {
	p, err := c.Pool(ctx, pool)
	if err != nil {
		return err
	}
	if bytes > p.Available {
		return asKind(ErrPoolFull, "volume %s/%s: it needs %s and the pool has %s left in %s: delete what isn't needed or take a smaller one",
			pool, volume, size(bytes), size(p.Available), p.Path)
	}
	return nil
}

// size is bytes for people.
func size(bytes uint64) string {
	for _, unit := range []struct {
		name  string
		shift uint
	}{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}} {
		if bytes >= 1<<unit.shift {
			return fmt.Sprintf("%.1f %s", float64(bytes)/float64(uint64(1)<<unit.shift), unit.name)
		}
	}
	return fmt.Sprintf("%d bytes", bytes)
}

func (c *Conn) create(ctx context.Context, pool string, v volumeXML) error {
	if err := checkName("volume", v.Name); err != nil {
		return err
	}
	p, err := c.pool(ctx, pool)
	if err != nil {
		return err
	}
	text, err := xml.Marshal(v)
	if err != nil {
		return fmt.Errorf("write volume %s/%s: %w", pool, v.Name, err)
	}
	err = do(ctx, c, "make volume "+pool+"/"+v.Name, func() error {
		_, err := c.rpc.StorageVolCreateXML(p, string(text), 0)
		return err
	})
	return c.orFull(ctx, pool, err)
}

// orFull makes err ErrPoolFull if the pool is full, in whatever language libvirtd said so.
func (c *Conn) orFull(ctx context.Context, pool string, err error) error {
	if err == nil || errors.Is(err, ErrPoolFull) || errors.Is(err, ErrExists) || errors.Is(err, ErrGone) || ctx.Err() != nil {
		return err
	}
	if p, lookErr := c.Pool(ctx, pool); lookErr == nil && p.Available < leastSpace {
		return &kindOf{ErrPoolFull, err}
	}
	return err
}
