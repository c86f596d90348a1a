// Package config reads the agent's settings. It is strict: what is not understood
// is an error that names line and field, because an ignored setting on a device
// out in the field is found too late.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/nationtech/fleet/agent/policy"
	"github.com/nationtech/fleet/agent/trust"
	"github.com/nationtech/fleet/contracts"
)

// DefaultPath is read when PathVariable is not set.
const DefaultPath = "/etc/fleet-agent/config.yaml"

// PathVariable is the environment variable that names the configuration file.
const PathVariable = "FLEET_AGENT_CONFIG"

// Config is every setting of the agent.
type Config struct {
	// Device is this device's ID. Default: what it joined as, or the host name up to its
	// first dot.
	Device contracts.DeviceID
	NATS   NATS
	// StateDir holds all that the agent keeps on disk.
	StateDir string
	// HeartbeatInterval is the time between two heartbeats, 1 s to 10 min.
	HeartbeatInterval time.Duration
	// HostIP is the address that ports without one of their own are bound to;
	// empty is every address.
	HostIP string
	Podman Podman
	// KVM is nil for a device that runs no machines.
	KVM *KVM
	// Commands are those that the device carries out; the others it refuses.
	Commands Commands
	Log      Log
	// Trust is not a setting: it is what the device trusts since it joined; empty before.
	Trust trust.Trust
}

// Commands tells of each command whether it is allowed.
type Commands struct {
	Ping, Logs, Exec, Restart bool
}

// NATS is how the agent reaches the fleet.
type NATS struct {
	// URL of the server, or several separated by commas. Default: the one that it joined.
	URL string
	// CAFile holds the certificates that sign the server's; empty for the system's.
	CAFile string
	// SeedFile holds the device's private key. Default: identity.nk in StateDir.
	SeedFile string
}

// Podman is how the agent reaches podman.
type Podman struct {
	// Socket of podman's API, as unix:///path. Default: that of the agent's user, where
	// podman itself puts it.
	Socket string
	// Network that pods join; empty for podman's default.
	Network string
	// Allow is what pods may reach of the device.
	Allow policy.Podman
}

// Log is what the agent writes about itself to standard error.
type Log struct {
	Level slog.Level
	// Format is text or json.
	Format string
}

// Path is the configuration file's path.
func Path() string {
	if p := os.Getenv(PathVariable); p != "" {
		return p
	}
	return DefaultPath
}

// Load reads the file. All that is wrong with it is in the error, a line each.
func Load(path string) (Config, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && path == DefaultPath {
		// A device that has joined needs none.
		err = nil
	}
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w; %s names another file", err, PathVariable)
	}
	c, err := settings(data)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s:\n%w", path, err)
	}
	if c.Trust, err = trust.Load(c.StateDir); err != nil && !errors.Is(err, trust.ErrNotJoined) {
		return Config{}, err
	}
	if err := c.complete(); err != nil {
		return Config{}, fmt.Errorf("configuration %s:\n%w", path, err)
	}
	return c, nil
}

// Parse reads settings from YAML and fills in defaults.
func Parse(data []byte) (Config, error) {
	c, err := settings(data)
	if err != nil {
		return Config{}, err
	}
	return c, c.complete()
}

func settings(data []byte) (Config, error) {
	c := Config{
		StateDir: "/var/lib/fleet-agent", HeartbeatInterval: 30 * time.Second,
		Podman: Podman{
			Socket: podmanSocket(os.Geteuid(), os.Getenv("XDG_RUNTIME_DIR")),
			Allow:  policy.Podman{HostPorts: []policy.Ports{policy.Unprivileged}},
		},
		// What runs in a container at somebody's word is not in Git: a device has to be
		// told to allow that.
		Commands: Commands{Ping: true, Logs: true, Restart: true},
		Log:      Log{Level: slog.LevelInfo, Format: "text"},
	}
	if err := errors.Join(decode(data, c.fields())...); err != nil {
		return Config{}, err
	}
	return c, nil
}

func (c *Config) complete() error {
	if joined := c.Trust.Device; c.Device == "" {
		c.Device = joined
	} else if joined != "" && joined != c.Device {
		return fmt.Errorf("field device is %s, and this device has joined as %s: leave the field out, or join again as %s", c.Device, joined, c.Device)
	}
	if c.Device == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("field device is missing, and the host name is unknown: %w", err)
		}
		if c.Device, err = deviceOfHost(name); err != nil {
			return err
		}
	}
	c.NATS.URL = cmp.Or(c.NATS.URL, c.Trust.Server)
	if c.NATS.SeedFile == "" {
		c.NATS.SeedFile = filepath.Join(c.StateDir, "identity.nk")
	}
	return nil
}

func (c *Config) fields() fields {
	return fields{
		"device": text(func(s string) (err error) { c.Device, err = contracts.ParseDeviceID(s); return err }),
		"nats": fields{
			"url":      text(func(s string) error { c.NATS.URL = s; return natsURL(s) }),
			"caFile":   text(func(s string) error { c.NATS.CAFile = s; return absolute(s) }),
			"seedFile": text(func(s string) error { c.NATS.SeedFile = s; return absolute(s) }),
		},
		"stateDir": text(func(s string) error { c.StateDir = s; return absolute(s) }),
		"heartbeatInterval": text(func(s string) (err error) {
			c.HeartbeatInterval, err = duration(s, time.Second, 10*time.Minute)
			return err
		}),
		"hostIP": text(func(s string) error {
			c.HostIP = s
			if s == "" {
				return nil
			}
			if _, err := netip.ParseAddr(s); err != nil {
				return fmt.Errorf("%q is not an IP address", s)
			}
			return nil
		}),
		"podman": fields{
			"socket":  text(func(s string) error { c.Podman.Socket = s; return socket(s) }),
			"network": text(func(s string) error { c.Podman.Network = s; return nil }),
			"allow":   allowFields(&c.Podman.Allow),
		},
		"kvm": section{func() { c.KVM = defaultKVM() }, func() fields { return c.KVM.fields() }},
		"commands": fields{
			"ping":    allowed(&c.Commands.Ping),
			"logs":    allowed(&c.Commands.Logs),
			"exec":    allowed(&c.Commands.Exec),
			"restart": allowed(&c.Commands.Restart),
		},
		"log": fields{
			"level":  text(func(s string) (err error) { c.Log.Level, err = level(s); return err }),
			"format": text(func(s string) error { c.Log.Format = s; return oneOf(s, "text", "json") }),
		},
	}
}

// CheckServer checks the URL of a server, or several with commas between.
func CheckServer(urls string) error {
	if urls == "" {
		return errors.New("where is the fleet's server? It is a URL such as tls://fleet.example.com:4222")
	}
	return natsURL(urls)
}
