package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
)

// maxConnections is above every fleet; a server's usual limit is 65,536.
const maxConnections = 1 << 20

// bareServer is a NATS server with nothing of fleet's but its streams.
func bareServer(dir string) (*server.Server, error) {
	s, err := server.NewServer(&server.Options{DontListen: true, NoSublistCache: true, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true, MaxConn: maxConnections})
	if err != nil {
		return nil, err
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		return nil, errors.New("the bare NATS server is not ready after 10 s")
	}
	return s, nil
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
func measureRaw(ctx context.Context, dir string, devices, connected, size int, progress func(string, ...any)) (raw, error) {
	s, err := bareServer(filepath.Join(dir, "raw"))
	if err != nil {
		return raw{}, err
	}
	defer os.RemoveAll(filepath.Join(dir, "raw"))
	defer s.WaitForShutdown()
	defer s.Shutdown()
	var in inProcess
	in.Store(s)
	connect := func() (*nats.Conn, error) {
		return nats.Connect("", nats.InProcessServer(&in), nats.Timeout(30*time.Second))
	}
	nc, err := connect()
	if err != nil {
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
