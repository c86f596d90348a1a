package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"

	"github.com/nationtech/fleet/agent"
	"github.com/nationtech/fleet/agent/config"
	"github.com/nationtech/fleet/agent/identity"
	"github.com/nationtech/fleet/agent/policy"
	"github.com/nationtech/fleet/agent/status"
	"github.com/nationtech/fleet/agent/trust"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/podmantest"
)

const (
	device = contracts.DeviceID("till-1")
	hostIP = "127.0.0.77"
	image  = "localhost/app:1"
)

// world is a device with a real podman, a real NATS server with our permissions,
// and the operator's side of the bus.
type world struct {
	*testing.T
	podman *podmantest.Podman
	config config.Config
	js     jetstream.JetStream
	log    *buffer

	natsConfig, natsStore string
	nats                  *server.Server
	port                  int
	stop                  func()
	// signer is the operator's, issued the number of its last order.
	signer *contracts.Signer
	issued int64

	mu     sync.Mutex
	states map[string]contracts.DeploymentState
}

// buffer is a log that is written and read at the same time.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, podmantest.Options{Name: "agent"})
}

func newWorldOn(t *testing.T, o podmantest.Options) *world {
	t.Helper()
	w := &world{T: t, log: &buffer{}, states: map[string]contracts.DeploymentState{}, port: -1}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the agent's log:\n%s", w.log)
		}
	})
	p, err := podmantest.Start(t.Context(), o)
	must(t, err)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	w.podman = p
	binary, err := podmantest.BuildTestApp(t.Context(), t.TempDir())
	must(t, err)
	must(t, p.LoadImage(image, binary))

	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o711)) // podman's user is another where it is rootless
	w.config = config.Config{
		Device: device, StateDir: filepath.Join(dir, "state"), HeartbeatInterval: time.Second, HostIP: hostIP,
		NATS:   config.NATS{SeedFile: filepath.Join(dir, "state", "identity.nk")},
		Podman: config.Podman{Socket: p.Socket, Allow: policy.Podman{HostPorts: []policy.Ports{policy.Unprivileged}}}, Commands: config.Commands{Ping: true, Logs: true, Restart: true},
	}
	must(t, os.MkdirAll(w.config.StateDir, 0o711))
	key, err := identity.Ensure(w.config.NATS.SeedFile)
	must(t, err)
	w.natsStore, w.natsConfig = filepath.Join(dir, "jetstream"), filepath.Join(dir, "nats.conf")
	operator, err := nkeys.CreateUser()
	must(t, err)
	seed, err := operator.Seed()
	must(t, err)
	public, err := operator.PublicKey()
	must(t, err)
	keys, err := bus.KeysOf(seed)
	must(t, err)
	w.signer, err = contracts.NewSigner(keys.Signer)
	must(t, err)
	w.config.Trust.Operator = w.signer.Public()
	must(t, trust.Save(w.config.StateDir, w.config.Trust))
	seedFile := filepath.Join(dir, "operator.nk")
	must(t, os.WriteFile(seedFile, seed, 0o600))
	text, err := bus.ServerConfig(bus.ServerAuth{OperatorKeys: []string{public}, Devices: map[contracts.DeviceID]string{device: key}})
	must(t, err)
	must(t, os.WriteFile(w.natsConfig, text, 0o600))
	w.startNATS()
	t.Cleanup(func() { w.stopNATS() })
	w.config.NATS.URL = fmt.Sprintf("nats://127.0.0.1:%d", w.port)

	quiet := slog.New(slog.DiscardHandler)
	nc, err := bus.Connect(bus.Options{URL: w.config.NATS.URL, SeedFile: seedFile, Logger: quiet})
	must(t, err)
	t.Cleanup(nc.Close)
	w.js, err = bus.JetStream(nc)
	must(t, err)
	w.eventually("streams", func() error { return bus.EnsureStreams(t.Context(), w.js, bus.StreamOptions{}) })
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { _ = bus.ServeSnapshots(ctx, w.js, bus.SnapshotOptions{Logger: quiet}) })
	watcher := bus.Watch(ctx, w.js, contracts.BucketDeviceState, quiet, func(e bus.Entry) {
		s, err := contracts.DecodeDeploymentState(e.Value)
		if err != nil {
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.states[string(s.Deployment)] = s
	})
	t.Cleanup(func() { cancel(); parts.Wait(); <-watcher.Done() })
	w.stop = w.run()
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *world) startNATS() {
	w.Helper()
	o, err := server.ProcessConfigFile(w.natsConfig)
	must(w.T, err)
	o.Host, o.Port, o.StoreDir, o.NoLog, o.NoSigs = "127.0.0.1", w.port, w.natsStore, true, true
	w.nats, err = server.NewServer(o)
	must(w.T, err)
	w.nats.Start()
	if !w.nats.ReadyForConnections(10 * time.Second) {
		w.Fatal("nats-server is not ready after 10 s")
	}
	w.port = w.nats.Addr().(*net.TCPAddr).Port
}

func (w *world) stopNATS() {
	w.nats.Shutdown()
	w.nats.WaitForShutdown()
}

// run runs an agent and returns what ends it.
func (w *world) run() func() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- agent.Run(ctx, w.config, slog.New(slog.NewTextHandler(w.log, nil))) }()
	return sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				w.Errorf("the agent ended: %v", err)
			}
		case <-time.After(10 * time.Second):
			w.Error("the agent has not ended after 10 s")
		}
	})
}

// restart ends the agent and starts another.
func (w *world) restart() {
	w.Helper()
	w.stop()
	w.stop = w.run()
}

func (w *world) eventually(what string, check func() error) {
	w.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("%s: not after 30 s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// serving is a container that answers on a port of the device with a message.
func serving(name string, port int32, message string) contracts.Container {
	return contracts.Container{
		Name: name, Image: image, PullPolicy: "IfNotPresent",
		Env:       []contracts.EnvVar{{Name: "PORT", Value: fmt.Sprint(port)}, {Name: "MSG", Value: message}},
		Ports:     []contracts.Port{{Container: port, Host: port, Protocol: "TCP"}},
		Readiness: &contracts.Probe{HTTP: &contracts.HTTPProbe{Path: "/ready", Port: port}, Timeout: 1, Period: 1, SuccessThreshold: 1, FailureThreshold: 3},
	}
}

// tell tells the device to run containers.
func (w *world) tell(name string, score contracts.PodmanScore) contracts.DesiredState {
	w.Helper()
	return w.tellWithin(name, score, 60)
}

// tellWithin tells what has to get healthy within so many seconds.
func (w *world) tellWithin(name string, score contracts.PodmanScore, seconds int64) contracts.DesiredState {
	w.Helper()
	if score.RestartPolicy == "" {
		score.RestartPolicy = "Always"
	}
	score.StopSeconds = 1
	s := contracts.ReconcileScore{Podman: &score}
	d := contracts.DesiredState{
		Deployment: contracts.DeploymentName(name), Namespace: "shops", Revision: name + "-" + s.Digest()[:8], Digest: s.Digest(),
		Score: s, DeadlineSeconds: seconds, Issued: w.nextIssued(), Time: time.Now().UTC(),
	}
	w.put(d)
	return d
}

// put signs and writes an order.
func (w *world) put(d contracts.DesiredState) []byte {
	w.Helper()
	value, err := contracts.Encode(d)
	must(w.T, err)
	envelope, err := w.signer.Tell(device, d.Deployment, value)
	must(w.T, err)
	writer := bus.NewWriter(w.js)
	must(w.T, writer.Put(w.Context(), device, d.Deployment, envelope))
	must(w.T, writer.Flush(w.Context()))
	return envelope
}

func (w *world) nextIssued() int64 {
	w.issued++
	return w.issued
}

func (w *world) withdraw(name string) {
	w.Helper()
	value, err := contracts.Encode(contracts.Withdrawal{Deployment: contracts.DeploymentName(name), Issued: w.nextIssued()})
	must(w.T, err)
	envelope, err := w.signer.Withdraw(device, contracts.DeploymentName(name), value)
	must(w.T, err)
	writer := bus.NewWriter(w.js)
	must(w.T, writer.Delete(w.Context(), device, contracts.DeploymentName(name), envelope))
	must(w.T, writer.Flush(w.Context()))
}

// reports waits until the device reports of a desired state what is wanted.
func (w *world) reports(d contracts.DesiredState, what string, wanted func(contracts.DeploymentState) bool) contracts.DeploymentState {
	w.Helper()
	var last contracts.DeploymentState
	w.eventually(string(d.Deployment)+" is "+what, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		last = w.states[string(d.Deployment)]
		if last.Digest == d.Digest && wanted(last) {
			return nil
		}
		return fmt.Errorf("it reports %+v", last)
	})
	return last
}

func (w *world) runs(d contracts.DesiredState) contracts.DeploymentState {
	w.Helper()
	return w.reports(d, "running", func(s contracts.DeploymentState) bool { return s.Phase == contracts.PhaseRunning })
}

func (w *world) fails(d contracts.DesiredState, reason string) contracts.DeploymentState {
	w.Helper()
	return w.reports(d, "failed with "+reason, func(s contracts.DeploymentState) bool {
		return s.Phase == contracts.PhaseFailed && s.Reason == reason
	})
}

// get asks the device on a port.
func get(port int, path string) (string, error) {
	// A port of a pod that is going may not answer at all.
	const patience = 2 * time.Second
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: patience}).DialContext}}
	response, err := client.Get(fmt.Sprintf("http://%s:%d%s", hostIP, port, path))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return strings.TrimSpace(string(body)), err
}

func (w *world) serves(port int, path, want string) {
	w.Helper()
	w.eventually(fmt.Sprintf("port %d serves %q", port, want), func() error {
		got, err := get(port, path)
		if err == nil && got != want {
			return fmt.Errorf("it serves %q", got)
		}
		return err
	})
}

// containers are the IDs of a deployment's containers by their names in the score.
func (w *world) containers(name string) map[string]string {
	w.Helper()
	out, err := w.podman.Run("ps", "--all", "--no-trunc", "--filter", "label=fleet.nationtech.io/deployment="+name,
		"--filter", "label=fleet.nationtech.io/container", "--format", `{{index .Labels "fleet.nationtech.io/container"}} {{.ID}}`)
	must(w.T, err)
	all := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 2 {
			all[f[0]] = f[1]
		}
	}
	return all
}

func (w *world) left(name string) string {
	w.Helper()
	all := ""
	for _, what := range [][]string{{"ps", "--all"}, {"pod", "ps"}, {"volume", "ls"}} {
		out, err := w.podman.Run(append(what, "--quiet", "--filter", "label=fleet.nationtech.io/deployment="+name)...)
		must(w.T, err)
		all += strings.TrimSpace(string(out))
	}
	return all
}

// TestOnARealPodman is one device's life. The parts need each other's state only
// where they say so; starting a podman for each would take a minute.
func TestOnARealPodman(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("life", func(t *testing.T) { life(newWorld(t)) })
}

// undo has the device go back from revisions that don't get healthy. It leaves d
// running.
func undo(w *world, d contracts.DesiredState, two func(front, back string) contracts.PodmanScore) {
	t := w.T
	before := w.containers("shop")
	rolledBack := func(d contracts.DesiredState, reason string) contracts.DeploymentState {
		t.Helper()
		return w.reports(d, "rolled back", func(s contracts.DeploymentState) bool {
			return s.Phase == contracts.PhaseRolledBack && s.Reason == reason
		})
	}
	// One that is never ready.
	unwell := two("unwell", "one")
	unwell.Containers[0].Env = append(unwell.Containers[0].Env, contracts.EnvVar{Name: "READY", Value: "false"})
	bad := w.tellWithin("shop", unwell, 2)
	s := rolledBack(bad, "ProbeFailed")
	if !strings.Contains(s.Message, "not healthy within 2s") || !strings.Contains(s.Log, "says unwell") {
		t.Errorf("it says %q, and the log ends with %q", s.Message, s.Log)
	}
	w.serves(8080, "/", "two")
	after := w.containers("shop")
	if after["back"] != before["back"] {
		t.Errorf("containers %v, before %v", after, before)
	}
	// It is not tried again, not by another agent either.
	w.restart()
	w.eventually("the agent has looked", func() error {
		if strings.Count(w.log.String(), "going on with what the device was told before") < 2 {
			return errors.New("it has not")
		}
		return nil
	})
	rolledBack(w.tellWithin("shop", unwell, 3), "ProbeFailed")
	if again := w.containers("shop"); !maps.Equal(again, after) {
		t.Errorf("containers %v, before %v", again, after)
	}
	// An image that can't be had stops nothing, and is given up all the same.
	missing := two("missing", "one")
	missing.Containers[0].Image = "127.0.0.1:1/no/such:image"
	rolledBack(w.tellWithin("shop", missing, 8), "ImagePullFailed")
	if again := w.containers("shop"); !maps.Equal(again, after) {
		t.Errorf("containers %v, before %v", again, after)
	}
	// Told what was healthy, it has nothing to do.
	w.runs(w.tell("shop", two("two", "one")))
	if again := w.containers("shop"); !maps.Equal(again, after) {
		t.Errorf("containers %v, before %v", again, after)
	}
	// What was given up is another try when something else was told in between.
	rolledBack(w.tellWithin("shop", unwell, 2), "ProbeFailed")
	// Without anything to go back to it fails, and goes on trying.
	alone := contracts.PodmanScore{Containers: []contracts.Container{serving("only", 8095, "alone")}}
	alone.Containers[0].Env = append(alone.Containers[0].Env, contracts.EnvVar{Name: "READY", Value: "false"})
	first := w.tellWithin("first", alone, 3) // within which it says something
	f := w.fails(first, "ProbeFailed")
	if !strings.Contains(f.Log, "says alone") {
		t.Errorf("the log ends with %q", f.Log)
	}
	_, err := get(8095, "/set?ready=true")
	must(t, err)
	w.runs(first)
	w.withdraw("first")
	w.reports(first, "removed", func(s contracts.DeploymentState) bool { return s.Phase == contracts.PhaseRemoved })
	w.runs(w.tell("shop", two("two", "one")))
}

func life(w *world) {
	t := w.T
	two := func(front, back string) contracts.PodmanScore {
		return contracts.PodmanScore{Containers: []contracts.Container{serving("front", 8080, front), serving("back", 8081, back)}}
	}
	d := w.tell("shop", two("one", "one"))
	state := w.runs(d)
	w.serves(8080, "/", "one")
	w.serves(8081, "/", "one")
	if len(state.Containers) != 2 || !state.Containers[0].Ready || state.Containers[0].ID == "" {
		t.Errorf("it reports %+v", state.Containers)
	}
	other := w.tell("other", contracts.PodmanScore{Containers: []contracts.Container{serving("only", 8082, "other")}})
	w.runs(other)
	others := w.containers("other")

	// A change of one container leaves the other alone.
	before := w.containers("shop")
	d = w.tell("shop", two("two", "one"))
	w.runs(d)
	w.serves(8080, "/", "two")
	after := w.containers("shop")
	if after["back"] != before["back"] || after["front"] == before["front"] {
		t.Errorf("containers %v, before %v", after, before)
	}

	// What is removed or stopped by hand comes back, and is counted.
	drifts := w.runs(d).Drifts
	_, err := w.podman.Run("rm", "--force", "--time", "0", after["front"])
	must(t, err)
	w.reports(d, "put right after a removal", func(s contracts.DeploymentState) bool {
		return s.Phase == contracts.PhaseRunning && s.Drifts == drifts+1
	})
	w.serves(8080, "/", "two")
	// Who stopped it is not always known: when conmon's clean-up overtakes the stop,
	// podman tells only that the container has ended (libpod, container_internal.go,
	// stop: "another process interfered"). Then it counts as a restart; and where the
	// agent was faster still, the stop ends the container that it has started again, and
	// each counts.
	handled := w.runs(d)
	_, err = w.podman.Run("stop", "--time", "1", w.containers("shop")["back"])
	must(t, err)
	w.reports(d, "put right after a stop", func(s contracts.DeploymentState) bool {
		return s.Phase == contracts.PhaseRunning && s.Drifts+s.Restarts > handled.Drifts+handled.Restarts
	})
	w.serves(8081, "/", "one")

	// One that ends by itself is started again.
	handled = w.runs(d)
	_, _ = get(8080, "/exit?code=3") // it ends before it answers
	w.reports(d, "started again", func(s contracts.DeploymentState) bool {
		return s.Phase == contracts.PhaseRunning && s.Restarts > 0 && s.Drifts+s.Restarts > handled.Drifts+handled.Restarts
	})
	w.serves(8080, "/", "two")

	// A container that is not ready any more is told of, and recovers.
	_, err = get(8081, "/set?ready=false")
	must(t, err)
	w.reports(d, "degraded", func(s contracts.DeploymentState) bool { return s.Phase == contracts.PhaseDegraded })
	_, err = get(8081, "/set?ready=true")
	must(t, err)
	w.runs(d)

	undo(w, d, two)

	// An image that is not to be had leaves the old running.
	before = w.containers("shop")
	bad := two("three", "one")
	bad.Containers[0].Image = "127.0.0.1:1/no/such:image"
	w.fails(w.tell("shop", bad), "ImagePullFailed")
	w.serves(8080, "/", "two")
	if after := w.containers("shop"); !maps.Equal(after, before) {
		t.Errorf("containers %v, before %v", after, before)
	}
	// What runs is seen to all the same: one that ends, one that is removed, and all
	// of it when a reboot has ended it.
	_, _ = get(8080, "/exit?code=3")
	w.serves(8080, "/", "two")
	_, err = w.podman.Run("rm", "--force", "--time", "0", before["back"])
	must(t, err)
	w.serves(8081, "/", "one")
	pods, err := w.podman.Run("pod", "ls", "--quiet", "--filter", "label=fleet.nationtech.io/deployment=shop")
	must(t, err)
	_, err = w.podman.Run("pod", "kill", strings.TrimSpace(string(pods)))
	must(t, err)
	w.serves(8080, "/", "two")
	w.serves(8081, "/", "one")
	before["back"] = w.containers("shop")["back"]
	d = w.tell("shop", two("two", "one"))
	w.runs(d)
	if after := w.containers("shop"); !maps.Equal(after, before) {
		t.Errorf("containers %v, before %v", after, before)
	}

	// An image that is pulled for every container, without the registry: the device
	// goes on with what it has run before.
	always := two("two", "one")
	for i := range always.Containers {
		always.Containers[i].PullPolicy = "Always"
	}
	d = w.tell("shop", always)
	w.runs(d)
	_, err = w.podman.Run("rm", "--force", "--time", "0", before["front"])
	must(t, err)
	w.serves(8080, "/", "two")
	w.runs(d)
	d = w.tell("shop", two("two", "one"))
	w.runs(d)

	// A port that somebody has.
	listener, err := net.Listen("tcp", hostIP+":8090")
	must(t, err)
	taken := w.tell("taken", contracts.PodmanScore{Containers: []contracts.Container{serving("web", 8090, "mine")}})
	if s := w.fails(taken, "PortInUse"); !strings.Contains(s.Message, "8090") {
		t.Errorf("it says %q", s.Message)
	}
	must(t, listener.Close())
	w.runs(taken)
	w.serves(8090, "/", "mine")
	w.withdraw("taken")
	w.reports(taken, "removed", func(s contracts.DeploymentState) bool { return s.Phase == contracts.PhaseRemoved })

	// Files, init containers, volumes that containers share, and claims.
	files := []contracts.File{{Path: "a/b.txt", Mode: 0o644, Data: []byte("from a ConfigMap")}}
	full := contracts.PodmanScore{
		InitContainers: []contracts.Container{{Name: "prepare", Image: image, PullPolicy: "Never", Args: []string{"write", "/scratch/x", "from init"},
			Mounts: []contracts.Mount{{Volume: "scratch", Path: "/scratch"}}}},
		Containers: []contracts.Container{serving("web", 8091, "full")},
		Volumes: []contracts.Volume{
			{Name: "files", Files: &files}, {Name: "scratch", EmptyDir: &contracts.EmptyDir{}}, {Name: "keep", Claim: "till-data"}},
	}
	full.Containers[0].Mounts = []contracts.Mount{{Volume: "files", Path: "/files", ReadOnly: true}, {Volume: "scratch", Path: "/scratch"}, {Volume: "keep", Path: "/keep"}}
	f := w.tell("full", full)
	w.runs(f)
	w.serves(8091, "/file?path=/files/a/b.txt", "from a ConfigMap")
	w.serves(8091, "/file?path=/scratch/x", "from init")
	files = []contracts.File{{Path: "a/b.txt", Mode: 0o644, Data: []byte("changed")}}
	f = w.tell("full", full)
	w.runs(f)
	w.serves(8091, "/file?path=/files/a/b.txt", "changed")
	w.withdraw("full")
	w.reports(f, "removed", func(s contracts.DeploymentState) bool { return s.Phase == contracts.PhaseRemoved })
	if left := w.left("full"); left != "" {
		t.Errorf("left of what was removed: %s", left)
	}
	if _, err := w.podman.Run("volume", "inspect", "till-data"); err != nil {
		t.Errorf("the claim went with its deployment: %v", err)
	}

	// A score that this device has no driver for.
	score := contracts.ReconcileScore{Kubernetes: &contracts.KubernetesScore{Manifests: []json.RawMessage{json.RawMessage(`{}`)}}}
	none := contracts.DesiredState{Deployment: "none", Namespace: "shops", Revision: "none-1", Digest: score.Digest(), Score: score, Issued: w.nextIssued(), Time: time.Now().UTC()}
	w.put(none)
	w.fails(none, "DriverNotAvailable")
	w.withdraw("none")

	// A value that can't be read changes nothing.
	before = w.containers("shop")
	_, err = w.js.Publish(t.Context(), contracts.BucketDesiredState.Subject(string(device)+".shop"), []byte(`{"v":99}`))
	must(t, err)
	w.eventually("the log names the value", func() error {
		if !strings.Contains(w.log.String(), "version 99 of the value is not supported") {
			return errors.New("it does not")
		}
		return nil
	})
	d = w.tell("shop", two("two", "one"))
	w.runs(d)

	// Restarts of podman's service and of the agent touch no container.
	must(t, w.podman.StopService())
	must(t, w.podman.StartService(t.Context()))
	w.restart()
	w.eventually("the agent is connected again", func() error {
		s, err := status.Gather(w.config)
		if err == nil && (s.Agent == nil || !s.Agent.Connected || !s.Running) {
			return fmt.Errorf("agent %+v", s.Agent)
		}
		return err
	})
	d = w.tell("shop", two("two", "one"))
	w.runs(d)
	if after := w.containers("shop"); !maps.Equal(after, before) {
		t.Errorf("containers %v, before %v", after, before)
	}

	// Without NATS it runs what it last knew, and what is told meanwhile comes later.
	w.stop()
	w.stopNATS()
	_, err = w.podman.Run("rm", "--force", "--time", "0", before["front"])
	must(t, err)
	w.stop = w.run()
	w.serves(8080, "/", "two")
	if after := w.containers("shop"); after["back"] != before["back"] {
		t.Errorf("containers %v, before %v", after, before)
	}
	w.startNATS()
	w.eventually("the operator is connected again", func() error {
		if !w.js.Conn().IsConnected() {
			return errors.New("it is not")
		}
		return nil
	})
	d = w.tell("shop", two("four", "one"))
	w.runs(d)
	w.serves(8080, "/", "four")
	if after := w.containers("other"); !maps.Equal(after, others) {
		t.Errorf("containers of the other deployment %v, before %v", after, others)
	}

	// Told no longer while the agent is away.
	w.stop()
	w.withdraw("shop")
	w.withdraw("other")
	w.stop = w.run()
	for _, name := range []string{"shop", "other"} {
		w.eventually("nothing is left of "+name, func() error {
			if left := w.left(name); left != "" {
				return errors.New(left)
			}
			return nil
		})
	}
	w.eventually("records are gone", func() error {
		s, err := status.Gather(w.config)
		if err == nil && len(s.Deployments) > 0 {
			return fmt.Errorf("there are %+v", s.Deployments)
		}
		return err
	})
}
