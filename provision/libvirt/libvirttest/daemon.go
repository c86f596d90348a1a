// Package libvirttest runs a libvirtd for a test, apart from the host's own. What it does
// not do with a testing.TB is for whoever is not a test.
//
// It sees the host as it is but for the directories that libvirt keeps its things in, which
// are the test's. Its bridges and DHCP servers are on the host's network, so that the test
// reaches the machines; tests that run at the same time need different networks.
package libvirttest

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	rpc "github.com/digitalocean/go-libvirt"

	"github.com/nationtech/fleet/provision/libvirt"
)

// startTimeout is how long libvirtd may take until it answers. It asks each emulator what
// that can do, which takes seconds on a busy machine.
const startTimeout = time.Minute

//go:embed daemon.sh
var script string

// Daemon is a libvirtd of a test's own.
type Daemon struct {
	root    string
	shell   *exec.Cmd
	stdin   io.WriteCloser
	answers *bufio.Scanner
	telling sync.Mutex // one command at a time: each has an answer
	stop    sync.Once
}

// replaced are the host's directories that the daemon has its own of, by their names under
// its root. What libvirt keeps in /var/cache is not: it is what the host's emulators can do,
// which takes many seconds to find out anew.
var replaced = map[string]string{
	"run": "/run/libvirt", "lib": "/var/lib/libvirt", "etc": "/etc/libvirt",
	"log": "/var/log/libvirt",
}

// errNoNamespace tells that libvirt's directories can't be replaced here.
var errNoNamespace = errors.New("a mount namespace can't be made")

// Launch starts a libvirtd with nothing in it, which keeps its things in the folder root.
// It ends with Close, or with this process, and with it all that it runs. The path should
// be short, since sockets are in it.
func Launch(ctx context.Context, root string) (*Daemon, error) {
	if why := missing(); why != "" {
		return nil, errors.New("no libvirtd of its own: " + why)
	}
	return launch(ctx, root)
}

func launch(ctx context.Context, root string) (*Daemon, error) {
	d := &Daemon{root: root}
	if err := d.configure(); err != nil {
		return nil, err
	}
	if err := d.startShell(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	err := d.tell("start")
	if err == nil {
		err = d.await(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// configure writes what libvirt reads.
func (d *Daemon) configure() error {
	for name, content := range map[string]string{
		// libvirtd reports what it refuses to its log too, hence the errors alone.
		"libvirtd.conf": fmt.Sprintf("auth_unix_rw = \"none\"\nunix_sock_rw_perms = \"0700\"\nlog_outputs = \"3:file:%s\"\n",
			filepath.Join(d.root, "libvirtd.log")),
		"virtlogd.conf": "",
		// What runs as root in a private root needs no further protection, and none that the
		// host may not have.
		"etc/qemu.conf": "user = \"root\"\ngroup = \"root\"\nsecurity_driver = \"none\"\nnamespaces = []\n" +
			"cgroup_controllers = []\nremember_owner = 0\n",
	} {
		path := filepath.Join(d.root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return os.Chmod(d.root, 0o755)
}

// missing says what keeps a libvirtd from running here.
func missing() string {
	if os.Geteuid() != 0 {
		return "only root can run one"
	}
	for _, name := range []string{"libvirtd", "virtlogd", "qemu-system-x86_64", "qemu-img", "mount", "ip"} {
		if _, err := exec.LookPath(name); err != nil {
			return name + " is not installed (on Debian: libvirt-daemon-system qemu-system-x86 qemu-utils iproute2)"
		}
	}
	for _, dir := range replaced {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err.Error()
		}
	}
	return ""
}

// startShell starts the shell that libvirtd is a child of. It ends when its standard input
// does, so that nothing outlives a process that is killed.
func (d *Daemon) startShell() error {
	shell := exec.Command("sh", "-c", script, "sh", d.root)
	shell.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setpgid: true}
	said, err := os.Create(filepath.Join(d.root, "shell.log"))
	if err != nil {
		return err
	}
	defer said.Close()
	shell.Stderr = said
	if d.stdin, err = shell.StdinPipe(); err != nil {
		return err
	}
	out, err := shell.StdoutPipe()
	if err != nil {
		return err
	}
	d.answers = bufio.NewScanner(out)
	if err := shell.Start(); err != nil {
		return fmt.Errorf("%w: %w", errNoNamespace, err)
	}
	d.shell = shell
	if !d.answers.Scan() || d.answers.Text() != "ready" {
		return fmt.Errorf("%w: %s", errNoNamespace, d.logged())
	}
	return nil
}

// tell has the shell do something and waits until it has.
func (d *Daemon) tell(command string) error {
	d.telling.Lock()
	defer d.telling.Unlock()
	if _, err := fmt.Fprintln(d.stdin, command); err != nil {
		return fmt.Errorf("%s libvirtd: %w: %s", command, err, d.logged())
	}
	if !d.answers.Scan() || d.answers.Text() != command {
		return fmt.Errorf("%s libvirtd: answered %q: %s", command, d.answers.Text(), d.logged())
	}
	return nil
}

// await waits until libvirtd answers.
func (d *Daemon) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := libvirt.Dial(ctx, d.URI(), libvirt.DialOptions{})
		if err == nil {
			return c.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("libvirtd does not answer: %w: %s", err, d.logged())
		}
	}
}

func (d *Daemon) socket() string { return filepath.Join(d.root, "run", "libvirt-sock") }

// URI is how the daemon is reached.
func (d *Daemon) URI() libvirt.URI {
	return libvirt.MustURI("qemu+unix:///system?socket=" + d.socket())
}

// PoolDir is a directory for a storage pool, which exists.
func (d *Daemon) PoolDir() string {
	dir := filepath.Join(d.root, "pool")
	_ = os.MkdirAll(dir, 0o755)
	return dir
}

// HostPath is where the test finds a file of which libvirt says that it is at path.
func (d *Daemon) HostPath(path string) string {
	for name, at := range replaced {
		if rest, within := strings.CutPrefix(path, at+"/"); within {
			return filepath.Join(d.root, name, rest)
		}
	}
	return path
}

func (d *Daemon) connect() (*rpc.Libvirt, error) {
	client := rpc.NewWithDialer(dialer(d.socket()))
	return client, client.Connect()
}

type dialer string

func (s dialer) Dial() (net.Conn, error) { return net.Dial("unix", string(s)) }

// Close ends libvirtd and all that it runs. What is in its folder stays.
func (d *Daemon) Close() error {
	var err error
	d.stop.Do(func() {
		if d.shell == nil {
			return
		}
		d.clear()
		d.stdin.Close()
		for d.answers.Scan() {
		}
		if failed := d.shell.Wait(); failed != nil {
			err = fmt.Errorf("end libvirtd: %w: %s", failed, d.logged())
		}
	})
	return err
}

// clear ends machines and networks the proper way, which takes firewall rules with it. What
// libvirtd is too dead for, the shell does.
func (d *Daemon) clear() {
	client, err := d.connect()
	if err != nil {
		return
	}
	defer client.Disconnect()
	domains, _, _ := client.ConnectListAllDomains(1, rpc.ConnectListDomainsActive)
	for _, m := range domains {
		_ = client.DomainDestroy(m)
	}
	networks, _, _ := client.ConnectListAllNetworks(1, rpc.ConnectListNetworksActive)
	for _, n := range networks {
		_ = client.NetworkDestroy(n)
	}
}

// loggedLines is how much of a log helps.
const loggedLines = 30

// logged is the end of what the daemon and its shell have written.
func (d *Daemon) logged() string {
	var all []string
	for _, name := range []string{"shell.log", "libvirtd.log"} {
		text, err := os.ReadFile(filepath.Join(d.root, name))
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		all = append(all, lines[max(0, len(lines)-loggedLines):]...)
	}
	return strings.Join(all, "\n")
}
