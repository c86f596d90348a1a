package libvirt

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	rpc "github.com/digitalocean/go-libvirt"
)

// DefaultPool is the storage pool that fleet's volumes are in.
const DefaultPool = "harmony-fleet"

// PoolName is DefaultPool or what HARMONY_FLEET_POOL_NAME says.
func PoolName() string {
	if name := os.Getenv("HARMONY_FLEET_POOL_NAME"); name != "" {
		return name
	}
	return DefaultPool
}

// PoolStatus is a storage pool: a directory on the host.
type PoolStatus struct {
	Name, Path string
	// Capacity and Available are of the file system that the directory is on, which others
	// may write to as well.
	Capacity, Available uint64
}

type poolXML struct {
	XMLName xml.Name `xml:"pool"`
	Type    string   `xml:"type,attr"`
	Name    string   `xml:"name"`
	Path    string   `xml:"target>path"`
}

// EnsurePool makes the pool, and its directory, or starts it where it is there already. A
// pool of that name with another directory is an error, and stays.
func (c *Conn) EnsurePool(ctx context.Context, name, dir string) error {
	if err := checkName("storage pool", name); err != nil {
		return err
	}
	if !path.IsAbs(dir) || path.Clean(dir) != dir || strings.ContainsAny(dir, "\n\x00") {
		return fmt.Errorf("storage pool %s: directory %q is not an absolute path", name, dir)
	}
	pool, err := c.pool(ctx, name)
	made := false
	switch {
	case errors.Is(err, ErrNotFound):
		if pool, err = c.definePool(ctx, name, dir); err != nil {
			return err
		}
		made = true
	case err != nil:
		return err
	default:
		is, err := c.poolXML(ctx, pool)
		if err != nil {
			return err
		}
		if is.Type != "dir" || is.Path != dir {
			return fmt.Errorf("storage pool %s is a %s at %s, not a directory at %s: choose another name (HARMONY_FLEET_POOL_NAME) or that directory",
				name, is.Type, is.Path, dir)
		}
	}
	if err := c.startPool(ctx, pool); err != nil {
		if made {
			err = errors.Join(err, c.cleanUp(ctx, "forget storage pool "+name, func() error {
				return c.rpc.StoragePoolUndefine(pool)
			}))
		}
		return err
	}
	return nil
}

func (c *Conn) definePool(ctx context.Context, name, dir string) (rpc.StoragePool, error) {
	text, err := xml.Marshal(poolXML{Type: "dir", Name: name, Path: dir})
	if err != nil {
		return rpc.StoragePool{}, fmt.Errorf("write storage pool %s: %w", name, err)
	}
	return call(ctx, c, "define storage pool "+name, func() (rpc.StoragePool, error) {
		return c.rpc.StoragePoolDefineXML(string(text), 0)
	})
}

// startPool makes the pool's directory, and has libvirt start it now and at each of its own
// starts.
func (c *Conn) startPool(ctx context.Context, pool rpc.StoragePool) error {
	return do(ctx, c, "start storage pool "+pool.Name, func() error {
		active, err := c.rpc.StoragePoolIsActive(pool)
		if err != nil {
			return err
		}
		if active == 0 {
			if err := c.rpc.StoragePoolBuild(pool, rpc.StoragePoolBuildNew); err != nil {
				return err
			}
			if err := c.rpc.StoragePoolCreate(pool, 0); err != nil {
				return err
			}
		}
		on, err := c.rpc.StoragePoolGetAutostart(pool)
		if err != nil || on == 1 {
			return err
		}
		return c.rpc.StoragePoolSetAutostart(pool, 1)
	})
}

// Pool is the pool of that name, as it is now.
func (c *Conn) Pool(ctx context.Context, name string) (PoolStatus, error) {
	pool, err := c.pool(ctx, name)
	if err != nil {
		return PoolStatus{}, err
	}
	is, err := c.poolXML(ctx, pool)
	if err != nil {
		return PoolStatus{}, err
	}
	c.refresh(ctx, pool)
	return call(ctx, c, "look at storage pool "+name, func() (PoolStatus, error) {
		_, capacity, _, available, err := c.rpc.StoragePoolGetInfo(pool)
		return PoolStatus{Name: name, Path: is.Path, Capacity: capacity, Available: available}, err
	})
}

func (c *Conn) pool(ctx context.Context, name string) (rpc.StoragePool, error) {
	pool, err := call(ctx, c, "look for storage pool "+name, func() (rpc.StoragePool, error) {
		return c.rpc.StoragePoolLookupByName(name)
	})
	if errors.Is(err, ErrNotFound) {
		return pool, asKind(ErrNotFound, "there is no storage pool %s: kubectl fleet host setup makes one, HARMONY_FLEET_POOL_NAME names another: %w", name, err)
	}
	return pool, err
}

func (c *Conn) poolXML(ctx context.Context, pool rpc.StoragePool) (poolXML, error) {
	var is poolXML
	text, err := call(ctx, c, "look at storage pool "+pool.Name, func() (string, error) {
		return c.rpc.StoragePoolGetXMLDesc(pool, 0)
	})
	if err != nil {
		return is, err
	}
	if err := xml.Unmarshal([]byte(text), &is); err != nil {
		return is, fmt.Errorf("read storage pool %s: %w", pool.Name, err)
	}
	return is, nil
}

// refresh has libvirt look at the pool's directory and file system anew. It can't while a
// volume of the pool is being made, and then what it knows is about right.
func (c *Conn) refresh(ctx context.Context, pool rpc.StoragePool) {
	err := do(ctx, c, "refresh storage pool "+pool.Name, func() error { return c.rpc.StoragePoolRefresh(pool, 0) })
	if err != nil {
		c.log.Debug("a storage pool can't be looked at anew", "pool", pool.Name, "error", err)
	}
}

// cleanUp takes back what was begun, also when ctx is what ended it. What is gone already
// needs no taking back.
func (c *Conn) cleanUp(ctx context.Context, what string, f func() error) error {
	err := do(context.WithoutCancel(ctx), c, what, f)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
