package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/env"
)

// says waits until `kubectl fleet status` says something.
func (s *suite) says(want ...string) {
	s.Helper()
	s.must("wait", env.Until(s.Context(), limit, "kubectl fleet status says it", func(ctx context.Context) error {
		out, err := s.Kubectl(ctx, "status", "--namespace", env.Namespace)
		if err != nil {
			return err
		}
		for _, w := range want {
			if !strings.Contains(out, w) {
				return fmt.Errorf("%q is not in\n%s", w, out)
			}
		}
		return nil
	}))
}

// push commits and pushes what was edited, and returns the commit.
func (s *suite) push(message string) string {
	s.Helper()
	commit, err := s.Repository.Push(s.Context(), message)
	s.must("push", err)
	return commit
}

// well waits until a commit is applied and `kubectl fleet status` finds nothing
// wrong. While Flux works on a commit, nothing is wrong yet.
func (s *suite) well(commit string) {
	s.Helper()
	s.must("wait", env.Until(s.Context(), limit, "status is well again", func(ctx context.Context) error {
		out, err := s.Kubectl(ctx, "status", "--namespace", env.Namespace, "--exit-code")
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		if applied := "applied " + commit[:7]; !strings.Contains(out, applied) {
			return fmt.Errorf("%q is not in\n%s", applied, out)
		}
		return nil
	}))
}

// logs waits until a process has written all the words to its log.
func (s *suite) logs(p *env.Process, want ...string) {
	s.Helper()
	s.must("wait", env.Until(s.Context(), limit, p.Name+" logs it", func(context.Context) error {
		log, err := os.ReadFile(p.Log)
		if err != nil {
			return err
		}
		for _, w := range want {
			if !strings.Contains(string(log), w) {
				return fmt.Errorf("%q is not in %s", w, p.Log)
			}
		}
		return nil
	}))
}

func (s *suite) badImage() {
	before, signage := s.containers("hello"), s.containers("signage")
	s.must("edit", s.Repository.Edit(env.Overlay+"/kustomization.yaml", "newTag: v2", "newTag: no-such-version"))
	s.push("Roll out what does not exist")
	s.until("hello", "stalled", func(d *v1alpha1.Deployment) bool {
		return meta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionStalled) && d.Status.Aggregate.Failed == 3 &&
			len(d.Status.Failures) == 3 && d.Status.Failures[0].Reason == "ImagePullFailed"
	})
	s.says("ImagePullFailed", "no-such-version")
	// The old version goes on serving.
	for _, d := range s.Devices {
		g, err := d.Greet(s.Context())
		s.must("greet", err)
		if g.Version != "v2" {
			s.Errorf("%s serves %s", d.ID, g.Version)
		}
	}
	s.same("hello", before)
	s.same("signage", signage)
	s.must("edit", s.Repository.Edit(env.Overlay+"/kustomization.yaml", "newTag: no-such-version", "newTag: v2"))
	s.push("Go back to what exists")
	s.ready("hello")
	s.same("hello", before)
}

const portTaken = `apiVersion: fleet.nationtech.io/v1alpha1
kind: Deployment
metadata:
  name: taken
spec:
  targetSelector:
    matchLabels:
      display: attached
  score:
    podman:
      containers:
      - name: taken
        image: %s
        ports:
        - containerPort: 8080
          hostPort: %d
`

func (s *suite) portTaken() {
	hello, signage := s.containers("hello"), s.containers("signage")
	port := s.SparePort()
	listener, err := net.Listen("tcp", fmt.Sprintf("%s:%d", s.Devices[0].HostIP, port))
	s.must("take the port", err)
	s.must("write", s.Repository.Write(env.Overlay+"/taken.yaml", fmt.Sprintf(portTaken, s.ControlPlane.Registry+"/hello:v3", port)))
	s.must("edit", s.Repository.Edit(env.Overlay+"/kustomization.yaml", "- devices.yaml\n", "- devices.yaml\n- taken.yaml\n"))
	s.push("Want a port that is taken")
	s.until("taken", "fails", func(d *v1alpha1.Deployment) bool {
		return len(d.Status.Failures) == 1 && d.Status.Failures[0].Reason == "PortInUse"
	})
	s.says("PortInUse", fmt.Sprint(port))
	s.must("free the port", listener.Close())
	s.ready("taken")
	s.must("edit", s.Repository.Edit(env.Overlay+"/kustomization.yaml", "- taken.yaml\n", ""))
	s.must("remove", s.Repository.Remove(env.Overlay+"/taken.yaml"))
	s.push("Give the port back")
	s.gone("taken")
	s.same("hello", hello)
	s.same("signage", signage)
}

// gone waits until nothing is left of a Deployment.
func (s *suite) gone(name string) {
	s.Helper()
	s.must("wait", env.Until(s.Context(), limit, name+" is gone", func(ctx context.Context) error {
		d := &v1alpha1.Deployment{}
		if err := s.Client.Get(ctx, client.ObjectKey{Namespace: env.Namespace, Name: name}, d); client.IgnoreNotFound(err) != nil || err == nil {
			return fmt.Errorf("Deployment %s is still there (%w)", name, err)
		}
		for _, device := range s.Devices {
			for _, what := range [][]string{{"ps", "--all"}, {"pod", "ps"}, {"volume", "ls"}} {
				out, err := device.Podman.Run(append(what, "--quiet", "--filter", "label=fleet.nationtech.io/deployment="+name)...)
				if err != nil {
					return err
				}
				if left := strings.TrimSpace(string(out)); left != "" {
					return fmt.Errorf("%s still has %v %s", device.ID, what, left)
				}
			}
		}
		return nil
	}))
}

func (s *suite) badOverlay() {
	hello := s.containers("hello")
	s.must("edit", s.Repository.Edit(env.Overlay+"/kustomization.yaml", "- devices.yaml\n", "- devices.yaml\n- no-such-file.yaml\n"))
	if out, err := s.validate(); err == nil || !strings.Contains(out+err.Error(), "no-such-file.yaml") {
		s.Errorf("repo validate: %v\n%s", err, out)
	}
	s.push("Refer to a file that is not there")
	s.says("no-such-file.yaml")
	s.same("hello", hello)
	s.must("edit", s.Repository.Edit(env.Overlay+"/kustomization.yaml", "- no-such-file.yaml\n", ""))
	s.greet("It builds again")
	s.greets()
}

// validate runs `kubectl fleet repo validate` in the repository.
func (s *suite) validate() (string, error) {
	return s.Kubectl(s.Context(), "repo", "validate", s.Repository.Dir)
}

func (s *suite) badSpec() {
	hello := s.containers("hello")
	for _, c := range []struct{ name, old, new, want string }{
		{"an unknown field", "      containers:\n      - name: hello\n", "      contaners: []\n      containers:\n      - name: hello\n", "contaners"},
		{"two scores at once", "  score:\n", "  score:\n    kubernetes: {manifests: [{apiVersion: v1, kind: Namespace, metadata: {name: x}}]}\n", "exactly one of podman, kubernetes and kvm"},
	} {
		s.must("edit", s.Repository.Edit("base/hello.yaml", c.old, c.new))
		if out, err := s.validate(); err == nil || !strings.Contains(err.Error()+out, c.want) || !strings.Contains(err.Error()+out, "base/hello.yaml") {
			s.Errorf("%s: repo validate says %v\n%s", c.name, err, out)
		}
		s.push("Have " + c.name)
		s.says(c.want)
		s.same("hello", hello)
		s.must("edit", s.Repository.Edit("base/hello.yaml", c.new, c.old))
		s.well(s.push("Have no " + c.name))
	}
	s.same("hello", hello)
}

func (s *suite) duplicateID() {
	ctx := s.Context()
	hello := s.containers("hello")
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "elsewhere"}}
	s.must("make a namespace", s.Client.Create(ctx, namespace))
	second := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: "elsewhere", Name: "shop-1"}}
	second.Spec.Approved = new(true)
	s.must("make a Device", s.Client.Create(ctx, second))
	s.must("wait", env.Until(ctx, limit, "the second Device is refused", func(ctx context.Context) error {
		if err := s.Client.Get(ctx, client.ObjectKeyFromObject(second), second); err != nil {
			return err
		}
		c := meta.FindStatusCondition(second.Status.Conditions, v1alpha1.ConditionReady)
		if c == nil || c.Reason != v1alpha1.ReasonDuplicateID || !strings.Contains(c.Message, env.Namespace+"/shop-1") {
			return fmt.Errorf("conditions %+v", second.Status.Conditions)
		}
		return nil
	}))
	s.event("elsewhere", v1alpha1.ReasonDuplicateID)
	s.must("delete the namespace", s.Client.Delete(ctx, namespace))
	s.must("wait", env.Until(ctx, limit, "the namespace is gone", func(ctx context.Context) error {
		err := s.Client.Get(ctx, client.ObjectKeyFromObject(namespace), namespace)
		if err == nil {
			return fmt.Errorf("it is %s", namespace.Status.Phase)
		}
		return client.IgnoreNotFound(err)
	}))
	s.ready("hello")
	s.same("hello", hello)
}

// event waits for a Warning in a namespace.
func (s *suite) event(namespace, reason string) {
	s.Helper()
	s.must("wait", env.Until(s.Context(), limit, "an event "+reason, func(ctx context.Context) error {
		events := &corev1.EventList{}
		if err := s.Client.List(ctx, events, client.InNamespace(namespace)); err != nil {
			return err
		}
		var seen []string
		for _, e := range events.Items {
			if e.Reason == reason && e.Type == corev1.EventTypeWarning {
				return nil
			}
			seen = append(seen, e.Reason)
		}
		return fmt.Errorf("there are only %v", seen)
	}))
}

func (s *suite) malformed() {
	hello, signage := s.containers("hello"), s.containers("signage")
	nc, err := bus.Connect(bus.Options{URL: s.ControlPlane.NATS, SeedFile: s.OperatorSeed(), CAFile: s.CAFile(), Name: "e2e"})
	s.must("connect", err)
	defer nc.Close()
	js, err := bus.JetStream(nc)
	s.must("connect", err)
	for _, key := range []struct {
		bucket contracts.Bucket
		key    string
	}{
		{contracts.BucketDesiredState, "shop-1.hello"},
		{contracts.BucketDesiredState, "shop-1.stranger"},
		{contracts.BucketDeviceState, "state.shop-2.hello"},
		{contracts.BucketDeviceInfo, "info.shop-3"},
		{contracts.BucketDeviceHeartbeat, "heartbeat.shop-3"},
		{contracts.BucketDeviceHeartbeat, "heartbeat.Not_A_Label"},
	} {
		for _, value := range []string{"", "{", `{"v":99}`, `{"v":1,"phase":"Happy"}`} {
			s.must("wait for NATS", env.Until(s.Context(), limit, "write to "+key.key, func(ctx context.Context) error {
				_, err := js.Publish(ctx, key.bucket.Subject(key.key), []byte(value))
				return err
			}))
		}
	}
	s.event(env.Namespace, "MalformedValue")
	s.logs(s.Operator, "malformed value on the bus", "heartbeat.Not_A_Label")
	s.logs(s.Devices[0].Agent, "refused an order")
	s.greet("Nonsense is survived")
	s.greets()
	if len(s.containers("hello")) != len(hello) {
		s.Error("hello does not run everywhere")
	}
	s.same("signage", signage)
}

func (s *suite) cordoned() {
	before := s.containers("hello")
	s.must("edit", s.Repository.Edit(env.Overlay+"/devices.yaml", "  name: shop-3\n", "  name: shop-3\n  annotations: {why: repair}\n"))
	device := &v1alpha1.Device{}
	key := client.ObjectKey{Namespace: env.Namespace, Name: "shop-3"}
	s.must("get", s.Client.Get(s.Context(), key, device))
	patch := client.MergeFrom(device.DeepCopy())
	device.Spec.Cordoned = true
	s.must("cordon", s.Client.Patch(s.Context(), device, patch))
	was := s.greeting
	s.greet("Not for shop-3")
	s.until("hello", "done but for the cordoned one", func(d *v1alpha1.Deployment) bool {
		return d.Status.Aggregate.Succeeded == 2 && d.Status.Aggregate.Matched == 3
	})
	g, err := s.Devices[2].Greet(s.Context())
	s.must("greet", err)
	if g.Greeting != was || s.containers("hello")["shop-3"] != before["shop-3"] {
		s.Errorf("the cordoned device says %q in container %s", g.Greeting, s.containers("hello")["shop-3"])
	}
	s.must("get", s.Client.Get(s.Context(), key, device))
	patch = client.MergeFrom(device.DeepCopy())
	device.Spec.Cordoned = false
	s.must("uncordon", s.Client.Patch(s.Context(), device, patch))
	s.greets()
}

func (s *suite) deleted() {
	hello := s.containers("hello")
	s.must("edit", s.Repository.Edit("base/kustomization.yaml", "- signage.yaml\n", ""))
	s.push("Take signage away")
	s.gone("signage")
	s.same("hello", hello)
}
