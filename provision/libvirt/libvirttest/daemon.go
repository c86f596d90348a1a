// Package libvirttest runs a libvirtd for a test, apart from the host's own.
//
// It sees the host as it is but for the directories that libvirt keeps its things in, which
// are the test's. Its bridges and DHCP servers are on the host's network, so that the test
// reaches the machines; tests that run at the same time need different networks.
package libvirttest

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
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
	stop    sync.Once
}

// replaced are the host's directories that the daemon has its own of, by their names under
// its root.
var replaced = map[string]string{
	"run": "/run/libvirt", "lib": "/var/lib/libvirt", "etc": "/etc/libvirt",
	"log": "/var/log/libvirt", "cache": "/var/cache/libvirt",
}

// Start starts a libvirtd with nothing in it, which ends with the test, as does all that it
// runs. Where that can't be, the test is skipped and says why.
func Start(t testing.TB) *Daemon {
	t.Helper()
	if why := missing(); why != "" {
		t.Skip("no libvirtd of the test's own: " + why)
	}
	// The path is short since sockets are in it.
	root, err := os.MkdirTemp("", "lv")
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{root: root}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last that libvirtd said:\n%s", d.logged())
		}
		d.end(t)
	})
	for name, content := range map[string]string{
		// libvirtd reports what it refuses to its log too, hence the errors alone.
		"libvirtd.conf": fmt.Sprintf("auth_unix_rw = \"none\"\nunix_sock_rw_perms = \"0700\"\nlog_outputs = \"3:file:%s\"\n",
			filepath.Join(root, "libvirtd.log")),
		"virtlogd.conf": "",
		// What runs as root in a private root needs no further protection, and none that the
		// host may not have.
		"etc/qemu.conf": "user = \"root\"\ngroup = \"root\"\nsecurity_driver = \"none\"\nnamespaces = []\n" +
			"cgroup_controllers = []\nremember_owner = 0\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	d.launch(t)
	d.tell(t, "start")
	d.await(t)
	return d
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

// launch starts the shell that libvirtd is a child of. It ends when its standard input
// does, so that nothing outlives a test that is killed.
func (d *Daemon) launch(t testing.TB) {
	t.Helper()
	d.shell = exec.Command("sh", "-c", script, "sh", d.root)
	d.shell.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setpgid: true}
	said, err := os.Create(filepath.Join(d.root, "shell.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	d.shell.Stderr = said
	if d.stdin, err = d.shell.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := d.shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.answers = bufio.NewScanner(out)
	if err := d.shell.Start(); err != nil {
		t.Fatal(err)
	}
	if !d.answers.Scan() || d.answers.Text() != "ready" {
		t.Skipf("no libvirtd of the test's own: a mount namespace can't be made: %s", d.logged())
	}
}

// tell has the shell do something and waits until it has.
func (d *Daemon) tell(t testing.TB, command string) {
	t.Helper()
	if _, err := fmt.Fprintln(d.stdin, command); err != nil {
		t.Fatalf("%s libvirtd: %v: %s", command, err, d.logged())
	}
	if !d.answers.Scan() || d.answers.Text() != command {
		t.Fatalf("%s libvirtd: answered %q: %s", command, d.answers.Text(), d.logged())
	}
}

// await waits until libvirtd answers.
func (d *Daemon) await(t testing.TB) {
	t.Helper()
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		c, err := libvirt.Dial(ctx, d.URI(), libvirt.DialOptions{})
		cancel()
		if err == nil {
			c.Close()
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("libvirtd does not answer after %s: %v: %s", startTimeout, err, d.logged())
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

// Dial is a connection that is closed at the end of the test.
func (d *Daemon) Dial(t testing.TB) *libvirt.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c, err := libvirt.Dial(ctx, d.URI(), libvirt.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Stranger is a connection of somebody who doesn't know of fleet, and does to machines what
// a person does by hand.
func (d *Daemon) Stranger(t testing.TB) *rpc.Libvirt {
	t.Helper()
	client, err := d.connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect() })
	return client
}

func (d *Daemon) connect() (*rpc.Libvirt, error) {
	client := rpc.NewWithDialer(dialer(d.socket()))
	return client, client.Connect()
}

type dialer string

func (s dialer) Dial() (net.Conn, error) { return net.Dial("unix", string(s)) }

// Kill ends libvirtd as if it had crashed. Its machines run on.
func (d *Daemon) Kill(t testing.TB) { t.Helper(); d.tell(t, "kill") }

// Restart ends libvirtd, if it runs, and starts it anew; its machines run on.
func (d *Daemon) Restart(t testing.TB) {
	t.Helper()
	d.tell(t, "kill")
	d.tell(t, "start")
	d.await(t)
}

// Stop ends libvirtd and all that it runs. The end of the test does so too.
func (d *Daemon) Stop(t testing.TB) { t.Helper(); d.end(t) }

func (d *Daemon) end(t testing.TB) {
	d.stop.Do(func() {
		if d.shell != nil && d.shell.Process != nil {
			d.clear()
			d.stdin.Close()
			for d.answers.Scan() {
			}
			if err := d.shell.Wait(); err != nil {
				t.Errorf("end libvirtd: %v: %s", err, d.logged())
			}
		}
		if err := os.RemoveAll(d.root); err != nil {
			t.Errorf("take away what libvirtd leaves: %v", err)
		}
	})
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
