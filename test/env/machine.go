package env

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nationtech/fleet/test/guest"
)

// machinePatience is how long what takes a second on a device may take on a machine, which
// may be emulated.
const machinePatience = 10 * time.Minute

// Machine is a device that is a virtual machine of this one, made with kubectl fleet vm.
type Machine struct {
	ID string
	// HelloPort is where its Deployment hello answers.
	HelloPort int
	// Emulated reports whether it runs without KVM, and Why the reason, after Create.
	Emulated bool
	Why      string

	fleet *Fleet
}

// AddMachine adds a machine to those that Scaffold has in the repository.
func (f *Fleet) AddMachine(id string) *Machine {
	m := &Machine{ID: id, HelloPort: f.addresses.Hello, fleet: f}
	f.Machines = append(f.Machines, m)
	return m
}

// machineNATS is where machines reach the NATS server.
func (f *Fleet) machineNATS() string {
	return strings.Replace(f.ControlPlane.NATS, "127.0.0.1", f.hypervisor.gateway().String(), 1)
}

// MachineImage is how a machine reaches an image that is in the registry.
func (f *Fleet) MachineImage(ref string) string {
	return strings.Replace(ref, f.ControlPlane.Registry, fmt.Sprintf("%s:%d", guest.Registry, guest.RegistryPort), 1)
}

// Create makes the machine from a disk image and waits until its Device is Ready. What
// kubectl says meanwhile goes to out.
func (m *Machine) Create(ctx context.Context, image string, out io.Writer) error {
	said, err := m.fleet.vm(ctx, out, "create", m.ID, "--namespace", Namespace, "--image", image,
		"--server", m.fleet.machineNATS(), "--agent", filepath.Join(m.fleet.Bin, "fleet-agent"),
		"--cpus", "2", "--memory", "1Gi", "--timeout", machinePatience.String(), "--output", "json")
	if err != nil {
		return err
	}
	var created struct {
		Emulated bool   `json:"emulated"`
		Why      string `json:"why"`
	}
	if err := json.Unmarshal([]byte(said), &created); err != nil {
		return fmt.Errorf("decode what kubectl fleet vm create says: %w\n%s", err, said)
	}
	m.Emulated, m.Why = created.Emulated, created.Why
	return nil
}

// Start starts the machine when its power was cut.
func (m *Machine) Start(ctx context.Context, out io.Writer) error {
	_, err := m.fleet.vm(ctx, out, "start", m.ID)
	return err
}

// Delete removes the machine with its disks.
func (m *Machine) Delete(ctx context.Context, out io.Writer) error {
	_, err := m.fleet.vm(ctx, out, "delete", m.ID)
	return err
}

// CutPower ends it as it stands.
func (m *Machine) CutPower(ctx context.Context) error { return m.fleet.Libvirt().Destroy(ctx, m.ID) }

// How says how the machine runs, for people.
func (m *Machine) How() string {
	if m.Emulated {
		return "emulated, because " + m.Why
	}
	return "with KVM, which has booted it"
}

// Address is the machine's on its network.
func (m *Machine) Address(ctx context.Context) (netip.Addr, error) {
	all, err := m.fleet.Libvirt().Addresses(ctx, m.ID)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range all {
		if m.fleet.hypervisor.network.CIDR.Contains(a) {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%s has no address in %s, but %v", m.ID, m.fleet.hypervisor.network.CIDR, all)
}

// Greet asks the machine's hello.
func (m *Machine) Greet(ctx context.Context) (Greeting, error) {
	a, err := m.Address(ctx)
	if err != nil {
		return Greeting{}, err
	}
	return greet(ctx, m.ID, helloURL(a.String(), m.HelloPort), "its console is in "+m.Console())
}

// Console is the file with what the machine has written on its console.
func (m *Machine) Console() string {
	return m.fleet.hypervisor.daemon.HostPath(m.fleet.Libvirt().ConsoleLog(m.ID))
}

// Serves waits until the machine's hello answers with the version.
func (m *Machine) Serves(ctx context.Context, version string) error {
	return Until(ctx, machinePatience, m.ID+" serves "+version, func(ctx context.Context) error {
		g, err := m.Greet(ctx)
		if err == nil && g.Version != version {
			return fmt.Errorf("it serves %q; its console is in %s", g.Version, m.Console())
		}
		return err
	})
}

// MachineEnv is the environment in which kubectl fleet finds the fleet's machines.
func (f *Fleet) MachineEnv() []string {
	return []string{"HARMONY_DATA_DIR=" + filepath.Join(f.Dir, "harmony")}
}

// vm runs `kubectl fleet vm` to its end and returns what it printed.
func (f *Fleet) vm(ctx context.Context, out io.Writer, verb string, args ...string) (string, error) {
	args = append([]string{"fleet", "vm", verb, "--connect", f.LibvirtURI().String()}, args...)
	cmd := exec.CommandContext(ctx, filepath.Join(f.Bin, "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+f.ControlPlane.Kubeconfig, "PATH="+f.Bin+":"+os.Getenv("PATH"))
	cmd.Env = append(cmd.Env, f.MachineEnv()...)
	// It takes away again what it has half made.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, io.MultiWriter(&stderr, out)
	if err := cmd.Run(); err != nil {
		return "", errors.Join(fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, stderr.String()), ctx.Err())
	}
	return stdout.String(), nil
}
