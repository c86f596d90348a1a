// Package e2e goes the demo's way with assertions: a Git push through Flux, the
// real API server, the operator, NATS and the agents to containers of three real
// podmans, and everything on the way killed in between.
package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/test/env"
)

// limit is how long the fleet may take to settle after whatever was done to it.
const limit = 60 * time.Second

// suite is one fleet that the tests below use one after the other.
type suite struct {
	*testing.T
	*env.Fleet
	greeting string
}

// newSuite brings up a fleet of three devices with a podman each, and of others that
// are simulated. What is to be arranged otherwise is, before anything runs.
func newSuite(t *testing.T, simulated int, arrange ...func(*env.Fleet)) *suite {
	t.Helper()
	fleet := newFleet(t, "shop-1", "shop-2", "shop-3")
	fleet.Devices[0].Commands = map[string]string{"exec": "allow"}
	fleet.Devices[2].Commands = map[string]string{"ping": "deny", "logs": "deny", "restart": "deny"}
	for _, a := range arrange {
		a(fleet)
	}
	if err := fleet.Simulate(simulated); err != nil {
		t.Fatal(err)
	}
	s := &suite{T: t, Fleet: fleet, greeting: "Hello from the field"}
	s.bringUp()
	return s
}

// newFleet prepares a fleet of devices, and takes it down when the test ends.
func newFleet(t *testing.T, devices ...string) *env.Fleet {
	t.Helper()
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"controlplane", "fleet-operator", "fleet-agent", "kubectl", "kubectl-fleet", "hello"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			t.Fatalf("%s is not built, run `make test`: %v", name, err)
		}
	}
	// Not t.TempDir: the paths of unix sockets below it would be too long.
	dir, err := os.MkdirTemp("", "fleet-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	fleet, err := env.New(env.Options{Dir: dir, Bin: bin}, devices...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := fleet.Close(); err != nil {
			t.Errorf("take the fleet down: %v", err)
		}
		if t.Failed() {
			t.Logf("the logs stay in %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return fleet
}

// step is one part of what a test does with its fleet.
type step struct {
	name string
	run  func(*suite)
}

// steps does one after the other: each finds the fleet as the one before leaves it.
func (s *suite) steps(steps ...step) {
	for _, step := range steps {
		if !s.Run(step.name, func(t *testing.T) {
			sub := *s
			sub.T = t
			defer func() { s.greeting = sub.greeting }()
			step.run(&sub)
		}) {
			s.Fatal("the tests after this one need the fleet as it leaves it")
		}
	}
}

func TestFleet(t *testing.T) {
	newSuite(t, 0).steps(
		step{"a push changes the containers of the changed Deployment and no others", (*suite).changesOnlyWhatChanged},
		step{"the live API shows devices and placements to plain kubectl", (*suite).asKubectlSees},
		step{"devices obey ping, logs, exec and restart as far as they allow it", (*suite).commanded},
		step{"each role may do what it may, and who did is on record", (*suite).rights},
		step{"a team's repository reaches the team's namespace alone", (*suite).tenant},
		step{"a ConfigMap in Git is rolled out like an image", (*suite).configMap},
		step{"a container removed by hand comes back", (*suite).removedByHand},
		step{"the operator killed during a change", (*suite).operatorKilled},
		step{"an agent killed during a change", (*suite).agentKilled},
		step{"NATS killed during a change", (*suite).natsKilled},
		step{"everything killed during a change", (*suite).everythingKilled},
		step{"an agent restart restarts no container", (*suite).agentRestart},
		step{"an agent started with NATS down runs what it last knew", (*suite).agentWithoutNATS},
		step{"an image that can't be pulled", (*suite).badImage},
		step{"a port already taken", (*suite).portTaken},
		step{"an overlay that doesn't build", (*suite).badOverlay},
		step{"a field that the schema doesn't know, and two scores at once", (*suite).badSpec},
		step{"a device ID already in use", (*suite).duplicateID},
		step{"malformed values in every bucket", (*suite).malformed},
		step{"a cordoned device keeps what it runs", (*suite).cordoned},
		step{"a Deployment deleted in Git leaves no container", (*suite).deleted},
	)
}

func (s *suite) must(what string, err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

func (s *suite) bringUp() {
	ctx := s.Context()
	s.must("start the control plane", s.StartControlPlane(ctx))
	s.must("install the operator", s.InstallOperator(ctx, "../../manifests"))
	var image string
	for _, v := range []string{"v3", "v2", "v1"} {
		var err error
		image, err = s.PushHello(ctx, v)
		s.must("push an image", err)
	}
	s.must("scaffold", s.Scaffold(ctx, image))
	_, err := s.Repository.Push(ctx, "Begin the fleet")
	s.must("push", err)
	s.must("sync", s.Sync(ctx))
	s.must("have the devices join", s.JoinDevices(ctx))
	s.must("serve", s.AllServe(ctx, "v1"))
	s.ready("hello")
	s.ready("signage")
}

// containers are the IDs of the containers of a Deployment by device, the pod's
// own left out.
func (s *suite) containers(deployment string) map[string]string {
	s.Helper()
	out := map[string]string{}
	for _, d := range s.Devices {
		raw, err := d.Podman.Run("ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Image}}",
			"--filter", "label=fleet.nationtech.io/deployment="+deployment, "--filter", "label=fleet.nationtech.io/container")
		s.must("list containers", err)
		ids := []string{}
		for line := range strings.Lines(string(raw)) {
			ids = append(ids, strings.Fields(line)[0])
		}
		slices.Sort(ids)
		if len(ids) > 0 {
			out[d.ID] = strings.Join(ids, " ")
		}
	}
	return out
}

// same checks that a Deployment's containers are still those.
func (s *suite) same(deployment string, before map[string]string) {
	s.Helper()
	if after := s.containers(deployment); !maps.Equal(before, after) {
		s.Errorf("containers of %s were replaced without need: %v, before %v", deployment, after, before)
	}
}

func (s *suite) deployment(name string) *v1alpha1.Deployment {
	s.Helper()
	d := &v1alpha1.Deployment{}
	s.must("get Deployment "+name, s.Client.Get(s.Context(), client.ObjectKey{Namespace: env.Namespace, Name: name}, d))
	return d
}

// until waits for a state of a Deployment.
func (s *suite) until(name, what string, check func(*v1alpha1.Deployment) bool) {
	s.Helper()
	s.must("wait", env.Until(s.Context(), limit, "Deployment "+name+" "+what, func(ctx context.Context) error {
		d := &v1alpha1.Deployment{}
		if err := s.Client.Get(ctx, client.ObjectKey{Namespace: env.Namespace, Name: name}, d); err != nil {
			return err
		}
		if d.Status.ObservedGeneration != d.Generation || !check(d) {
			return fmt.Errorf("generation %d, status %+v", d.Generation, d.Status)
		}
		return nil
	}))
}

// ready waits until a Deployment is rolled out to all of its devices.
func (s *suite) ready(name string) {
	s.Helper()
	s.until(name, "ready", func(d *v1alpha1.Deployment) bool {
		a := d.Status.Aggregate
		return a != nil && a.Matched > 0 && a.Succeeded == a.Matched && meta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionReady)
	})
}

// greet pushes a new greeting, which changes hello and nothing else.
func (s *suite) greet(greeting string) {
	s.Helper()
	s.must("edit", s.Repository.Edit(env.Overlay+"/kustomization.yaml", "GREETING="+s.greeting, "GREETING="+greeting))
	s.greeting = greeting
	_, err := s.Repository.Push(s.Context(), "Say "+greeting)
	s.must("push", err)
}

// greets waits until every device greets as Git says.
func (s *suite) greets() {
	s.Helper()
	for _, d := range s.Devices {
		s.must("wait", env.Until(s.Context(), limit, d.ID+" greets", func(ctx context.Context) error {
			g, err := d.Greet(ctx)
			if err == nil && g.Greeting != s.greeting {
				return fmt.Errorf("it says %q, want %q; log %s", g.Greeting, s.greeting, d.Agent.Log)
			}
			return err
		}))
	}
	s.ready("hello")
}

// applied waits until Flux has applied what was pushed last.
func (s *suite) applied(generation int64) {
	s.Helper()
	s.must("wait", env.Until(s.Context(), limit, "Flux applies the change", func(ctx context.Context) error {
		d := &v1alpha1.Deployment{}
		if err := s.Client.Get(ctx, client.ObjectKey{Namespace: env.Namespace, Name: "hello"}, d); err != nil {
			return err
		}
		if d.Generation == generation {
			return fmt.Errorf("still generation %d", generation)
		}
		return nil
	}))
}

func (s *suite) changesOnlyWhatChanged() {
	hello, signage := s.containers("hello"), s.containers("signage")
	if len(hello) != 3 || len(signage) != 1 {
		s.Fatalf("hello runs on %d devices and signage on %d, want 3 and 1", len(hello), len(signage))
	}
	delivery, err := s.Deliver(s.Context(), "v1", "v2")
	s.must("deliver", err)
	s.Logf("from git push to all containers: %s", delivery.Total)
	for id, was := range hello {
		if s.containers("hello")[id] == was {
			s.Errorf("the container of hello on %s is the old one", id)
		}
	}
	s.same("signage", signage)
	if got := s.deployment("hello").Status.Source; got == nil || got.Commit != delivery.Commit || got.Kustomization != env.Namespace+"/shops-field" {
		s.Errorf("status.source is %+v, want commit %s", got, delivery.Commit)
	}
	out, err := s.Kubectl(s.Context(), "rollout", "status", "hello", "--namespace", env.Namespace)
	s.must("rollout status", err)
	if !strings.Contains(out, "3") {
		s.Errorf("rollout status says\n%s", out)
	}
}

func (s *suite) configMap() {
	signage := s.containers("signage")
	s.greet("Good morning")
	s.greets()
	s.same("signage", signage)
}

func (s *suite) removedByHand() {
	others := s.containers("signage")
	device := s.Devices[1]
	before := s.containers("hello")
	_, err := device.Podman.Run("rm", "--force", "--time", "0", before[device.ID])
	s.must("remove a container", err)
	s.must("wait", env.Until(s.Context(), limit, "the container is back", func(ctx context.Context) error {
		if now := s.containers("hello")[device.ID]; now == "" || now == before[device.ID] {
			return fmt.Errorf("there is %q", now)
		}
		_, err := device.Greet(ctx)
		return err
	}))
	after := s.containers("hello")
	for _, id := range []string{"shop-1", "shop-3"} {
		if after[id] != before[id] {
			s.Errorf("the container of %s was replaced as well", id)
		}
	}
	s.same("signage", others)
	s.until("hello", "counts the drift", func(d *v1alpha1.Deployment) bool {
		return d.Status.Aggregate.Drifted == 1 && d.Status.Aggregate.Succeeded == 3
	})
}

func (s *suite) operatorKilled() {
	signage, generation := s.containers("signage"), s.deployment("hello").Generation
	s.greet("The operator died")
	s.applied(generation)
	s.Operator.Kill()
	s.must("start the operator", s.StartOperator(s.Context()))
	s.greets()
	s.same("signage", signage)
}

func (s *suite) agentKilled() {
	signage, generation := s.containers("signage"), s.deployment("hello").Generation
	s.greet("An agent died")
	s.applied(generation)
	s.Devices[0].Agent.Kill()
	s.must("start the agent", s.Devices[0].Agent.Start())
	s.greets()
	s.same("signage", signage)
}

func (s *suite) natsKilled() {
	signage, generation := s.containers("signage"), s.deployment("hello").Generation
	s.greet("NATS died")
	s.applied(generation)
	s.must("kill NATS", s.ControlPlane.Control(s.Context(), "kill", "nats"))
	s.greets()
	s.same("signage", signage)
}

func (s *suite) everythingKilled() {
	signage := s.containers("signage")
	s.greet("All died")
	s.Operator.Kill()
	for _, d := range s.Devices {
		d.Agent.Kill()
	}
	for _, component := range []string{"nats", "kube-apiserver", "etcd"} {
		s.must("kill "+component, s.ControlPlane.Control(s.Context(), "kill", component))
	}
	for _, d := range s.Devices {
		s.must("start the agent", d.Agent.Start())
	}
	s.must("start the operator", env.Until(s.Context(), limit, "the operator starts", func(ctx context.Context) error {
		// It ends when it can't reach the API server, as a pod does, and is started again.
		if s.Operator.Running() {
			return nil
		}
		s.Operator.Kill()
		return s.StartOperator(ctx)
	}))
	s.greets()
	s.same("signage", signage)
}

func (s *suite) agentRestart() {
	hello, signage := s.containers("hello"), s.containers("signage")
	for _, d := range s.Devices {
		d.Agent.Stop(10 * time.Second)
		s.must("start the agent", d.Agent.Start())
	}
	// A container left alone looks the same before an agent has looked and after.
	// So each has to report of a revision that is new since its start. It changes a
	// probe, which is the agent's alone to carry out and needs no new container.
	before := map[string]string{}
	for _, name := range []string{"hello", "signage"} {
		before[name] = s.deployment(name).Status.UpdateRevision
		s.must("edit", s.Repository.Edit("base/"+name+".yaml", "periodSeconds: 1\n", "periodSeconds: 2\n"))
	}
	s.push("Probe less often")
	for name, revision := range before {
		s.until(name, "rolls the probe out", func(d *v1alpha1.Deployment) bool { return d.Status.UpdateRevision != revision })
		s.ready(name)
	}
	s.greets()
	s.same("hello", hello)
	s.same("signage", signage)
}

func (s *suite) agentWithoutNATS() {
	hello, signage := s.containers("hello"), s.containers("signage")
	device := s.Devices[0]
	device.Agent.Stop(10 * time.Second)
	s.must("stop NATS", s.ControlPlane.Control(s.Context(), "stop", "nats"))
	_, err := device.Podman.Run("rm", "--force", "--time", "0", hello[device.ID])
	s.must("remove a container", err)
	s.must("start the agent", device.Agent.Start())
	s.must("wait", env.Until(s.Context(), limit, "the device runs what it last knew", func(ctx context.Context) error {
		g, err := device.Greet(ctx)
		if err == nil && g.Greeting != s.greeting {
			return fmt.Errorf("it says %q", g.Greeting)
		}
		return err
	}))
	s.same("signage", signage)
	// What is pushed meanwhile arrives when NATS is back.
	s.greet("NATS is back")
	s.must("start NATS", s.ControlPlane.Control(s.Context(), "start", "nats"))
	s.greets()
	s.same("signage", signage)
}
