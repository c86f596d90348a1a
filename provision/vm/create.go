package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nationtech/fleet/provision/cloudimage"
	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/score"
	"github.com/nationtech/fleet/provision/topology"
)

// Created is a machine that was made, and runs.
type Created struct {
	Name string `json:"name"`
	MAC  string `json:"mac"`
	// Emulated reports whether it runs without KVM.
	Emulated bool `json:"emulated"`
	// Why says why it does.
	Why string `json:"why,omitempty"`
}

// Create makes a machine and starts it. When it fails, or is interrupted, it leaves neither
// domain nor volume but the image, which the next machine can use.
func Create(ctx context.Context, host *topology.KVMHost, s Spec, o Options) (Created, error) {
	if err := s.Check(); err != nil {
		return Created{}, err
	}
	u := &undoing{host: host}
	c := creation{host: host, spec: s, options: o, undo: u}
	created, err := c.run(ctx)
	if err != nil {
		err = fmt.Errorf("make machine %s on %s: %w", s.Name, host.Linux().Host(), err)
		if undone := u.run(ctx, s.Name); undone != nil {
			err = errors.Join(err, undone)
		}
		return Created{}, err
	}
	return created, nil
}

type creation struct {
	host    *topology.KVMHost
	spec    Spec
	options Options
	undo    *undoing
}

func (c *creation) run(ctx context.Context) (Created, error) {
	conn, err := c.host.Conn(ctx)
	if err != nil {
		return Created{}, err
	}
	if err := free(ctx, conn, c.spec.Pool.Name, c.spec.Name); err != nil {
		return Created{}, err
	}
	facts, err := conn.Host(ctx)
	if err != nil {
		return Created{}, err
	}
	guest, err := facts.Guest(c.spec.Arch)
	if err != nil {
		return Created{}, err
	}
	machineType, err := facts.MachineType(c.spec.Arch, c.spec.Type)
	if err != nil {
		return Created{}, err
	}
	talk := c.options.Talk
	report := func(s score.Step) {
		if s.Changed {
			say(talk.Done, "%s: %s", s.Name, s.What)
		}
	}
	if err := score.All(ctx, c.host, report, c.spec.Pool.Score(), c.spec.Network.Score()); err != nil {
		return Created{}, err
	}
	if err := c.image(ctx, conn); err != nil {
		return Created{}, err
	}
	if err := c.volumes(ctx, conn); err != nil {
		return Created{}, err
	}
	how := decide(c.spec, facts, guest, c.options.Tried.Of(ctx, c.host))
	if how, err = c.start(ctx, conn, machineType, how); err != nil {
		return Created{}, err
	}
	return Created{Name: c.spec.Name, MAC: MAC(c.spec.Name).String(), Emulated: how.emulated, Why: how.why}, nil
}

// Free reports as an error that there is something by a machine's name already, for whoever
// has much to do before Create finds that out.
func Free(ctx context.Context, host *topology.KVMHost, pool, name string) error {
	conn, err := host.Conn(ctx)
	if err == nil {
		err = free(ctx, conn, pool, name)
	}
	if err != nil {
		return fmt.Errorf("make machine %s on %s: %w", name, host.Linux().Host(), err)
	}
	return nil
}

func free(ctx context.Context, conn *libvirt.Conn, pool, name string) error {
	is, err := conn.Machine(ctx, name)
	switch {
	case err == nil && isOurs(is):
		return fmt.Errorf("it is there already (%s): choose another name, or kubectl fleet vm delete %s", is.State, name)
	case err == nil:
		return fmt.Errorf("%w: a domain of that name is there already, and is somebody else's: choose another name", libvirt.ErrNotOurs)
	case !errors.Is(err, libvirt.ErrNotFound):
		return err
	}
	disk, seed, agent := volumes(name)
	for _, volume := range []string{disk, seed, agent} {
		_, err := conn.Volume(ctx, pool, volume)
		switch {
		case err == nil:
			return fmt.Errorf("volume %s is there already in pool %s, of a machine that is not there any more: kubectl fleet vm delete %s takes it away", volume, pool, name)
		case !errors.Is(err, libvirt.ErrNotFound):
			return err
		}
	}
	return nil
}

// uploadEvery is how often it is looked whether somebody else has uploaded an image.
const uploadEvery = 2 * time.Second

// image has the image in the pool. It stays there: the next machine of it starts at once.
func (c *creation) image(ctx context.Context, conn *libvirt.Conn) error {
	image, name, pool := c.spec.Image, imageVolume(c.spec.Image), c.spec.Pool.Name
	tick := time.NewTicker(uploadEvery)
	defer tick.Stop()
	for said := false; ; {
		is, err := conn.Volume(ctx, pool, name)
		switch {
		case err == nil && is.Format == image.Format && image.Format == cloudimage.QCOW2:
			return nil // it has its head, which is uploaded last
		case err != nil && !errors.Is(err, libvirt.ErrNotFound):
			return err
		}
		if err := c.upload(ctx, conn, name); !errors.Is(err, libvirt.ErrExists) {
			return err
		}
		if image.Format == cloudimage.Raw {
			return nil
		}
		// Of a name that follows from what is in it, somebody else uploads the same.
		if !said {
			said = true
			say(c.options.Talk.Doing, "image %s is being uploaded by somebody else", name)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for image %s: %w", name, ctx.Err())
		case <-tick.C:
		}
	}
}

func (c *creation) upload(ctx context.Context, conn *libvirt.Conn, name string) error {
	image := c.spec.Image
	f, err := os.Open(image.Path)
	if err != nil {
		return fmt.Errorf("read image: %w", err)
	}
	defer f.Close()
	say(c.options.Talk.Doing, "uploading image %s (%s) to pool %s", name, cloudimage.Bytes(image.Size), c.spec.Pool.Name)
	return conn.Upload(ctx, c.spec.Pool.Name, name, image.Format, image.Size, f)
}

// volumes makes the machine's own.
func (c *creation) volumes(ctx context.Context, conn *libvirt.Conn) error {
	disk, seed, agent := volumes(c.spec.Name)
	if err := c.made(disk, c.disk(ctx, conn)); err != nil {
		return err
	}
	for name, data := range map[string][]byte{seed: c.spec.Seed, agent: c.spec.Agent} {
		if data == nil {
			continue
		}
		err := conn.Upload(ctx, c.spec.Pool.Name, name, cloudimage.Raw, int64(len(data)), bytes.NewReader(data))
		if err := c.made(name, err); err != nil {
			return err
		}
	}
	return nil
}

// made has a volume taken away when something fails later, or has failed in the middle of
// making it. One that was there is another's, who was faster by a moment.
func (c *creation) made(volume string, err error) error {
	if !errors.Is(err, libvirt.ErrExists) {
		c.undo.volume(c.spec.Pool.Name, volume)
	}
	return err
}

func (c *creation) disk(ctx context.Context, conn *libvirt.Conn) error {
	disk, _, _ := volumes(c.spec.Name)
	return conn.CreateOverlay(ctx, c.spec.Pool.Name, disk, imageVolume(c.spec.Image), c.spec.DiskBytes)
}

// start starts the machine the way that was decided. Where KVM is on trial and there is no
// life, it is started anew without.
func (c *creation) start(ctx context.Context, conn *libvirt.Conn, machineType string, h how) (how, error) {
	talk, name := c.options.Talk, c.spec.Name
	c.undo.add("domain "+name, func(ctx context.Context, conn *libvirt.Conn) error { return remove(ctx, conn, name) })
	boot := func(emulated bool) error {
		if err := conn.Define(ctx, c.spec.machine(machineType, emulated)); err != nil {
			return err
		}
		return conn.Start(ctx, name)
	}
	if !h.trial {
		if h.emulated {
			say(talk.Warn, "the machine is emulated, which is many times slower: %s", h.why)
		}
		return h, boot(h.emulated)
	}
	say(talk.Doing, "trying KVM")
	started := boot(false)
	if ctx.Err() != nil || errors.Is(started, libvirt.ErrGone) || errors.Is(started, libvirt.ErrNotOurs) {
		return h, started
	}
	if started == nil {
		works, err := lives(ctx, conn, name)
		if err != nil {
			return h, err
		}
		if err := ctx.Err(); err != nil {
			return h, err
		}
		if works {
			c.remember(ctx, true)
			return how{}, nil
		}
	}
	// Whatever it has got to, its disk begins anew.
	if err := c.again(ctx, conn); err != nil {
		return h, err
	}
	h = how{emulated: true, why: fmt.Sprintf("under KVM there was no sign of life for %s, so the host's /dev/kvm is of no use", patience)}
	if started != nil {
		h.why = fmt.Sprintf("it does not start with KVM: %v", started)
	}
	say(talk.Warn, "the machine is emulated, which is many times slower: %s", h.why)
	if err := boot(true); err != nil {
		return h, err
	}
	c.remember(ctx, false)
	return h, nil
}

func (c *creation) again(ctx context.Context, conn *libvirt.Conn) error {
	disk, _, _ := volumes(c.spec.Name)
	// There is none when libvirt would not even define it.
	if err := remove(ctx, conn, c.spec.Name); err != nil {
		return err
	}
	if err := conn.DeleteVolume(ctx, c.spec.Pool.Name, disk); err != nil {
		return err
	}
	return c.disk(ctx, conn)
}

func (c *creation) remember(ctx context.Context, works bool) {
	if err := c.options.Tried.remember(ctx, c.host, works); err != nil {
		say(c.options.Talk.Warn, "whether KVM works will be tried again next time: %v", err)
	}
}
