package ssh_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleet/provision/command"
	"github.com/nationtech/fleet/provision/keys"
	"github.com/nationtech/fleet/provision/ssh"
	"github.com/nationtech/fleet/test/fresh"
)

// TestAHostOverSSH is about a real SSH server.
func TestAHostOverSSH(t *testing.T) {
	s := fresh.Start(t)
	ctx := t.Context()
	own := filepath.Join(t.TempDir(), "keys", "known_hosts")
	o := ssh.Options{Identities: ssh.Identities{Files: []string{s.Key}}, Own: own}
	_, err := ssh.Dial(ctx, s.Address, o)
	var unknown *ssh.UnknownHostError
	if !errors.As(err, &unknown) || unknown.Fingerprint != s.Fingerprint || !strings.Contains(err.Error(), "--accept-host-key "+s.Fingerprint) {
		t.Fatalf("a host that nobody knows: %v", err)
	}
	o.Accept = "SHA256:" + strings.Repeat("A", 43)
	if _, err := ssh.Dial(ctx, s.Address, o); !errors.As(err, &unknown) {
		t.Errorf("with the fingerprint of another: %v", err)
	}
	if _, err := os.Stat(own); err == nil {
		t.Error("a key was kept that nobody has accepted")
	}
	o.Accept = s.Fingerprint
	c, err := ssh.Dial(ctx, s.Address, o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	o.Accept = ""
	again, err := ssh.Dial(ctx, s.Address, o)
	if err != nil {
		t.Fatalf("its key was not remembered: %v", err)
	}
	again.Close()

	t.Run("a host with another key than the known one is refused", func(t *testing.T) {
		other, err := keys.Ensure(t.TempDir(), "other")
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(file, []byte(s.Address.Name+" "+other.Public+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		wrong := ssh.Options{Identities: o.Identities, KnownHosts: []string{file}, Accept: s.Fingerprint}
		_, err = ssh.Dial(ctx, s.Address, wrong)
		var refused *ssh.WrongHostKeyError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), file+", line 1") || !strings.Contains(err.Error(), s.Fingerprint) {
			t.Errorf("%v", err)
		}
	})
	t.Run("a key that the host does not know is said", func(t *testing.T) {
		stranger, err := keys.Ensure(t.TempDir(), "stranger")
		if err != nil {
			t.Fatal(err)
		}
		_, err = ssh.Dial(ctx, s.Address, ssh.Options{Identities: ssh.Identities{Files: []string{stranger.Path}}, Own: own})
		if err == nil || !strings.Contains(err.Error(), "accepts none of 1 keys for user "+fresh.User) {
			t.Errorf("%v", err)
		}
		_, err = ssh.Dial(ctx, s.Address, ssh.Options{Own: own})
		if err == nil || !strings.Contains(err.Error(), "there is no SSH key to show") {
			t.Errorf("without any: %v", err)
		}
	})
	t.Run("commands", func(t *testing.T) {
		result, err := c.Run(ctx, command.Command{Args: []string{"sh", "-c", `echo "$0 $WORD"; id -un`, "it's $HOME"}, Env: []string{"WORD=a b"}})
		if err != nil || result.Stdout != "it's $HOME a b\n"+fresh.User+"\n" {
			t.Errorf("%+v, %v", result, err)
		}
		if result, err := c.Run(ctx, command.AsRoot("id", "-un")); err != nil || result.Stdout != "root\n" {
			t.Errorf("as root: %+v, %v", result, err)
		}
		if result, err := c.Run(ctx, command.New("sh", "-c", "echo why >&2; exit 7")); result.Code != 7 || err == nil || !strings.Contains(err.Error(), "why") {
			t.Errorf("one that fails: %+v, %v", result, err)
		}
		if _, err := c.Run(ctx, command.New("no-such-command")); !command.NotFound(err) {
			t.Errorf("one that is not there: %v", err)
		}
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		if _, err := c.Run(short, command.New("sleep", "60")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one that takes too long: %v", err)
		}
	})
	t.Run("sockets", func(t *testing.T) {
		const bus = "/run/dbus/system_bus_socket"
		conn, err := c.DialUnix(ctx, bus)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "\x00AUTH\r\n"); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 8)
		if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "REJECTED" {
			t.Errorf("the bus says %q, %v", answer, err)
		}
		if _, err := c.DialUnix(ctx, "/run/nothing"); err == nil || !strings.Contains(err.Error(), "/run/nothing") {
			t.Errorf("one that is not there: %v", err)
		}
	})
	t.Run("a connection that is closed says so", func(t *testing.T) {
		c.Close()
		if _, err := c.Run(ctx, command.New("id")); err == nil || !strings.Contains(err.Error(), "is closed") {
			t.Errorf("%v", err)
		}
		if err := c.Reconnect(ctx); err != nil {
			t.Error(err)
		}
	})
}
