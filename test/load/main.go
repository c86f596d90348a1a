// Command fleet-load brings up a control plane and as many simulated devices as are
// asked for, rolls Deployments out to them, and prints what that cost beside what the
// same machine can do at best. `make load` runs it.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/nationtech/fleet/test/env"
)

func main() { env.Main(command()) }

// options of a run.
type options struct {
	devices, deployments, repeat        int
	duration, heartbeat                 time.Duration
	dir, bin, manifests, json, profiles string
	storms, podman                      bool
	// connected is how many devices have a connection at a time.
	connected int
}

func command() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use: "fleet-load", Short: "Put a fleet of simulated devices under load", Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		Long: `Brings up a control plane, an operator and simulated devices: the agent's own code above
a runtime that takes as long as podman and has no containers. Where there are not enough
descriptors, ports or memory for all of them at a time they take turns.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if min(o.devices, o.deployments, o.repeat) < 1 || o.connected < 0 {
				return errors.New("--devices, --deployments and --repeat have to be at least 1, and --connected not negative")
			}
			if o.connected == 0 {
				var err error
				if o.connected, err = room(); err != nil {
					return err
				}
			}
			l := &load{options: o, progress: env.NewProgress(c.ErrOrStderr()), out: c.OutOrStdout()}
			return l.run(c.Context())
		},
	}
	f := c.Flags()
	f.IntVar(&o.devices, "devices", 20, "how many devices")
	f.IntVar(&o.connected, "connected", 0, "how many devices at most are connected at a time, and take turns; 0 for as many as there is room for")
	f.IntVar(&o.deployments, "deployments", 3, "how many Deployments, each for all devices")
	f.IntVar(&o.repeat, "repeat", 3, "how often one change, the operator's start and the plugin are measured")
	f.DurationVar(&o.duration, "duration", 20*time.Second, "how long the steady state is measured")
	f.DurationVar(&o.heartbeat, "heartbeat", 30*time.Second, "time between two heartbeats of a device")
	f.BoolVar(&o.storms, "storms", false, "also what happens to a whole fleet at once: edits, failures, NATS and operator gone")
	f.BoolVar(&o.podman, "podman", true, "also three devices with podman, as root: git push to them, and what their agents use")
	f.StringVar(&o.bin, "bin", "bin", "folder of the binaries")
	f.StringVar(&o.manifests, "manifests", "manifests", "folder of the manifests")
	f.StringVar(&o.json, "json", "", "file for the figures")
	f.StringVar(&o.profiles, "profiles", "", "folder for profiles of the operator's CPU, one for each step")
	// Short, because unix sockets are below it.
	f.StringVar(&o.dir, "dir", filepath.Join(os.TempDir(), "fleet-load"), "folder for everything that the run writes; it is removed")
	c.AddCommand(compareCommand())
	return c
}

// perDevice is what a connected device takes at most, its connection in the NATS server included.
const perDevice = 512 << 10

// reserve of descriptors is for all but connections.
const reserve = 1000

// room is how many devices can be connected at a time: as many as there are descriptors for in
// either process, ports for on one address, and memory.
func room() (int, error) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return 0, fmt.Errorf("how many descriptors are there: %w", err)
	}
	const ports = "/proc/sys/net/ipv4/ip_local_port_range"
	data, err := os.ReadFile(ports)
	if err != nil {
		return 0, err
	}
	var first, last int
	if _, err := fmt.Sscan(string(data), &first, &last); err != nil {
		return 0, fmt.Errorf("read %s: %w", ports, err)
	}
	var machine unix.Sysinfo_t
	if err := unix.Sysinfo(&machine); err != nil {
		return 0, fmt.Errorf("how much memory is there: %w", err)
	}
	// The rest is for the API server, etcd and the operator.
	memory := machine.Totalram * uint64(machine.Unit) / 100 * 60
	return max(1, min(int(min(files.Cur, 1<<20))-reserve, last-first-reserve, int(memory/perDevice))), nil
}
