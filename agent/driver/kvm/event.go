package kvm

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/nationtech/fleet/provision/libvirt"
)

// How long to wait before libvirt is asked for events again.
const (
	firstPause = 100 * time.Millisecond
	longPause  = 2 * time.Second
)

// Watch calls handle when something has happened to a machine that may be this device's,
// when libvirt is gone, and each time it has connected anew, since something may have
// happened meanwhile. It returns when the context ends.
func (d *Driver) Watch(ctx context.Context, handle func()) {
	pause, warned := firstPause, false
	for ctx.Err() == nil {
		begun := time.Now()
		err := d.watch(ctx, handle)
		level := slog.LevelDebug
		switch {
		case time.Since(begun) > longPause:
			pause, warned = firstPause, false
		case !warned && ctx.Err() == nil:
			level, warned = slog.LevelWarn, true
		}
		d.o.Logger.Log(ctx, level, "libvirt's events ended; they are asked for again, and missed meanwhile", "error", err)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, longPause)
	}
}

func (d *Driver) watch(ctx context.Context, handle func()) error {
	conn, _, err := d.connect(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := conn.Subscribe(ctx)
	if err != nil {
		return err
	}
	handle()
	err = events.Run(func(e libvirt.Event) {
		// Whose it is only its owner says, but none of ours has another name.
		if strings.HasPrefix(e.Machine, "fleet_") {
			handle()
		}
	})
	if ctx.Err() == nil {
		handle() // which sees that libvirt is gone
	}
	return err
}
