package env

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/test/podmantest"
)

// Device is one machine of the fleet: a podman that nobody else uses, and an
// agent in front of it. The ports of its containers are bound to a loopback
// address of its own, so that every device can have the same ports.
type Device struct {
	ID string
	// HostIP is where its ports are, HelloPort the one on which the Deployment hello
	// answers.
	HostIP    string
	HelloPort int
	Podman    *podmantest.Podman
	Agent     *Process
	// Overlay of the repository that it is in.
	Overlay string
	// Commands are those that the agent's configuration allows or denies.
	Commands map[string]string
	// Pool is where the agent keeps the disks of virtual machines, on the fleet's libvirtd;
	// without it the device has none.
	Pool string

	dir string
}

// Namespace of its Device.
func (d *Device) Namespace() string {
	if d.Overlay == gitops.LabOverlay {
		return LabNamespace
	}
	return Namespace
}

// podmanFolder is where a device's podman keeps its storage, in the device's folder.
const podmanFolder = "podman"

// newDevice prepares a device without starting anything.
func (o Options) newDevice(id, hostIP string, helloPort int) (*Device, error) {
	dir := filepath.Join(o.Dir, id)
	if err := os.MkdirAll(dir, 0o711); err != nil { // its podman passes through
		return nil, err
	}
	return &Device{ID: id, Overlay: gitops.FieldOverlay, HostIP: hostIP, HelloPort: helloPort, dir: dir, Agent: &Process{
		Name: "the agent of " + id, Path: o.agent(), Args: []string{"run"},
		Env: []string{"FLEET_AGENT_CONFIG=" + filepath.Join(dir, "config.yaml")},
		Log: filepath.Join(o.Dir, "logs", id+".log"),
	}}, nil
}

// configure writes the agent's configuration. The hypervisor is the fleet's, if it has one.
func (d *Device) configure(h *hypervisor) error {
	config := map[string]any{
		"device": d.ID, "stateDir": filepath.Join(d.dir, "state"), "hostIP": d.HostIP, "heartbeatInterval": "2s",
	}
	if d.Commands != nil {
		config["commands"] = d.Commands
	}
	if d.Podman != nil {
		config["podman"] = map[string]any{"socket": d.Podman.Socket}
	}
	if d.Pool != "" {
		config["kvm"] = map[string]any{"uri": h.daemon.URI().String(), "pool": d.Pool}
	}
	raw, err := yaml.Marshal(config)
	if err != nil {
		return err
	}
	return d.write("config.yaml", raw)
}

// startPodman starts the device's podman. What the agent needs is its user's from then on.
func (d *Device) startPodman(ctx context.Context, rootless bool, registry string) error {
	podman, err := podmantest.Start(ctx, podmantest.Options{
		Name: d.ID, Dir: filepath.Join(d.dir, podmanFolder), InsecureRegistries: []string{registry}, Rootless: rootless,
	})
	if err != nil {
		return fmt.Errorf("podman of %s: %w", d.ID, err)
	}
	d.Podman, d.Agent.UID = podman, podman.UID
	return os.Chown(d.dir, podman.UID, podman.UID)
}

// write writes a file of the agent's.
func (d *Device) write(name string, content []byte) error {
	path := filepath.Join(d.dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return err
	}
	return os.Chown(path, d.Agent.UID, d.Agent.UID)
}

// join has the device join the fleet.
func (d *Device) join(ctx context.Context, server, token string) error {
	_, err := d.Shell(ctx, token, "SERVER="+server, `fleet-agent join --server "$SERVER" --token-file token`)
	return err
}

// Shell runs a script on the device, as the agent's user and with a token in the file
// token, as a technician would who has logged in there.
func (d *Device) Shell(ctx context.Context, token, variable, script string) (string, error) {
	if err := d.write("token", []byte(strings.TrimSpace(token))); err != nil {
		return "", err
	}
	// Whoever runs it is the agent's user already, and may become nobody else.
	const become = `sudo() { [ "$1 $2" = "-u fleet-agent" ] || return 1; shift 2; "$@"; }; `
	args := append(slices.Clone(d.Agent.Env), variable, "PATH="+filepath.Dir(d.Agent.Path)+":"+os.Getenv("PATH"), "bash", "-euc", become+script)
	out, err := runAs(ctx, d.Agent.UID, d.dir, "/usr/bin/env", args...)
	return out, errors.Join(err, os.Remove(filepath.Join(d.dir, "token")))
}

// Close stops the agent and removes every container of the device.
func (d *Device) Close() error {
	d.Agent.Stop(10 * time.Second)
	if d.Podman == nil {
		return nil
	}
	return d.Podman.Close()
}

// ErrNotServing tells that nothing answers on the device's port.
var ErrNotServing = errors.New("nothing answers")

// Greeting is what the workload of demo and tests answers; see test/hello.
type Greeting struct {
	Version  string `json:"version"`
	Device   string `json:"device"`
	Greeting string `json:"greeting"`
}

// HelloURL is where the Deployment hello answers.
func (d *Device) HelloURL() string { return helloURL(d.HostIP, d.HelloPort) }

func helloURL(host string, port int) string {
	return "http://" + net.JoinHostPort(host, strconv.Itoa(port)) + "/"
}

// Greet asks the device's hello.
func (d *Device) Greet(ctx context.Context) (Greeting, error) {
	return greet(ctx, d.ID, d.HelloURL(), "the agent's log is "+d.Agent.Log)
}

// greet asks the hello of a device; hint says where to look when nothing answers.
func greet(ctx context.Context, id, url, hint string) (Greeting, error) {
	var g Greeting
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return g, err
	}
	// A connection that is kept would go on talking to the container that goes.
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return g, fmt.Errorf("%s: %w on %s; %s: %w", id, ErrNotServing, url, hint, err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&g); err != nil {
		return g, fmt.Errorf("%s: decode greeting of %s: %w", id, url, err)
	}
	return g, nil
}
