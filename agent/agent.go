// Package agent runs a device: it carries out what the device was told, first from
// disk and then from the bus, and says how that goes.
package agent

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/nationtech/fleet/agent/config"
	"github.com/nationtech/fleet/agent/driver/kvm"
	"github.com/nationtech/fleet/agent/driver/podman"
	"github.com/nationtech/fleet/agent/facts"
	"github.com/nationtech/fleet/agent/identity"
	"github.com/nationtech/fleet/agent/store"
	"github.com/nationtech/fleet/agent/trust"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/internal/version"
)

// Run runs the agent until the context ends. Containers and machines go on running then. An
// error is one of configuration or disk; whatever is away comes back.
func Run(ctx context.Context, c config.Config, log *slog.Logger) error {
	disk, err := store.Open(c.StateDir, log)
	if err != nil {
		return err
	}
	defer func() {
		if err := disk.Close(); err != nil {
			log.Error("close the state directory", "error", err)
		}
	}()
	if c.Trust.Operator == "" {
		return trust.ErrNotJoined
	}
	publicKey, err := identity.Ensure(c.NATS.SeedFile)
	if err != nil {
		return err
	}
	curve, err := identity.EnsureCurve(c.NATS.SeedFile)
	if err != nil {
		return err
	}
	vouched, err := identity.Vouch(c.NATS.SeedFile, c.Device, curve)
	if err != nil {
		return err
	}
	open := func(s *contracts.Sealed) (map[string][]byte, error) { return s.Open(curve) }
	pods, err := podman.New(podman.Options{
		Device: c.Device, Socket: c.Podman.Socket, Network: c.Podman.Network,
		VolumeDir: filepath.Join(c.StateDir, "volumes"), Unsettled: filepath.Join(c.StateDir, "unsettled.json"), BootID: facts.BootID(),
		Logger: log, Open: open,
	})
	if err != nil {
		return err
	}
	log.Info("starting", "version", version.Version, "device", c.Device, "publicKey", publicKey)

	shutOut := &refusal{config: c, log: log, happened: make(chan struct{}, 1)}
	options := c.Trust.Options()
	options.URL, options.SeedFile, options.Device, options.Logger = c.NATS.URL, c.NATS.SeedFile, c.Device, log
	options.Name, options.OnRefused = "fleet-agent "+string(c.Device), shutOut.tell
	authorities := &authorities{config: c, log: log}
	if c.NATS.CAFile != "" {
		options.Authorities = bus.AuthoritiesOf(c.NATS.CAFile)
	} else if options.Authorities != nil {
		options.Authorities = authorities.now
	}
	nc, err := bus.Connect(options)
	if err != nil {
		return err
	}
	defer nc.Close()
	d := &Device{
		Config: c, Conn: nc, Podman: pods, Memory: disk, PublicKey: publicKey, Curve: vouched, Log: log, WhyRefused: shutOut.why,
		Facts: func() contracts.DeviceInfo { return facts.Gather(c.StateDir) },
		OnHandover: func(h contracts.Handover) error {
			return trust.Update(c.StateDir, func(t *trust.Trust) { t.Operator, t.HandedOver = h.To, h.Issued })
		},
	}
	if k := c.KVM; k != nil {
		machines := kvm.New(kvm.Options{Device: c.Device, URI: k.URI, Pool: k.Pool, Emulate: k.Emulate, Open: open, Logger: log})
		defer func() {
			if err := machines.Close(); err != nil {
				log.Debug("the connection to libvirt was not closed well", "error", err)
			}
		}()
		d.KVM = machines
	}
	ctx, cancel := context.WithCancel(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	parts.Go(func() { shutOut.resolve(ctx, nc) })
	parts.Go(func() { authorities.follow(ctx) })
	return d.Run(ctx)
}
