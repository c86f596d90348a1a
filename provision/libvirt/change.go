package libvirt

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"time"

	rpc "github.com/digitalocean/go-libvirt"
)

// shutdownAgain is how long a machine has to react before it is asked again to shut down:
// one that still boots doesn't hear it.
const shutdownAgain = 5 * time.Second

// Start boots the machine; one that is paused goes on.
func (c *Conn) Start(ctx context.Context, name string) error {
	d, s, err := c.ours(ctx, name)
	if err != nil {
		return err
	}
	if s.State == StatePaused {
		return c.resume(ctx, d)
	}
	if s.Active() {
		return nil
	}
	err = do(ctx, c, "start machine "+name, func() error { return c.rpc.DomainCreate(d) })
	if saidCode(err, rpc.ErrOperationInvalid) {
		// Somebody else was faster.
		if now, lookErr := c.Machine(ctx, name); lookErr == nil && now.State == StateRunning {
			return nil
		}
	}
	return err
}

// Resume lets a paused machine go on.
func (c *Conn) Resume(ctx context.Context, name string) error {
	d, s, err := c.ours(ctx, name)
	if err != nil {
		return err
	}
	switch {
	case s.State == StateRunning:
		return nil
	case !s.Active():
		return fmt.Errorf("resume machine %s: it is %s: start it", name, s.State)
	}
	return c.resume(ctx, d)
}

func (c *Conn) resume(ctx context.Context, d rpc.Domain) error {
	return do(ctx, c, "resume machine "+d.Name, func() error { return c.rpc.DomainResume(d) })
}

// Destroy ends the machine as a power cut does.
func (c *Conn) Destroy(ctx context.Context, name string) error {
	d, s, err := c.ours(ctx, name)
	if err != nil {
		return err
	}
	if !s.Active() {
		return nil
	}
	return c.destroy(ctx, d)
}

func (c *Conn) destroy(ctx context.Context, d rpc.Domain) error {
	err := do(ctx, c, "destroy machine "+d.Name, func() error { return c.rpc.DomainDestroyFlags(d, 0) })
	// It has ended by itself meanwhile, and with it a definition that it perhaps had not.
	if saidCode(err, rpc.ErrOperationInvalid) || errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// Shutdown asks the machine to shut down, by its guest agent if that answers and else by
// its power button, and waits until it has. After grace it is destroyed. A paused one can't
// hear and is destroyed at once.
func (c *Conn) Shutdown(ctx context.Context, name string, grace time.Duration) error {
	d, _, err := c.ours(ctx, name)
	if err != nil {
		return err
	}
	// Listen first and look then: what happens between the two is seen.
	listening, stop := context.WithCancel(ctx)
	defer stop()
	events, err := c.Subscribe(listening)
	if err != nil {
		return err
	}
	s, err := c.status(ctx, d)
	if errors.Is(err, ErrNotFound) || (err == nil && !s.Active()) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.State == StatePaused {
		return c.destroy(ctx, d)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- events.Run(func(e Event) {
			if e.Machine == name && e.Kind == EventStopped {
				stop()
			}
		})
	}()
	over := time.NewTimer(grace)
	defer over.Stop()
	again := time.NewTicker(shutdownAgain)
	defer again.Stop()
	for {
		err := do(ctx, c, "shut down machine "+name, func() error {
			return c.rpc.DomainShutdownFlags(d, rpc.DomainShutdownDefault)
		})
		if errors.Is(err, ErrGone) || ctx.Err() != nil {
			return err
		}
		if err != nil && !saidCode(err, rpc.ErrOperationInvalid) && !errors.Is(err, ErrNotFound) {
			c.log.Debug("a machine can't be asked to shut down", "machine", name, "error", err)
		}
		select {
		case err := <-ended:
			if ctx.Err() == nil && !errors.Is(err, ErrGone) {
				return nil // the event came
			}
			if err == nil {
				err = fmt.Errorf("shut down machine %s: %w", name, context.Cause(ctx))
			}
			return err
		case <-over.C:
			return c.destroy(ctx, d)
		case <-again.C:
		}
	}
}

// SetAutostart says whether libvirtd starts the machine when it starts itself.
func (c *Conn) SetAutostart(ctx context.Context, name string, on bool) error {
	d, s, err := c.ours(ctx, name)
	if err != nil || s.Autostart == on {
		return err
	}
	value := int32(0)
	if on {
		value = 1
	}
	return do(ctx, c, "set autostart of machine "+name, func() error {
		return c.rpc.DomainSetAutostart(d, value)
	})
}

// SetMemory changes the memory of the machine, and of one that runs by its balloon: the
// guest gives memory back or takes it, as far as its system has a driver for that. More than
// MaxMemoryBytes is ErrNeedsRestart.
func (c *Conn) SetMemory(ctx context.Context, name string, bytes int64) error {
	d, s, err := c.ours(ctx, name)
	if err != nil {
		return err
	}
	if bytes < 1<<20 {
		return fmt.Errorf("machine %s: %d bytes of memory: at least 1 MiB is needed", name, bytes)
	}
	if bytes > s.MaxMemoryBytes {
		return asKind(ErrNeedsRestart, "machine %s: %d bytes of memory are more than its maximum, %d, which only a restart changes",
			name, bytes, s.MaxMemoryBytes)
	}
	return c.change(ctx, "set the memory of machine "+name, s, func(flags uint32) error {
		return c.rpc.DomainSetMemoryFlags(d, kib(bytes), flags)
	})
}

// SetCPUs changes the number of CPUs, of a running machine by plugging them in. More than
// MaxCPUs is ErrNeedsRestart, and so is fewer of a machine that runs: it was started with
// them and can't give them up.
func (c *Conn) SetCPUs(ctx context.Context, name string, n int) error {
	d, s, err := c.ours(ctx, name)
	if err != nil {
		return err
	}
	switch {
	case n < 1:
		return fmt.Errorf("machine %s: %d CPUs: at least one is needed", name, n)
	case n > s.MaxCPUs:
		return asKind(ErrNeedsRestart, "machine %s: %d CPUs are more than its maximum, %d, which only a restart changes",
			name, n, s.MaxCPUs)
	case s.Active() && n < s.CPUs:
		return asKind(ErrNeedsRestart, "machine %s: it runs with %d CPUs and can't give up any: only a restart makes it %d",
			name, s.CPUs, n)
	}
	return c.change(ctx, "set the CPUs of machine "+name, s, func(flags uint32) error {
		return c.rpc.DomainSetVcpusFlags(d, uint32(n), flags)
	})
}

// change changes a machine's definition, and the machine as it runs.
func (c *Conn) change(ctx context.Context, what string, s MachineStatus, f func(flags uint32) error) error {
	flags := uint32(rpc.DomainAffectConfig)
	if s.Active() {
		flags = uint32(rpc.DomainAffectLive)
		if s.Persistent {
			flags |= uint32(rpc.DomainAffectConfig)
		}
	}
	err := do(ctx, c, what, func() error { return f(flags) })
	if s.Active() && saidCode(err, rpc.ErrOperationInvalid, rpc.ErrOperationUnsupported, rpc.ErrConfigUnsupported,
		rpc.ErrArgumentUnsupported, rpc.ErrOperationFailed, rpc.ErrNoSupport) {
		return &kindOf{ErrNeedsRestart, err}
	}
	return err
}

// SetOwner writes down a new version of the machine, after it has been changed while it
// runs. It has to be the owner that it is of already.
func (c *Conn) SetOwner(ctx context.Context, name string, o Owner) error {
	d, s, err := c.ours(ctx, name)
	if err != nil {
		return err
	}
	if !s.Next.same(o) {
		return asKind(ErrNotOurs, "machine %s is %s and doesn't become %s", name, s.Next, o)
	}
	text, err := xml.Marshal(ownerXML{Owner: o})
	if err != nil {
		return fmt.Errorf("write the owner of machine %s: %w", name, err)
	}
	return c.change(ctx, "write the owner of machine "+name, s, func(flags uint32) error {
		return c.rpc.DomainSetMetadata(d, int32(rpc.DomainMetadataElement), rpc.OptString{string(text)},
			rpc.OptString{"fleet"}, rpc.OptString{ownerNamespace}, rpc.DomainModificationImpact(flags))
	})
}
