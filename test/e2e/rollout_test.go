package e2e

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	fluxmeta "github.com/fluxcd/pkg/apis/meta"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/env"
	"github.com/nationtech/fleet/test/simulated"
)

// TestRollout rolls a Deployment out to three real and thirty simulated devices in
// waves, from Git, under a Kustomization that waits for it.
func TestRollout(t *testing.T) {
	s := newSuite(t, 30)
	s.beginTill()
	s.steps(
		step{"a canary of one soaks, then a tenth follows, then the rest", (*suite).inWaves},
		step{"a bad image halts in the canary, and a fix resumes by itself", (*suite).badCanary},
		step{"a bad image is rolled back without the container being down", (*suite).badImageRolledBack},
		step{"a revision that never gets well is undone on the device and rolled back", (*suite).unwellRolledBack},
		step{"devices that are offline hold nobody and converge when they return", (*suite).offlineDevices},
		step{"what is steered by hand stays, and what Git says comes back", (*suite).steered},
		step{"the operator killed at ten moments tells everybody once", (*suite).operatorKilledOften},
		step{"a thousand reports a second are seen at once, and none is lost with the operator", (*suite).load},
	)
}

// till is the Deployment as it is in Git.
type till struct {
	tag, onFailure, deadline string
	probe                    int
}

const tillYAML = `apiVersion: fleet.nationtech.io/v1alpha1
kind: Deployment
metadata:
  name: till
  namespace: fleet-demo
spec:
  targetSelector:
    matchLabels:
      till: "yes"
  rollout:
    maxUnavailable: 100%%
    progressDeadline: %s
    onFailure: %s
    waves:
    - name: canary
      selector:
        matchLabels:
          display: attached
      limit: 1
      soak: 3s
    - name: tenth
      limit: 10%%
      soak: 2s
  score:
    podman:
      terminationGracePeriodSeconds: 1
      containers:
      - name: till
        image: %s/hello:%s
        ports:
        - containerPort: 8080
          hostPort: %d
        env:
        - name: PORT
          value: "8080"
        readinessProbe:
          httpGet:
            path: /
            port: %d
          periodSeconds: 1
`

// pushTill pushes a till and waits until the operator answers it. It returns the
// Deployment as it was before.
func (s *suite) pushTill(t till) *v1alpha1.Deployment {
	s.Helper()
	if t.onFailure == "" {
		t.onFailure = "Halt"
	}
	if t.deadline == "" {
		t.deadline = "30s"
	}
	if t.probe == 0 {
		t.probe = 8080
	}
	before := &v1alpha1.Deployment{}
	s.must("get till", client.IgnoreNotFound(s.Client.Get(s.Context(), client.ObjectKey{Namespace: env.Namespace, Name: "till"}, before)))
	s.must("write", s.Repository.Write("till/till.yaml", fmt.Sprintf(tillYAML, t.deadline, t.onFailure, s.ControlPlane.Registry, t.tag, s.SparePort(), t.probe)))
	commit, err := s.Repository.Push(s.Context(), fmt.Sprintf("Roll out till %+v", t))
	s.must("push", err)
	s.must("wait", env.Until(s.Context(), limit, "the operator rolls out the commit", func(ctx context.Context) error {
		d := &v1alpha1.Deployment{}
		if err := s.Client.Get(ctx, client.ObjectKey{Namespace: env.Namespace, Name: "till"}, d); err != nil {
			return err
		}
		if d.Status.ObservedGeneration != d.Generation || d.Status.Source == nil || d.Status.Source.Commit != commit {
			return fmt.Errorf("want commit %s: generation %d, status %+v", commit, d.Generation, d.Status)
		}
		return nil
	}))
	return before
}

// beginTill has all devices run v1.
func (s *suite) beginTill() {
	s.Helper()
	ctx := s.Context()
	s.must("start the simulated devices", s.StartSimulated(ctx, map[string]string{"till": "yes"}, simulated.Running))
	file := filepath.Join(s.Repository.Dir, env.Overlay, "devices.yaml")
	devices, err := os.ReadFile(file)
	s.must("read the devices", err)
	label := "    fleet: " + env.RepositoryName + "\n"
	s.must("label the devices", os.WriteFile(file, []byte(strings.ReplaceAll(string(devices), label, label+"    till: \"yes\"\n")), 0o644))
	s.must("make a folder", os.Mkdir(filepath.Join(s.Repository.Dir, "till"), 0o755))
	s.must("write", s.Repository.Write("till/kustomization.yaml", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- till.yaml\n"))
	k := &kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: env.Namespace, Name: "till"}, Spec: kustomizev1.KustomizationSpec{
		SourceRef: kustomizev1.CrossNamespaceSourceReference{Kind: "GitRepository", Name: env.RepositoryName},
		Path:      "./till", Prune: true, Wait: true, ServiceAccountName: "fleet-sync",
		Interval: metav1.Duration{Duration: 10 * time.Minute}, RetryInterval: &metav1.Duration{Duration: 2 * time.Second}, Timeout: &metav1.Duration{Duration: limit},
	}}
	s.must("sync the till", s.Client.Create(ctx, k))
	s.pushTill(till{tag: "v1"})
	s.tillReady(33)
	s.kustomization("True", fluxmeta.ReconciliationSucceededReason)
}

func (s *suite) tillReady(succeeded int32) {
	s.Helper()
	s.until("till", "ready", func(d *v1alpha1.Deployment) bool {
		return d.Status.Aggregate != nil && d.Status.Aggregate.Matched == 33 && d.Status.Aggregate.Succeeded == succeeded &&
			meta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionReady)
	})
}

// phase waits for a phase of a wave and returns the Deployment as it is then.
func (s *suite) phase(phase v1alpha1.WavePhase, wave string) (out *v1alpha1.Deployment) {
	s.Helper()
	s.until("till", fmt.Sprintf("%s in wave %s", phase, wave), func(d *v1alpha1.Deployment) bool {
		out = d
		return d.Status.Wave != nil && d.Status.Wave.Phase == phase && d.Status.Wave.Name == wave
	})
	return out
}

// kustomization waits until Flux says how the till's Kustomization is, and returns
// how long that took.
func (s *suite) kustomization(ready metav1.ConditionStatus, reason string) time.Duration {
	s.Helper()
	begun := time.Now()
	s.must("wait", env.Until(s.Context(), limit, fmt.Sprintf("Kustomization till has Ready=%s %s", ready, reason), func(ctx context.Context) error {
		k := &kustomizev1.Kustomization{}
		if err := s.Client.Get(ctx, client.ObjectKey{Namespace: env.Namespace, Name: "till"}, k); err != nil {
			return err
		}
		c := meta.FindStatusCondition(k.Status.Conditions, fluxmeta.ReadyCondition)
		if c == nil || c.Status != ready || c.Reason != reason {
			return fmt.Errorf("it has %+v", c)
		}
		return nil
	}))
	return time.Since(begun)
}

// updated are how many devices of each wave have been told the update revision.
func updated(d *v1alpha1.Deployment) map[string]int32 {
	out := map[string]int32{}
	for _, w := range d.Status.Waves {
		out[w.Name] = w.Updated
	}
	return out
}

// told counts the simulated devices by the revision that they were told last.
func (s *suite) told() map[string]int {
	out := map[string]int{}
	for _, d := range s.Simulated {
		out[d.Told("till").Revision]++
	}
	return out
}

func (s *suite) answering(answer simulated.Answer) {
	for _, d := range s.Simulated {
		d.Answer(answer)
	}
}

func (s *suite) inWaves() {
	s.pushTill(till{tag: "v2"})
	soaking := s.phase(v1alpha1.WaveSoaking, "canary")
	if got := updated(soaking); got["canary"] != 1 || got["tenth"] != 0 || got["rest"] != 0 {
		s.Errorf("while the canary soaks devices were told %v", got)
	}
	soaking = s.phase(v1alpha1.WaveSoaking, "tenth")
	// 10% of 33, rounded up.
	if got := updated(soaking); got["tenth"] != 4 || got["rest"] != 0 {
		s.Errorf("while the tenth soaks devices were told %v", got)
	}
	until := soaking.Status.Wave.Until
	s.tillReady(33)
	var first time.Time
	for _, d := range s.Simulated {
		if told := d.Told("till"); told.Wave == v1alpha1.RestWave && (first.IsZero() || told.Time.Before(first)) {
			first = told.Time
		}
	}
	// A status keeps whole seconds, so the wave had soaked within the second after.
	if late := first.Sub(until.Time); late < 0 || late > 2*time.Second {
		s.Errorf("the rest was told %v after %v, when the tenth had soaked", late, until)
	}
	s.Logf("the rest was told within %v of the second in which the tenth had soaked", first.Sub(until.Time))
	s.kustomization("True", fluxmeta.ReconciliationSucceededReason)
}

func (s *suite) badCanary() {
	containers := s.containers("till")
	before := s.pushTill(till{tag: "none"})
	d := s.phase(v1alpha1.WaveHalted, "canary")
	s.until("till", "names the canary", func(d *v1alpha1.Deployment) bool {
		return len(d.Status.Failures) == 1 && d.Status.Failures[0].Device == "shop-1" && d.Status.Failures[0].Reason == "ImagePullFailed"
	})
	s.Logf("Flux fails the Kustomization %v after the halt", s.kustomization("False", fluxmeta.HealthCheckFailedReason).Round(time.Millisecond))
	if got := s.told(); got[before.Status.UpdateRevision] != 30 {
		s.Errorf("simulated devices were told %v, want %s", got, before.Status.UpdateRevision)
	}
	if got := updated(d); got["canary"] != 1 || got["tenth"]+got["rest"] != 0 {
		s.Errorf("devices were told %v", got)
	}
	s.same("till", containers)
	s.tillEvent("WaveHalted")
	if out, err := s.Kubectl(s.Context(), "rollout", "status", "till", "--namespace", env.Namespace); err == nil {
		s.Errorf("rollout status ends with 0 for a rollout that is halted:\n%s", out)
	}
	s.pushTill(till{tag: "v3"})
	s.tillReady(33)
	s.kustomization("True", fluxmeta.ReconciliationSucceededReason)
}

func (s *suite) badImageRolledBack() {
	containers := s.containers("till")
	before := s.pushTill(till{tag: "none", onFailure: "Rollback", deadline: "4s"})
	s.rolledBack(before)
	s.same("till", containers)
	s.pushTill(till{tag: "v2"})
	s.tillReady(33)
}

func (s *suite) unwellRolledBack() {
	canary := s.Devices[0]
	outage := s.outages(fmt.Sprintf("http://%s:%d/", canary.HostIP, s.SparePort()))
	others := s.containers("till")
	// Nothing listens where the probe looks.
	before := s.pushTill(till{tag: "v3", probe: 9, onFailure: "Rollback", deadline: "4s"})
	s.until("till", "has the end of the log", func(d *v1alpha1.Deployment) bool {
		// The device may be back at what was before anybody has written that it failed.
		return d.Status.Wave.Phase == v1alpha1.WaveRolledBack || len(d.Status.Failures) == 1 && d.Status.Failures[0].Device == canary.ID && strings.Contains(d.Status.Failures[0].Log, "hello v3 listens")
	})
	s.rolledBack(before)
	s.must("wait", env.Until(s.Context(), limit, "the canary serves v2 again", func(ctx context.Context) error {
		out, err := fetch(ctx, fmt.Sprintf("http://%s:%d/", canary.HostIP, s.SparePort()))
		if err == nil && !strings.Contains(out, `"v2"`) {
			return fmt.Errorf("it serves %s", out)
		}
		return err
	}))
	// Told back and undone on the device are the same thing: it restarts once to the
	// bad revision and once back, and each time is down for no longer than a restart.
	longest, count := outage()
	s.Logf("the canary answered nobody %d times, at most for %v", count, longest.Round(time.Millisecond))
	if count > 2 || longest > 5*time.Second {
		s.Errorf("the canary was down %d times, at most for %v", count, longest)
	}
	after := s.containers("till")
	delete(others, canary.ID)
	delete(after, canary.ID)
	if !maps.Equal(others, after) {
		s.Errorf("containers of others were replaced: %v, before %v", after, others)
	}
	// The device does not try it again after a restart either.
	id := s.containers("till")[canary.ID]
	canary.Agent.Stop(10 * time.Second)
	s.must("start the agent", canary.Agent.Start())
	s.pushTill(till{tag: "v1"})
	s.tillReady(33)
	if s.containers("till")[canary.ID] == id {
		s.Error("the canary still has the container of before")
	}
}

// rolledBack waits until the update is rolled back everywhere.
func (s *suite) rolledBack(before *v1alpha1.Deployment) {
	s.Helper()
	s.until("till", "rolled back", func(d *v1alpha1.Deployment) bool {
		return d.Status.Wave.Phase == v1alpha1.WaveRolledBack && d.Status.CurrentRevision == before.Status.UpdateRevision
	})
	if got := s.told(); got[before.Status.UpdateRevision] != 30 {
		s.Errorf("simulated devices were told %v, want %s", got, before.Status.UpdateRevision)
	}
	s.kustomization("False", fluxmeta.HealthCheckFailedReason)
	s.tillEvent("RolledBack")
}

func (s *suite) offlineDevices() {
	away := s.Simulated[:5]
	for _, d := range away {
		d.Stop()
	}
	s.until("till", "five offline", func(d *v1alpha1.Deployment) bool { return d.Status.Aggregate.Offline == 5 })
	s.pushTill(till{tag: "v2"})
	s.tillReady(28)
	s.kustomization("True", fluxmeta.ReconciliationSucceededReason)
	for _, d := range away {
		s.must("connect", d.Connect(context.WithoutCancel(s.Context()), s.ControlPlane.NATS, simulated.Running))
	}
	s.tillReady(33)
	if got := s.told(); len(got) != 1 {
		s.Errorf("devices were told %v", got)
	}
}

// steered has a person pause and undo what Flux applies.
func (s *suite) steered() {
	fleet := func(args ...string) {
		s.Helper()
		out, err := s.Kubectl(s.Context(), append(args, "--namespace", env.Namespace)...)
		s.must(strings.Join(args, " "), err)
		s.Log(out)
	}
	fleet("rollout", "pause", "till")
	s.pushTill(till{tag: "v1"})
	d := s.phase(v1alpha1.WavePaused, "canary")
	if got := updated(d); got["canary"]+got["tenth"]+got["rest"] != 0 {
		s.Errorf("paused, and devices were told %v", got)
	}
	// Flux has applied the Deployment meanwhile, and paused is not in Git.
	if !d.Spec.Paused {
		s.Error("Flux has undone the pause")
	}
	fleet("rollout", "resume", "till")
	s.tillReady(33)
	git := s.deployment("till").Status.UpdateRevision
	fleet("rollout", "undo", "till")
	s.until("till", "undone", func(d *v1alpha1.Deployment) bool { return d.Status.UpdateRevision != git })
	s.reconcileTill()
	s.until("till", "as Git has it", func(d *v1alpha1.Deployment) bool { return d.Status.UpdateRevision == git })
	s.tillReady(33)
	fleet("rollout", "restart", "till")
	s.until("till", "restarting", func(d *v1alpha1.Deployment) bool { return d.Status.UpdateRevision != git })
	s.reconcileTill()
	s.tillReady(33)
	if s.deployment("till").Status.UpdateRevision == git {
		s.Error("Flux has undone the restart")
	}
	fleet("rollout", "history", "till")
	fleet("rollout", "get", "till")
}

// reconcileTill has Flux apply the till again, as at every interval.
func (s *suite) reconcileTill() {
	s.Helper()
	k := &kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: env.Namespace, Name: "till"}}
	token := time.Now().Format(time.RFC3339Nano)
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, fluxmeta.ReconcileRequestAnnotation, token)
	s.must("ask Flux", s.Client.Patch(s.Context(), k, client.RawPatch(types.MergePatchType, []byte(patch))))
	s.must("wait", env.Until(s.Context(), limit, "Flux reconciles", func(ctx context.Context) error {
		if err := s.Client.Get(ctx, client.ObjectKeyFromObject(k), k); err != nil {
			return err
		}
		if k.Status.LastHandledReconcileAt != token {
			return fmt.Errorf("it has handled %q", k.Status.LastHandledReconcileAt)
		}
		return nil
	}))
}

func (s *suite) operatorKilledOften() {
	var mu sync.Mutex
	writes := map[string]map[int64]bool{}
	for _, d := range s.Simulated {
		id, from := d.ID, d.Told("till").Time
		d.Watch(func(view map[contracts.DeploymentName]contracts.DesiredState) {
			mu.Lock()
			defer mu.Unlock()
			if told := view["till"]; told.Time.After(from) {
				if writes[id] == nil {
					writes[id] = map[int64]bool{}
				}
				writes[id][told.Issued] = true
			}
		})
	}
	s.answering(func(d contracts.DesiredState) *contracts.DeploymentState {
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond) // a device takes its time
		return simulated.Running(d)
	})
	s.pushTill(till{tag: "v3"})
	for range 10 {
		time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond) // the moment is to be random
		s.Operator.Kill()
		s.must("start the operator", s.StartOperator(s.Context()))
	}
	s.tillReady(33)
	mu.Lock()
	defer mu.Unlock()
	for _, d := range s.Simulated {
		if n := len(writes[d.ID]); n != 1 {
			s.Errorf("%s was told %d times", d.ID, n)
		}
	}
	waves := map[string]int{}
	for _, d := range s.Simulated {
		waves[d.Told("till").Wave]++
	}
	if waves["canary"] != 0 || waves["tenth"] > 4 {
		s.Errorf("simulated devices were told in waves %v", waves)
	}
}

func (s *suite) tillEvent(reason string) {
	s.Helper()
	s.event(env.Namespace, reason)
}

func fetch(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// outages asks an address without end. What it returns ends that, and says how many
// times nobody answered and for how long at most.
func (s *suite) outages(url string) func() (longest time.Duration, count int) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.Context()))
	var gaps []time.Duration
	done := make(chan struct{})
	go func() {
		defer close(done)
		var since time.Time
		for ctx.Err() == nil {
			_, err := fetch(ctx, url)
			switch {
			case err != nil && since.IsZero():
				since = time.Now()
			case err == nil && !since.IsZero():
				gaps = append(gaps, time.Since(since))
				since = time.Time{}
			}
			time.Sleep(10 * time.Millisecond) // the resolution of what is measured
		}
	}()
	return func() (time.Duration, int) {
		cancel()
		<-done
		if len(gaps) == 0 {
			return 0, 0
		}
		return slices.Max(gaps), len(gaps)
	}
}
