package vm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/topology"
)

// undoPatience is how long what was made may take to be taken away again, in which libvirt
// may be started anew.
const undoPatience = time.Minute

// redialEvery is how often libvirt is looked for when it is gone.
const redialEvery = 500 * time.Millisecond

// undoing is what was made, and how to take it away.
type undoing struct {
	host  *topology.KVMHost
	steps []undo
}

type undo struct {
	what string
	do   func(context.Context, *libvirt.Conn) error
}

func (u *undoing) add(what string, do func(context.Context, *libvirt.Conn) error) {
	u.steps = append(u.steps, undo{what, do})
}

func (u *undoing) volume(pool, name string) {
	u.add("volume "+name, func(ctx context.Context, c *libvirt.Conn) error { return c.DeleteVolume(ctx, pool, name) })
}

// run takes it all away, the last first. It does so too when the reason for it is that the
// context has ended, and through a restart of libvirt.
func (u *undoing) run(ctx context.Context, machine string) error {
	if len(u.steps) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoPatience)
	defer cancel()
	var left []string
	var failed []error
	for len(u.steps) > 0 {
		last := u.steps[len(u.steps)-1]
		err := u.try(ctx, last)
		if err != nil {
			failed, left = append(failed, err), append(left, last.what)
		}
		u.steps = u.steps[:len(u.steps)-1]
	}
	if len(failed) == 0 {
		return nil
	}
	return fmt.Errorf("%s could not be taken away again: %w; do so with: kubectl fleet vm delete %s", strings.Join(left, ", "), errors.Join(failed...), machine)
}

// try does one step, again and again as long as libvirt is what fails.
func (u *undoing) try(ctx context.Context, step undo) error {
	tick := time.NewTicker(redialEvery)
	defer tick.Stop()
	for {
		conn, err := u.host.Conn(ctx)
		gone := err != nil
		if err == nil {
			err = step.do(ctx, conn)
			gone = errors.Is(err, libvirt.ErrGone)
		}
		if !gone {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
