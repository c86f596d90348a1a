package libvirt

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"

	rpc "github.com/digitalocean/go-libvirt"
)

// Volume is a file in a storage pool.
type Volume struct {
	Pool, Name, Path string
	// Format is qcow2 or raw, which is also what an ISO image is; or what else libvirt
	// recognised.
	Format string
	// Backing is the path of the file that this one is a copy on write of.
	Backing string
	// Capacity is what a machine sees, Allocation what the host has given for it.
	Capacity, Allocation uint64

	changed string // when it was last written to
}

// https://libvirt.org/formatstorage.html
type volumeXML struct {
	XMLName    xml.Name         `xml:"volume"`
	Name       string           `xml:"name"`
	Capacity   bytesXML         `xml:"capacity"`
	Allocation *bytesXML        `xml:"allocation"`
	Target     volumeTargetXML  `xml:"target"`
	Backing    *volumeTargetXML `xml:"backingStore"`
}

type bytesXML struct {
	Unit  string `xml:"unit,attr,omitempty"`
	Value uint64 `xml:",chardata"`
}

type volumeTargetXML struct {
	Path       string         `xml:"path,omitempty"`
	Format     *formatXML     `xml:"format"`
	Timestamps *timestampsXML `xml:"timestamps"`
}

type formatXML struct {
	Type string `xml:"type,attr"`
}

type timestampsXML struct {
	MTime string `xml:"mtime"`
}

// Volume is the one of that name. It is found also when it came into the pool's directory
// behind libvirt's back.
func (c *Conn) Volume(ctx context.Context, pool, name string) (Volume, error) {
	p, err := c.pool(ctx, pool)
	if err != nil {
		return Volume{}, err
	}
	vol, err := c.volume(ctx, p, name)
	if err != nil {
		return Volume{}, err
	}
	return c.describe(ctx, vol)
}

// Volumes are all of the pool.
func (c *Conn) Volumes(ctx context.Context, pool string) ([]Volume, error) {
	p, err := c.pool(ctx, pool)
	if err != nil {
		return nil, err
	}
	c.refresh(ctx, p)
	found, err := call(ctx, c, "list the volumes of storage pool "+pool, func() ([]rpc.StorageVol, error) {
		all, _, err := c.rpc.StoragePoolListAllVolumes(p, 1, 0)
		return all, err
	})
	if err != nil {
		return nil, err
	}
	all := make([]Volume, 0, len(found))
	for _, vol := range found {
		v, err := c.describe(ctx, vol)
		if errors.Is(err, ErrNotFound) {
			continue // deleted since
		}
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func (c *Conn) volume(ctx context.Context, p rpc.StoragePool, name string) (rpc.StorageVol, error) {
	look := func() (rpc.StorageVol, error) { return c.rpc.StorageVolLookupByName(p, name) }
	what := "look for volume " + p.Name + "/" + name
	vol, err := call(ctx, c, what, look)
	if errors.Is(err, ErrNotFound) {
		c.refresh(ctx, p)
		vol, err = call(ctx, c, what, look)
	}
	return vol, err
}

func (c *Conn) describe(ctx context.Context, vol rpc.StorageVol) (Volume, error) {
	text, err := call(ctx, c, "look at volume "+vol.Pool+"/"+vol.Name, func() (string, error) {
		return c.rpc.StorageVolGetXMLDesc(vol, 0)
	})
	if err != nil {
		return Volume{}, err
	}
	return parseVolume(vol.Pool, []byte(text))
}

func parseVolume(pool string, text []byte) (Volume, error) {
	var is volumeXML
	if err := xml.Unmarshal(text, &is); err != nil {
		return Volume{}, fmt.Errorf("read a volume of storage pool %s: %w", pool, err)
	}
	v := Volume{Pool: pool, Name: is.Name, Path: is.Target.Path, Capacity: is.Capacity.Value}
	if is.Allocation != nil {
		v.Allocation = is.Allocation.Value
	}
	if is.Target.Format != nil {
		v.Format = is.Target.Format.Type
	}
	if v.Format == "iso" {
		v.Format = "raw"
	}
	if is.Backing != nil {
		v.Backing = is.Backing.Path
	}
	if is.Target.Timestamps != nil {
		v.changed = is.Target.Timestamps.MTime
	}
	return v, nil
}

// DeleteVolume deletes the volume, unless another one of the pool is a copy on write of
// it: ErrInUse.
func (c *Conn) DeleteVolume(ctx context.Context, pool, name string) error {
	p, err := c.pool(ctx, pool)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	vol, err := c.volume(ctx, p, name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	all, err := c.Volumes(ctx, pool)
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.Backing == vol.Key {
			return asKind(ErrInUse, "delete volume %s/%s: volume %s is a copy on write of it: delete that first", pool, name, other.Name)
		}
	}
	return c.delete(ctx, vol)
}

func (c *Conn) delete(ctx context.Context, vol rpc.StorageVol) error {
	return c.cleanUp(ctx, "delete volume "+vol.Pool+"/"+vol.Name, func() error {
		return c.rpc.StorageVolDelete(vol, rpc.StorageVolDeleteNormal)
	})
}

// ResizeVolume makes the volume larger. The machine that it belongs to has to be shut off.
func (c *Conn) ResizeVolume(ctx context.Context, pool, name string, bytes uint64) error {
	p, err := c.pool(ctx, pool)
	if err != nil {
		return err
	}
	vol, err := c.volume(ctx, p, name)
	if err != nil {
		return err
	}
	is, err := c.describe(ctx, vol)
	if err != nil {
		return err
	}
	switch {
	case bytes == is.Capacity:
		return nil
	case bytes < is.Capacity:
		return fmt.Errorf("volume %s/%s: it has %d bytes and can't be made smaller, %d", pool, name, is.Capacity, bytes)
	}
	return do(ctx, c, "resize volume "+pool+"/"+name, func() error {
		return c.rpc.StorageVolResize(vol, bytes, 0)
	})
}
