package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/env"
)

// bareServer is a NATS server with nothing of fleet's but its streams, in a process of its own
// as in a fleet.
func bareServer(ctx context.Context, bin, dir string) (*env.Process, string, error) {
	assets, err := exec.CommandContext(ctx, filepath.Join(bin, "controlplane"), "assets").Output()
	if err != nil {
		return nil, "", fmt.Errorf("where is nats-server: %w", err)
	}
	addr, err := env.FreeAddr()
	if err != nil {
		return nil, "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", err
	}
	config := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, "listen: %q\ndisable_sublist_cache: true\njetstream {store_dir: %q}\n", addr, dir), 0o600); err != nil {
		return nil, "", err
	}
	s := &env.Process{Name: "the bare NATS server", Path: filepath.Join(strings.TrimSpace(string(assets)), "nats-server"), Args: []string{"-c", config}, Log: filepath.Join(dir, "nats.log")}
	return s, "nats://" + addr, s.Start()
}

// raw is what the machine does at best.
type raw struct {
	// publish is how many keys a second are stored and republished, received how long it
	// takes until all connected devices have one of theirs.
	publish  float64
	received time.Duration
}

// measureRaw writes a value of that many bytes for each device to the stream of desired
// state, with so many devices subscribed to their own as an agent is and doing nothing else.
func measureRaw(ctx context.Context, bin, dir string, devices, connected, size int, progress func(string, ...any)) (raw, error) {
	dir = filepath.Join(dir, "raw")
	s, url, err := bareServer(ctx, bin, dir)
	if err != nil {
		return raw{}, err
	}
	defer os.RemoveAll(dir)
	defer s.Kill()
	connect := func() (*nats.Conn, error) { return nats.Connect(url, nats.Timeout(30*time.Second)) }
	var nc *nats.Conn
	if err := env.Until(ctx, 10*time.Second, "the bare NATS server", func(context.Context) (err error) {
		nc, err = connect()
		return err
	}); err != nil {
		return raw{}, err
	}
	defer nc.Close()
	js, err := bus.JetStream(nc)
	if err != nil {
		return raw{}, err
	}
	if err := bus.EnsureStreams(ctx, js, bus.StreamOptions{}); err != nil {
		return raw{}, err
	}
	value := make([]byte, size)
	write := func() error {
		w := bus.NewWriter(js)
		for n := range devices {
			if err := w.Put(ctx, contracts.DeviceID(fmt.Sprintf("load-%06d", n)), "load-1", value); err != nil {
				return err
			}
		}
		return w.Flush(ctx)
	}
	// Without anybody who listens, several times: small fleets are written in no time.
	var out raw
	begun, written := time.Now(), 0
	for written == 0 || written < 20_000 && time.Since(begun) < 5*time.Second {
		if err := write(); err != nil {
			return raw{}, err
		}
		written += devices
	}
	out.publish = float64(written) / time.Since(begun).Seconds()

	received := newCount(connected)
	conns := make([]*nats.Conn, connected)
	defer func() {
		var group errgroup.Group
		group.SetLimit(256)
		for _, c := range conns {
			if c != nil {
				group.Go(func() error { c.Close(); return nil })
			}
		}
		_ = group.Wait() // closing has no error
	}()
	group, _ := errgroup.WithContext(ctx)
	group.SetLimit(64)
	for n := range conns {
		group.Go(func() error {
			c, err := connect()
			if err != nil {
				return err
			}
			conns[n] = c
			if _, err := c.Subscribe(contracts.DesiredStateSubject(contracts.DeviceID(fmt.Sprintf("load-%06d", n)), "*"), func(*nats.Msg) { received.add() }); err != nil {
				return err
			}
			return c.Flush()
		})
	}
	if err := group.Wait(); err != nil {
		return raw{}, fmt.Errorf("connect %d bare clients: %w", connected, err)
	}
	begun = time.Now()
	if err := write(); err != nil {
		return raw{}, err
	}
	if err := received.await(ctx, 2*time.Minute, "bare clients have received a value"); err != nil {
		return raw{}, err
	}
	out.received = time.Since(begun)
	progress("  raw: %.0f keys/s stored and republished, %d bare clients have theirs after %s", out.publish, connected, out.received.Round(time.Millisecond))
	return out, nil
}
