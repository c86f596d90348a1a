package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/nationtech/fleet/test/env"
)

// serverEnv has this program be a NATS server, as process describes it, and no test.
const serverEnv = "FLEET_TEST_NATS_SERVER"

// process is a NATS server as a process of its own, which can be killed as a machine that
// fails takes one away: with no word to the others.
type process struct {
	Name, Config, Dir string
	// Port is the clients', RoutePort the cluster's and LeafPort that of sites; 0 is none.
	Port, RoutePort, LeafPort int

	command *exec.Cmd
	stdin   io.Closer
}

// url is where clients find it.
func (p *process) url() string { return fmt.Sprintf("tls://localhost:%d", p.Port) }

// start starts the server, also after kill.
func (p *process) start(t testing.TB) {
	t.Helper()
	text, err := json.Marshal(p)
	must(t, err)
	self, err := os.Executable()
	must(t, err)
	p.command = exec.Command(self)
	p.command.Env = append(os.Environ(), serverEnv+"="+string(text))
	p.command.Stdout, p.command.Stderr = os.Stdout, os.Stderr
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.stdin, err = p.command.StdinPipe()
	must(t, err)
	must(t, p.command.Start())
}

// kill ends it as it is.
func (p *process) kill(t testing.TB) {
	t.Helper()
	if p.command == nil {
		return
	}
	must(t, p.command.Process.Kill())
	_ = p.command.Wait() // it says that it was killed
	p.command = nil
}

// serve is the other side of start.
func serve(text string) error {
	p := &process{}
	if err := json.Unmarshal([]byte(text), p); err != nil {
		return err
	}
	o, err := server.ProcessConfigFile(p.Config)
	if err != nil {
		return err
	}
	// What the pod's arguments are.
	o.Host, o.Port, o.ServerName, o.StoreDir, o.NoSigs = "localhost", p.Port, p.Name, filepath.Join(p.Dir, p.Name), true
	o.LogFile, o.Logtime = filepath.Join(p.Dir, p.Name+".log"), true
	if p.RoutePort != 0 {
		o.Cluster.Host, o.Cluster.Port = "localhost", p.RoutePort
	}
	if p.LeafPort != 0 {
		o.LeafNode.Host, o.LeafNode.Port = "localhost", p.LeafPort
	}
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		return errors.New("nats-server is not ready after 20 s")
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// freePort finds a port that nobody listens on.
func freePort(t testing.TB) int {
	t.Helper()
	addr, err := env.FreeAddr()
	must(t, err)
	_, port, err := net.SplitHostPort(addr)
	must(t, err)
	n, err := strconv.Atoi(port)
	must(t, err)
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// limit is how long anything may take: a server's death takes 4 to 9 s to be noticed, on a
// machine that has nothing else to do.
const limit = time.Minute

// until waits for what other processes do.
func until(t testing.TB, what string, check func(context.Context) error) {
	t.Helper()
	if err := env.Until(t.Context(), limit, what, check); err != nil {
		t.Fatal(err)
	}
}
