package podmantest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// RequiredPackages are the Debian packages that Start needs.
const RequiredPackages = "podman runc netavark iptables catatonit uidmap slirp4netns"

// commandTimeout bounds one call of the command line; the slowest is building
// the pause image on a busy machine.
const commandTimeout = 2 * time.Minute

// Options say what kind of podman Start makes. The zero value is complete.
type Options struct {
	// Dir holds the storage. Default: a new directory under os.TempDir.
	Dir string
	// Name is a word for people in the names of network and files. Default: pm.
	Name string
	// Subnet of the network, such as 10.213.7.0/24. Default: a free one.
	Subnet string
	// InsecureRegistries are host:port of registries that speak plain HTTP.
	InsecureRegistries []string
	// Log receives what the service prints. Default: nowhere.
	Log io.Writer
	// Rootless has it run as a user without rights on the machine, one that is known to
	// its own processes alone.
	Rootless bool
	// Keep lets the podman outlive the process that started it, until Close on
	// what Attach returns. Otherwise the next Start of anyone removes it.
	Keep bool
}

// Podman is a running podman service.
type Podman struct {
	// Socket is its API, as unix:///path.
	Socket string
	// Network is the name of the default network, Bridge its interface on the
	// host and Subnet its addresses.
	Network, Bridge, Subnet string
	// Dir holds the storage.
	Dir string
	// UID is the user it runs as; 0 for root.
	UID int

	rec     record
	service *exec.Cmd
}

// Start makes a podman and returns when its API answers. An error says what to
// install when something is missing.
func Start(ctx context.Context, o Options) (*Podman, error) {
	if err := preflight(o.Rootless); err != nil {
		return nil, err
	}
	if o.Name == "" {
		o.Name = "pm"
	}
	made := ""
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "fleet-podman-")
		if err != nil {
			return nil, err
		}
		o.Dir, made = dir, dir
	}
	var p *Podman
	err := allocate(ctx, o, func(rec record) (record, error) {
		p = rec.podman()
		if err := p.start(ctx, o); err != nil {
			return rec, errors.Join(err, p.remove())
		}
		return p.rec, nil
	})
	if err != nil {
		if made != "" {
			err = errors.Join(err, os.RemoveAll(made))
		}
		return nil, fmt.Errorf("start a podman of its own: %w", err)
	}
	return p, nil
}

// preflight names what is missing before anything is made.
func preflight(rootless bool) error {
	if os.Geteuid() != 0 {
		return errors.New("a podman of its own needs root: run as root or under sudo")
	}
	tools := []string{"podman", "conmon", "iptables", "ip"}
	if rootless {
		tools = append(tools, "newuidmap", "slirp4netns", "unshare", "setpriv")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is missing: run `make deps`, or `apt-get install --no-install-recommends %s iproute2`", tool, RequiredPackages)
		}
	}
	return nil
}

func (p *Podman) start(ctx context.Context, o Options) error {
	if err := p.rec.writeConfig(o.InsecureRegistries); err != nil {
		return err
	}
	// The first pod builds the pause image; --log-level keeps the service quiet.
	args := append(p.rec.globalArgs(), "--log-level=error", "system", "service", "--time=0", p.Socket)
	cmd := p.command(context.Background(), args...)
	cmd.Stdout, cmd.Stderr = o.Log, o.Log
	// Its own process group, so that a Ctrl-C for the caller leaves the service up
	// until Close has removed the containers with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.service = cmd
	p.rec.ServicePID = cmd.Process.Pid
	return p.await(ctx)
}

// await returns when the API's socket accepts a connection.
func (p *Podman) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.Dial("unix", p.rec.socket())
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("podman service does not answer at %s: %w", p.Socket, err)
		case <-tick.C:
		}
	}
}

// command is `podman args…`, as the user that this one is of.
func (p *Podman) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "podman", args...)
	if p.rec.UID != 0 {
		cmd = p.rec.asUser(ctx, append([]string{"podman"}, args...))
	}
	cmd.Env = p.Env()
	return cmd
}

// Env is the environment in which `podman` finds the settings of this one.
func (p *Podman) Env() []string {
	env := os.Environ()
	if p.rec.UID != 0 {
		env = append(env, p.rec.userEnv()...)
	}
	return append(env,
		"CONTAINERS_CONF="+filepath.Join(p.rec.RunDir, "containers.conf"),
		"CONTAINERS_REGISTRIES_CONF="+filepath.Join(p.rec.RunDir, "registries.conf"))
}

// Args are the global arguments that point `podman` to this one's storage.
func (p *Podman) Args() []string { return p.rec.globalArgs() }

// Run runs `podman args…` on this podman and returns what it printed. The error
// holds what it complained of.
func (p *Podman) Run(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := p.command(ctx, append(p.Args(), args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("podman %v: %w: %s", args, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// StopService ends the API service and leaves the containers running, as when
// podman is updated or crashes; StartService brings it back.
func (p *Podman) StopService() error {
	if err := errors.Join(stopProcess(p.rec.ServicePID, p.service), p.endProcesses("service")); err != nil {
		return err
	}
	p.service, p.rec.ServicePID = nil, 0
	if err := os.Remove(p.rec.socket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return p.rec.save()
}

// StartService starts the service that StopService has ended.
func (p *Podman) StartService(ctx context.Context) error {
	if err := p.start(ctx, Options{InsecureRegistries: p.rec.Registries}); err != nil {
		return err
	}
	return p.rec.save()
}
