// Package fresh boots systems for tests on which nothing has been installed yet: a Debian
// with systemd, an SSH server and a user who may use sudo, in a container with a network
// of its own. Packages come from a folder in it, so that a test needs no network.
package fresh

import (
	"bufio"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/nationtech/fleet/provision/keys"
	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/ssh"
	"github.com/nationtech/fleet/provision/topology"
)

// User is who one is on a system.
const User = "ada"

// included are the packages of a system that has nothing installed.
const included = "systemd-sysv,dbus,openssh-server,sudo,iproute2,procps"

// release is the one of the system.
const release = "bookworm"

const (
	buildTimeout = 15 * time.Minute
	bootTimeout  = 90 * time.Second
)

//go:embed boot.sh
var boot string

//go:embed build.sh
var build string

// System is a system that runs.
type System struct {
	// Address is where its SSH server is, and Key the file of the private key that User has
	// there.
	Address ssh.Address
	Key     string
	// Fingerprint is that of the SSH server's key.
	Fingerprint string
	root        string
}

// Start boots a system that ends with the test. Where that can't be, the test is skipped
// and says why.
func Start(t testing.TB) *System {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("no fresh system: only root can boot one")
	}
	for _, name := range []string{"mmdebstrap", "systemd-nspawn", "ip", "tar"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("no fresh system: %s is not installed (on Debian: mmdebstrap systemd-container iproute2)", name)
		}
	}
	archive, err := made()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "fleet-fresh-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s := &System{root: filepath.Join(dir, "root")}
	if err := s.unpack(dir, archive); err != nil {
		t.Fatal(err)
	}
	s.run(t, dir)
	s.await(t)
	return s
}

// made is the archive of the system, built where it is not there yet.
func made() (string, error) {
	cache := os.Getenv("FLEET_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the cache folder (set FLEET_CACHE): %w", err)
		}
		cache = filepath.Join(dir, "fleet")
	}
	cache = filepath.Join(cache, "fresh")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	packages := strings.Join(topology.Packages([]libvirt.Arch{libvirt.HostArch()})["apt"], " ")
	recipe := sha256.Sum256([]byte(build + included + release + packages))
	archive := filepath.Join(cache, hex.EncodeToString(recipe[:8])+".tar")
	lock, err := os.OpenFile(archive+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	// Tests of several packages run at the same time, and one builds.
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", err
	}
	if _, err := os.Stat(archive); err == nil {
		return archive, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "sh", "-c", build, "sh", archive, included, release, packages, User)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build a fresh system: %w\n%s", err, out)
	}
	return archive, nil
}

// unpack makes the system's files, with a key of its own and one for its user.
func (s *System) unpack(dir, archive string) error {
	if err := os.Mkdir(s.root, 0o755); err != nil {
		return err
	}
	if out, err := exec.Command("tar", "-xf", archive, "-C", s.root, "--numeric-owner").CombinedOutput(); err != nil {
		return fmt.Errorf("unpack %s: %w\n%s", archive, err, out)
	}
	host := filepath.Join(s.root, "etc/ssh/fleet")
	mine := filepath.Join(dir, "key")
	for _, d := range []string{host, mine} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	server, err := keys.Ensure(host, "host")
	if err != nil {
		return err
	}
	user, err := keys.Ensure(mine, User)
	if err != nil {
		return err
	}
	s.Key, s.Fingerprint = user.Path, gossh.FingerprintSHA256(server.Signer.PublicKey())
	return os.WriteFile(filepath.Join(s.root, "etc/ssh/authorized/"+User), []byte(user.Public+"\n"), 0o644)
}

// run boots the system. Its shell ends when its standard input does, so that nothing
// outlives a test that is killed.
func (s *System) run(t testing.TB, dir string) {
	t.Helper()
	block := os.Getpid() % 250
	s.Address = ssh.Address{User: User, Name: fmt.Sprintf("10.216.%d.2", block), Port: 22}
	log, err := os.Create(filepath.Join(dir, "boot.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("sh", "-c", boot, "sh", s.root, fmt.Sprintf("ff%d", os.Getpid()), fmt.Sprintf("10.216.%d", block))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_, _ = io.Copy(io.Discard, stdout)
		err := cmd.Wait()
		if said, _ := os.ReadFile(log.Name()); t.Failed() || err != nil {
			t.Logf("end of the fresh system: %v\n%s", err, said)
		}
	})
	if said, _ := bufio.NewReader(stdout).ReadString('\n'); said != "ready\n" {
		why, _ := os.ReadFile(log.Name())
		t.Skipf("no fresh system: a container with a network of its own can't be made: %s", why)
	}
}

// await waits until the SSH server answers.
func (s *System) await(t testing.TB) {
	t.Helper()
	deadline := time.NewTimer(bootTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(s.Address.Name, "22"), time.Second)
		if err == nil {
			_ = conn.SetDeadline(time.Now().Add(time.Second))
			greeting, err := bufio.NewReader(conn).ReadString('\n')
			conn.Close()
			if last = err; strings.HasPrefix(greeting, "SSH-2.0") {
				return
			}
		} else {
			last = err
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("the fresh system's SSH server does not answer within %s: %v", bootTimeout, last)
		}
	}
}
