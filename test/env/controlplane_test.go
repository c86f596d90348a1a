package env

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// binDir is where `make build` puts the binaries.
const binDir = "../../bin"

func startControlPlane(t *testing.T) *ControlPlane {
	t.Helper()
	bin, err := filepath.Abs(binDir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bin, "controlplane")); err != nil {
		t.Fatalf("the control plane is not built, run `make test`: %v", err)
	}
	// Not t.TempDir: the path of a unix socket below it would be too long.
	dir, err := os.MkdirTemp("", "fleet-env-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	options := Options{Dir: dir, Bin: bin}
	if err := os.Mkdir(filepath.Join(dir, "logs"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := options.controlPlane()
	t.Cleanup(c.Stop)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestControlPlaneComesBackAfterAKill(t *testing.T) {
	c := startControlPlane(t)
	addr := strings.TrimPrefix(c.NATS, "nats://")
	old := serverID(t, addr)
	if err := c.Control(t.Context(), "kill", "nats"); err != nil {
		t.Fatal(err)
	}
	err := Until(t.Context(), 15*time.Second, "another NATS server on the same port", func(ctx context.Context) error {
		id, err := natsInfo(ctx, addr)
		if err == nil && id == old {
			return fmt.Errorf("still the old server")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestControlPlaneTakesImagesAndServiceAccounts(t *testing.T) {
	c := startControlPlane(t)
	ref, err := c.PushImage(t.Context(), filepath.Join(binDir, "hello"), "hello", "v1")
	if err != nil {
		t.Fatal(err)
	}
	if want := c.Registry + "/hello:v1"; ref != want {
		t.Errorf("reference = %q, want %q", ref, want)
	}
	path, err := c.ServiceAccountKubeconfig(t.Context(), "default", "default")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), "token: ") {
		t.Errorf("the kubeconfig of a service account has no token:\n%s", raw)
	}
}

func TestStoppedControlPlaneLeavesNothingBehind(t *testing.T) {
	c := startControlPlane(t)
	addr := strings.TrimPrefix(c.NATS, "nats://")
	c.Stop()
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Errorf("NATS still listens on %s", addr)
	}
	if c.process.Running() {
		t.Error("the supervisor still runs")
	}
}

func TestFailureNamesTheLogAndItsLastLines(t *testing.T) {
	p := &Process{Name: "the test", Path: "/bin/sh", Args: []string{"-c", "echo what went wrong; exit 1"},
		Log: filepath.Join(t.TempDir(), "log")}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	<-p.done
	for _, want := range []string{p.Log, "what went wrong"} {
		if got := p.Failure().Error(); !strings.Contains(got, want) {
			t.Errorf("error %q does not mention %q", got, want)
		}
	}
}

// serverID is the ID that a NATS server makes anew at each start.
func serverID(t *testing.T, addr string) string {
	t.Helper()
	id, err := natsInfo(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// natsInfo reads the INFO line that a NATS server sends first
// (https://docs.nats.io/reference/reference-protocols/nats-protocol#info).
func natsInfo(ctx context.Context, addr string) (string, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	buf := make([]byte, 512)
	n, err := conn.Read(buf)
	if err != nil {
		return "", err
	}
	_, rest, ok := strings.Cut(string(buf[:n]), `"server_id":"`)
	if !ok {
		return "", fmt.Errorf("no server ID in %q", buf[:n])
	}
	id, _, _ := strings.Cut(rest, `"`)
	return id, nil
}
