// Package attack has the fleet attacked, as it is installed: the configuration that
// fleet-operator setup makes, the operator as its own process with its own rights. A test
// looks at what an attempt has done, and not at whether there was an error: the victims'
// keys on the bus, what they are told, and what the API server says of them are the same
// before and after.
package attack

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/env"
	"github.com/nationtech/fleet/test/simulated"
)

// limit is how long the fleet may take for anything.
const limit = 30 * time.Second

const (
	// app is the victims' Deployment, own the attacker's.
	app, own = "app", "own"
	// password is in a Secret that both refer to.
	password = "correct-horse-battery-staple"
)

// world is one fleet that all attempts are made on.
type world struct {
	*testing.T
	*env.Fleet
	// victim and bystander obey orders for app. Somebody who has the bystander's key
	// hears all that it may hear.
	victim, attacker, bystander *env.Simulated
	// ops is the operator's account, to look on.
	ops *nats.Conn
	js  jetstream.JetStream

	// barriers counts what the attacker has said to be sure that the rest was dealt with.
	barriers *int
	told     *record
	// strange counts heartbeats of the victim that are not its own.
	strange *atomic.Int64
}

// record keeps what the victim was told, each time that it changes.
type record struct {
	sync.Mutex
	views []string
}

func (r *record) add(view map[contracts.DeploymentName]contracts.DesiredState) {
	r.Lock()
	defer r.Unlock()
	text := ""
	for _, name := range slices.Sorted(maps.Keys(view)) {
		text += fmt.Sprintf("%s=%s/%s ", name, view[name].Revision, view[name].Digest)
	}
	if len(r.views) == 0 || r.views[len(r.views)-1] != text {
		r.views = append(r.views, text)
	}
}

func (r *record) all() []string {
	r.Lock()
	defer r.Unlock()
	return slices.Clone(r.views)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	bin, err := filepath.Abs("../../bin")
	must(t, err)
	for _, name := range []string{"controlplane", "fleet-operator", "fleet-agent", "kubectl", "kubectl-fleet"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			t.Fatalf("%s is not built, run `make test-attack`: %v", name, err)
		}
	}
	// Not t.TempDir: the paths of unix sockets below it would be too long.
	dir, err := os.MkdirTemp("", "fleet-attack-")
	must(t, err)
	fleet, err := env.New(env.Options{Dir: dir, Bin: bin})
	must(t, err)
	t.Cleanup(func() {
		if err := fleet.Close(); err != nil {
			t.Errorf("take the fleet down: %v", err)
		}
		if t.Failed() {
			t.Logf("the logs stay in %s", dir)
			return
		}
		must(t, os.RemoveAll(dir))
	})
	w := &world{T: t, Fleet: fleet, barriers: new(int), told: &record{}, strange: new(atomic.Int64)}
	ctx := t.Context()
	must(t, fleet.Simulate(3))
	must(t, fleet.StartControlPlane(ctx))
	must(t, fleet.InstallOperator(ctx, "../../manifests"))
	must(t, w.Client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: env.Namespace}}))
	must(t, w.Client.Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: env.Namespace, Name: "fleet-operator"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "fleet-operator-team"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "fleet-system", Name: "fleet-operator"}},
	}))
	must(t, fleet.StartSimulated(ctx, map[string]string{"role": "victim"}, simulated.Running))
	w.victim, w.attacker, w.bystander = fleet.Simulated[0], fleet.Simulated[1], fleet.Simulated[2]
	w.edit(w.attacker.ID, func(d *v1alpha1.Device) { d.Labels["role"] = "attacker" })
	w.victim.Watch(w.told.add)
	must(t, w.Client.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: env.Namespace, Name: "vault"}, StringData: map[string]string{"password": password}}))
	for name, role := range map[string]string{app: "victim", own: "attacker"} {
		d := &v1alpha1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: env.Namespace, Name: name}}
		d.Spec.TargetSelector.MatchLabels = map[string]string{"role": role}
		d.Spec.Score.Podman = &v1alpha1.PodmanScore{Containers: []v1alpha1.Container{{Name: "c", Image: "registry.example.com/app:1", Env: []v1alpha1.EnvVar{
			{Name: "PASSWORD", ValueFrom: &v1alpha1.EnvVarSource{SecretKeyRef: &v1alpha1.SecretKeyRef{Name: "vault", Key: "password"}}},
		}}}}
		must(t, w.Client.Create(ctx, d))
	}
	w.ops, err = bus.Connect(bus.Options{URL: w.ControlPlane.NATS, SeedFile: w.OperatorSeed(), CAFile: w.CAFile(), Name: "onlooker"})
	must(t, err)
	t.Cleanup(w.ops.Close)
	w.js, err = bus.JetStream(w.ops)
	must(t, err)
	beats, err := w.js.OrderedConsumer(ctx, contracts.BucketDeviceHeartbeat.Stream(), jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{keyOf(contracts.BucketDeviceHeartbeat, w.victim.ID, "")},
	})
	must(t, err)
	consuming, err := beats.Consume(func(m jetstream.Msg) {
		if beat, err := contracts.DecodeHeartbeat(m.Data()); err != nil || beat.Seq > 1<<30 {
			w.strange.Add(1)
		}
	})
	must(t, err)
	t.Cleanup(consuming.Stop)
	w.settled()
	w.until("the attacker is a device like others", func(context.Context) error {
		if w.attacker.Told(own).Revision == "" {
			return errors.New("it is told nothing")
		}
		return nil
	})
	return w
}

// settled waits until the victims run what they should.
func (w *world) settled() {
	w.Helper()
	w.until("the victims run what they should", func(ctx context.Context) error {
		d := &v1alpha1.Deployment{}
		if err := w.Client.Get(ctx, client.ObjectKey{Namespace: env.Namespace, Name: app}, d); err != nil {
			return err
		}
		if a := d.Status.Aggregate; d.Status.ObservedGeneration != d.Generation || a.Succeeded != 2 || a.Matched != 2 || d.Status.CurrentRevision != d.Status.UpdateRevision {
			return fmt.Errorf("%s: %+v", app, d.Status)
		}
		for _, d := range []*env.Simulated{w.victim, w.bystander} {
			device := &v1alpha1.Device{}
			if err := w.Client.Get(ctx, client.ObjectKey{Namespace: env.Namespace, Name: d.ID}, device); err != nil {
				return err
			}
			if n := device.Status.Deployments; n == nil || n.Running != 1 || n.Total != 1 || device.Status.Info == nil || device.Status.Info.Hostname != "host-"+d.ID {
				return fmt.Errorf("%s: %+v", d.ID, device.Status)
			}
		}
		return nil
	})
}

// at is the world for a part of the test.
func (w *world) at(t *testing.T) *world {
	part := *w
	part.T = t
	return &part
}

// vain makes an attempt, and fails if it has had any effect on the victims.
func (w *world) vain(name string, attempt func(*world)) {
	w.Run(name, func(t *testing.T) {
		w := w.at(t)
		before := w.look()
		attempt(w)
		w.barrier()
		w.until("everything is as it was", func(context.Context) error { return same(before, w.look()) })
		if t.Failed() {
			return
		}
		if beat, err := w.heartbeat(t.Context(), w.victim.ID); err != nil || !beat.Ready || beat.Sequence > 1<<30 || beat.IntervalSeconds != 1 {
			t.Errorf("the victim's heartbeat: %+v, %v", beat, err)
		}
	})
}

// look is all of the victims that an attempt could change.
func (w *world) look() map[string]string {
	w.Helper()
	ctx := w.Context()
	out := map[string]string{"victim told": strings.Join(w.told.all(), "; "), "operator": fmt.Sprint(w.Operator.Running(), w.Operator.PID()), "heartbeats that are not the victim's": fmt.Sprint(w.strange.Load())}
	for _, bucket := range []contracts.Bucket{contracts.BucketDesiredState, contracts.BucketDeviceState, contracts.BucketDeviceInfo, contracts.BucketDeviceHeartbeat} {
		stream, err := w.js.Stream(ctx, bucket.Stream())
		must(w.T, err)
		info, err := stream.Info(ctx, jetstream.WithSubjectFilter(">"))
		must(w.T, err)
		config, err := json.Marshal(info.Config)
		must(w.T, err)
		out[bucket.Stream()] = string(config)
		out[bucket.Stream()+" consumers"] = fmt.Sprint(info.State.Consumers)
		for subject := range info.State.Subjects {
			if bucket == contracts.BucketDeviceHeartbeat || strings.Contains(subject, "."+w.attacker.ID) {
				continue
			}
			m, err := stream.GetLastMsgForSubject(ctx, subject)
			must(w.T, err)
			out[subject] = fmt.Sprintf("%d %x %v", m.Sequence, sha256.Sum256(m.Data), m.Header)
		}
	}
	for _, p := range w.placements(ctx) {
		if p.Spec.Device != w.attacker.ID {
			text, err := json.Marshal(p.Spec)
			must(w.T, err)
			status, err := json.Marshal(p.Status)
			must(w.T, err)
			out["placement "+p.Name] = string(text) + string(status)
		}
	}
	d := &v1alpha1.Deployment{}
	must(w.T, w.Client.Get(ctx, client.ObjectKey{Namespace: env.Namespace, Name: app}, d))
	text, err := json.Marshal(d.Status.Aggregate)
	must(w.T, err)
	out["deployment"] = string(text) + d.Status.CurrentRevision + d.Status.UpdateRevision
	for _, id := range []string{w.victim.ID, w.bystander.ID} {
		d := &v1alpha1.Device{}
		must(w.T, w.Client.Get(ctx, client.ObjectKey{Namespace: env.Namespace, Name: id}, d))
		d.Status.LastHeartbeatTime = nil
		text, err := json.Marshal(struct {
			Labels map[string]string
			Spec   v1alpha1.DeviceSpec
			Status v1alpha1.DeviceStatus
		}{d.Labels, d.Spec, d.Status})
		must(w.T, err)
		out["device "+id] = string(text)
	}
	devices := &v1alpha1.DeviceList{}
	must(w.T, w.Client.List(ctx, devices))
	for _, d := range devices.Items {
		out["devices"] += d.Namespace + "/" + d.Name + " "
	}
	return out
}

// same tells the first difference.
func same(before, after map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(before)) {
		if after[key] != before[key] {
			return fmt.Errorf("%s was\n  %s\nand is\n  %s", key, before[key], after[key])
		}
	}
	for key, value := range after {
		if _, ok := before[key]; !ok {
			return fmt.Errorf("%s is new: %s", key, value)
		}
	}
	return nil
}

// barrier returns when the operator has dealt with what the attacker sent before.
func (w *world) barrier() {
	w.Helper()
	*w.barriers++
	mark := fmt.Sprintf("barrier %d", *w.barriers)
	told := w.attacker.Told(own)
	must(w.T, w.attacker.Report(w.Context(), contracts.DeploymentState{
		Deployment: own, Revision: told.Revision, Digest: told.Digest, Issued: told.Issued, Phase: contracts.PhaseRunning, Message: mark,
	}))
	w.until("the operator has heard of it", func(ctx context.Context) error {
		for _, p := range w.placements(ctx) {
			if p.Spec.Device == w.attacker.ID && p.Spec.Deployment == own && p.Status.Message == mark {
				return nil
			}
		}
		return fmt.Errorf("not yet; log: %s", w.Operator.Log)
	})
}

func (w *world) placements(ctx context.Context) []live.Placement {
	list := &live.PlacementList{}
	w.live(ctx, "PlacementList", list)
	return list.Items
}

func (w *world) heartbeat(ctx context.Context, id string) (live.HeartbeatStatus, error) {
	list := &live.HeartbeatList{}
	w.live(ctx, "HeartbeatList", list)
	for _, beat := range list.Items {
		if beat.Spec.Device == id {
			return beat.Status, nil
		}
	}
	return live.HeartbeatStatus{}, fmt.Errorf("%s has no heartbeat", id)
}

// live lists one kind of the live API.
func (w *world) live(ctx context.Context, kind string, into any) {
	w.Helper()
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(live.GroupVersion.WithKind(kind))
	must(w.T, w.Client.List(ctx, list, client.InNamespace(env.Namespace)))
	raw, err := list.MarshalJSON()
	must(w.T, err)
	must(w.T, json.Unmarshal(raw, into))
}

// edit changes a Device.
func (w *world) edit(id string, change func(*v1alpha1.Device)) {
	w.Helper()
	w.until("edit Device "+id, func(ctx context.Context) error {
		d := &v1alpha1.Device{}
		if err := w.Client.Get(ctx, client.ObjectKey{Namespace: env.Namespace, Name: id}, d); err != nil {
			return err
		}
		change(d)
		return w.Client.Update(ctx, d)
	})
}

// roll changes the victims' Deployment.
func (w *world) roll(image string) {
	w.Helper()
	w.until("roll out "+image, func(ctx context.Context) error {
		d := &v1alpha1.Deployment{}
		if err := w.Client.Get(ctx, client.ObjectKey{Namespace: env.Namespace, Name: app}, d); err != nil {
			return err
		}
		d.Spec.Score.Podman.Containers[0].Image = image
		return w.Client.Update(ctx, d)
	})
}

// key is the identity of a simulated device, which somebody has copied.
func (w *world) key(s *env.Simulated) nkeys.KeyPair {
	w.Helper()
	seed, err := os.ReadFile(filepath.Join(w.Dir, s.ID+".nk"))
	must(w.T, err)
	pair, err := nkeys.FromSeed(seed)
	must(w.T, err)
	return pair
}

// connect lets a device in, or who asks to join, with a key of its own.
func (w *world) connect(id string, key nkeys.KeyPair, joining bool) *hostile {
	w.Helper()
	nc, err := bus.Connect(bus.Options{
		URL: w.ControlPlane.NATS, Key: key, CAFile: w.CAFile(), Name: "hostile", Device: contracts.DeviceID(id), Joining: joining, Logger: slog.New(slog.DiscardHandler),
	})
	must(w.T, err)
	w.Cleanup(nc.Close)
	h := &hostile{w: w, Conn: nc, denied: map[string]int{}, heard: map[string][]*nats.Msg{}}
	nc.SetErrorHandler(h.complain)
	// Whitespace in a subject is for the server to refuse.
	nc.Opts.SkipSubjectValidation = true
	w.until(id+" is connected", func(context.Context) error {
		if !nc.IsConnected() {
			return fmt.Errorf("%s: %w", nc.Status(), nc.LastError())
		}
		return nil
	})
	return h
}

func (w *world) until(what string, check func(context.Context) error) {
	w.Helper()
	if err := env.Until(w.Context(), limit, what, check); err != nil {
		w.Fatal(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
