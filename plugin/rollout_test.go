package plugin

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
)

// progress is one wave as the operator would have seen it.
func progress(name string, phase v1alpha1.WavePhase, matched, succeeded, failed, pending, offline int32) v1alpha1.WaveProgress {
	return v1alpha1.WaveProgress{Name: name, Phase: phase, Matched: matched, Updated: succeeded + failed, Succeeded: succeeded, Failed: failed, Pending: pending, Offline: offline}
}

// inWave puts a Deployment into the wave of an index, from 0, with the sums of all.
func inWave(d *v1alpha1.Deployment, at int, reason, message string, since time.Duration, waves ...v1alpha1.WaveProgress) {
	a := &v1alpha1.Aggregate{}
	for _, w := range waves {
		a.Matched += w.Matched
		a.Updated += w.Updated
		a.Succeeded += w.Succeeded
		a.Failed += w.Failed
		a.Pending += w.Pending
		a.Offline += w.Offline
	}
	phase := waves[at].Phase
	d.Status.Aggregate, d.Status.Waves = a, waves
	d.Status.Wave = &v1alpha1.WaveStatus{Name: waves[at].Name, Index: int32(at) + 1, Of: int32(len(waves)), Phase: phase, Since: ago(since)}
	d.Status.UpdateRevision = d.Name + "-x4vc44zvb4"
	d.Status.Conditions = []metav1.Condition{condition("Ready", "False", reason, message, since)}
	kind := "Reconciling"
	switch phase {
	case v1alpha1.WaveHalted, v1alpha1.WaveRollingBack, v1alpha1.WaveRolledBack, v1alpha1.WaveStalled:
		kind = "Stalled"
	}
	d.Status.Conditions = append(d.Status.Conditions, condition(kind, "True", reason, message, since))
}

// three are the waves of a careful Deployment of a large fleet.
func three(d *v1alpha1.Deployment) {
	one, tenth := intstr.FromInt32(10), intstr.FromString("10%")
	d.Spec.Rollout.Waves = []v1alpha1.Wave{
		{Name: "canary", Limit: &one, Soak: &metav1.Duration{Duration: 10 * time.Minute}},
		{Name: "tenth", Limit: &tenth, Approval: v1alpha1.ApprovalManual, Soak: &metav1.Duration{Duration: 90 * time.Minute}},
	}
}

// TestRolloutScreens holds the screens of rollouts in waves to golden files.
func TestRolloutScreens(t *testing.T) {
	ns := namespace(t, "waves")
	make := func(name string, change func(*v1alpha1.Deployment)) {
		deployment(t, ns, name, func(d *v1alpha1.Deployment) {
			three(d)
			d.Status = completeStatus(name, 100000)
			change(d)
		})
	}
	gone := ago(time.Minute)
	device(t, ns, "another-key", v1alpha1.DeviceSpec{Approved: new(true)}, v1alpha1.DeviceStatus{LastHeartbeatTime: &gone, Conditions: []metav1.Condition{
		condition("Ready", "False", v1alpha1.ReasonPublicKeyMismatch, "The agent's public key is another", time.Hour)}})
	tenth := progress("tenth", v1alpha1.WavePending, 9999, 0, 0, 9950, 49)
	rest := progress("rest", v1alpha1.WavePending, 89991, 0, 0, 89500, 491)
	make("a-soaking", func(d *v1alpha1.Deployment) {
		inWave(d, 0, v1alpha1.ReasonSoaking, "Wave canary soaks before the next one begins", 2*time.Minute,
			progress("canary", v1alpha1.WaveSoaking, 10, 9, 0, 0, 1), tenth, rest)
		d.Status.Wave.Until = &metav1.Time{Time: shared.now.Add(8*time.Minute + 30*time.Second)}
	})
	canary := progress("canary", v1alpha1.WaveComplete, 10, 9, 0, 0, 1)
	make("b-awaiting", func(d *v1alpha1.Deployment) {
		waiting := tenth
		waiting.Phase = v1alpha1.WaveAwaitingApproval
		inWave(d, 1, v1alpha1.ReasonAwaitingApproval, "Wave tenth begins when somebody approves it", time.Hour, canary, waiting, rest)
	})
	make("c-progressing", func(d *v1alpha1.Deployment) {
		d.Spec.Rollout.Approvals = []v1alpha1.Approval{{Wave: "tenth", Revision: "c-progressing-x4vc44zvb4"}}
		inWave(d, 1, v1alpha1.ReasonProgressing, "Wave tenth, 2 of 3, goes on", 3*time.Minute,
			canary, progress("tenth", v1alpha1.WaveProgressing, 9999, 6200, 3, 3747, 49), rest)
		d.Status.Failures = []v1alpha1.Failure{{Device: "till-7", Reason: "ImagePullFailed", Message: "manifest unknown"}}
	})
	halted := func(d *v1alpha1.Deployment) {
		inWave(d, 0, v1alpha1.ReasonDevicesFailed, "Halted in wave canary: 6 of 100000 devices run it, 3 failed; till-7: CrashLoopBackOff: exit code 1", 4*time.Minute,
			progress("canary", v1alpha1.WaveHalted, 10, 6, 3, 0, 1), tenth, rest)
		var log strings.Builder
		for i := range 14 {
			fmt.Fprintf(&log, "line %d\n", i+1)
		}
		d.Status.Failures = []v1alpha1.Failure{
			{Device: "till-7", Reason: "CrashLoopBackOff", Message: "exit code 1", Log: log.String() + "panic: no \x1b[31mconfiguration\n\tat main.go:7\n"},
			{Device: "till-8", Reason: "CrashLoopBackOff", Message: "exit code 1"}, {Device: "till-9", Reason: "ProbeFailed", Message: "connection refused"},
		}
	}
	make("d-halted", halted)
	make("e-goes-back", func(d *v1alpha1.Deployment) {
		d.Spec.Rollout.OnFailure = v1alpha1.OnFailureRollback
		halted(d)
	})
	make("f-rolled-back", func(d *v1alpha1.Deployment) {
		d.Spec.Rollout.OnFailure = v1alpha1.OnFailureRollback
		back := progress("canary", v1alpha1.WaveRolledBack, 10, 0, 0, 9, 1)
		inWave(d, 0, v1alpha1.ReasonRolledBack, "The revision failed and was rolled back to f-rolled-back-7c5xfcb6c5; it is not tried again until another was", 30*time.Minute, back, tenth, rest)
	})
	make("g-rolling-back", func(d *v1alpha1.Deployment) {
		d.Spec.Rollout.OnFailure = v1alpha1.OnFailureRollback
		inWave(d, 0, v1alpha1.ReasonRollingBack, "The revision failed, and devices go back to g-rolling-back-7c5xfcb6c5", time.Minute,
			progress("canary", v1alpha1.WaveRollingBack, 10, 2, 3, 4, 1), tenth, rest)
		d.Status.Source = nil
	})
	make("h-many", func(d *v1alpha1.Deployment) {
		d.Spec.Rollout.Waves = nil
		var waves []v1alpha1.WaveProgress
		one := intstr.FromInt32(1000)
		for i := range 16 {
			name := fmt.Sprintf("region-%02d", i+1)
			w := v1alpha1.Wave{Name: name, Limit: &one}
			if i == 12 {
				w.Approval = v1alpha1.ApprovalManual
			}
			d.Spec.Rollout.Waves = append(d.Spec.Rollout.Waves, w)
			switch {
			case i == 3:
				waves = append(waves, progress(name, v1alpha1.WaveComplete, 1000, 995, 5, 0, 0))
			case i < 8:
				waves = append(waves, progress(name, v1alpha1.WaveComplete, 1000, 990, 0, 0, 10))
			case i == 8:
				waves = append(waves, progress(name, v1alpha1.WaveProgressing, 1000, 300, 0, 700, 0))
			default:
				waves = append(waves, progress(name, v1alpha1.WavePending, 1000, 0, 0, 1000, 0))
			}
		}
		inWave(d, 8, v1alpha1.ReasonProgressing, "Wave region-09, 9 of 17, goes on", 20*time.Second, append(waves, progress("rest", v1alpha1.WavePending, 84000, 0, 0, 83000, 1000))...)
	})
	make("i-paused", func(d *v1alpha1.Deployment) {
		d.Spec.Paused = true
		paused := progress("tenth", v1alpha1.WavePaused, 9999, 100, 0, 9850, 49)
		inWave(d, 1, v1alpha1.ReasonPaused, "spec.paused holds the rollout", time.Hour, canary, paused, rest)
	})
	make("j-complete", func(d *v1alpha1.Deployment) {
		message := "99500 of 100000 devices run it, 500 offline"
		waves := []v1alpha1.WaveProgress{canary, progress("tenth", v1alpha1.WaveComplete, 9999, 9950, 0, 0, 49), progress("rest", v1alpha1.WaveComplete, 89991, 89500, 0, 0, 491)}
		inWave(d, 2, v1alpha1.ReasonRolloutComplete, message, time.Hour, waves...)
		d.Status.CurrentRevision = d.Status.UpdateRevision
		d.Status.Conditions = []metav1.Condition{condition("Ready", "True", v1alpha1.ReasonRolloutComplete, message, time.Hour)}
	})
	for _, c := range []struct {
		file string
		code int
		args string
	}{
		{"rollout-get-soaking.txt", 0, "get a-soaking"},
		{"rollout-get-awaiting.txt", 0, "get b-awaiting"},
		{"rollout-get-progressing.txt", 0, "get c-progressing"},
		{"rollout-get-halted.txt", 0, "get d-halted"},
		{"rollout-get-goes-back.txt", 0, "get e-goes-back"},
		{"rollout-get-rolled-back.txt", 0, "get f-rolled-back"},
		{"rollout-get-rolling-back.txt", 0, "get g-rolling-back"},
		{"rollout-get-many.txt", 0, "get h-many"},
		{"rollout-get-many-all.txt", 0, "get h-many --all"},
		{"rollout-get-paused.txt", 0, "get i-paused"},
		{"rollout-get-complete.txt", 0, "get j-complete"},
		{"rollout-get-wide.txt", 0, "get c-progressing -o wide"},
		{"rollout-status-soaking.txt", 2, "status a-soaking"},
		{"rollout-status-awaiting.txt", 2, "status b-awaiting"},
		{"rollout-status-progressing.txt", 2, "status c-progressing"},
		{"rollout-status-halted.txt", 1, "status d-halted"},
		{"rollout-status-rolled-back.txt", 1, "status f-rolled-back"},
		// Ends of a rollout end the watch, with the exit code that they have.
		{"rollout-get-complete.txt", 0, "get j-complete --watch"},
		{"rollout-get-halted.txt", 1, "get d-halted --watch"},
		{"rollout-get-rolled-back.txt", 1, "get f-rolled-back --watch"},
	} {
		t.Run(c.args, func(t *testing.T) {
			out, errOut, code := command(t, t.Context(), strings.Fields("rollout "+c.args+" -n waves")...)
			if code != c.code || errOut != "" {
				t.Errorf("exit code %d, want %d; stderr %q", code, c.code, errOut)
			}
			if n := strings.Count(out, "\n"); n > 36 && !strings.Contains(c.args, "--all") {
				t.Errorf("the screen has %d lines", n)
			}
			golden(t, c.file, out)
		})
	}
	for _, name := range []string{"a-soaking", "b-awaiting", "e-goes-back", "g-rolling-back", "i-paused"} {
		t.Run("watch goes on while "+name, func(t *testing.T) {
			_, errOut, code := command(t, t.Context(), "rollout", "get", name, "-n", ns, "--watch", "--timeout", "500ms")
			if code != cli.CodeUnfinished || !strings.Contains(errOut, "has not finished") {
				t.Errorf("exit code %d, stderr %q", code, errOut)
			}
		})
	}
	t.Run("status shows waves, and halts among the problems", func(t *testing.T) {
		out, _, _ := command(t, t.Context(), "status", "-n", ns)
		golden(t, "status-waves.txt", out)
	})
	t.Run("json is what the screen shows", func(t *testing.T) {
		out, _, code := command(t, t.Context(), "rollout", "get", "d-halted", "-n", ns, "-o", "json")
		var got struct {
			Kind, State, Why string
			Next             []string
			Wave             struct{ Name string }
			Waves            []struct {
				Name, Phase, Soak string
				Matched, Failed   int
				Manual, Approved  bool
			}
			Rules    struct{ OnFailure, SuccessThreshold, ProgressDeadline string }
			Failures []struct{ Device, Log string }
		}
		must(t, json.Unmarshal([]byte(out), &got))
		if code != 0 || got.State != "Halted" || got.Why == "" || len(got.Next) != 2 || len(got.Waves) != 3 || got.Waves[0].Failed != 3 || got.Waves[0].Soak != "10m0s" ||
			!got.Waves[1].Manual || got.Rules.OnFailure != "Halt" || got.Rules.ProgressDeadline != "10m0s" || len(got.Failures) != 3 || got.Failures[0].Log == "" {
			t.Errorf("exit code %d, %+v", code, got)
		}
	})
}

// applied is a Deployment that Flux has applied from Git, with revisions that the
// operator would have kept.
func applied(t *testing.T, ns, name, extra string) {
	t.Helper()
	manifest := fmt.Sprintf(`
apiVersion: fleet.nationtech.io/v1alpha1
kind: Deployment
metadata:
  name: %s
  namespace: %s
  labels:
    kustomize.toolkit.fluxcd.io/name: field
    kustomize.toolkit.fluxcd.io/namespace: flux-system
spec:
  targetSelector:
    matchLabels: {a: b}
  score:
    podman:
      containers:
      - name: web
        image: example.org/web:3
        env: [{name: MODE, value: new}]
      volumes:
      - name: conf
        configMap: {name: conf}
%s`, name, ns, extra)
	apply(t, manifest)
	d := &v1alpha1.Deployment{}
	must(t, shared.client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: name}, d))
	score := func(change func(*v1alpha1.PodmanScore)) []byte {
		s := d.Spec.Score.DeepCopy()
		change(s.Podman)
		raw, err := json.Marshal(map[string]any{"score": s, "configMaps": map[string]any{"conf": map[string]any{"data": map[string]string{"a": "1"}}}})
		must(t, err)
		return raw
	}
	for i, r := range []struct {
		hash, commit string
		raw          []byte
	}{
		{"aaaa", "aaaaaaa111", score(func(p *v1alpha1.PodmanScore) { p.Containers[0].Image, p.Containers[0].Env = "example.org/web:1", nil })},
		{"bbbb", "bbbbbbb222", score(func(p *v1alpha1.PodmanScore) { p.Containers[0].Image, p.Containers[0].Env = "example.org/web:2", nil })},
		{"cccc", "ccccccc333", score(func(*v1alpha1.PodmanScore) {})},
	} {
		c := &appsv1.ControllerRevision{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: ns, Name: name + "-" + r.hash, Labels: map[string]string{"fleet.nationtech.io/deployment": name},
				Annotations: map[string]string{
					"fleet.nationtech.io/commit": r.commit,
					"fleet.nationtech.io/since":  shared.now.Add(-time.Duration(5-i) * time.Hour).UTC().Format(time.RFC3339Nano),
				},
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, v1alpha1.GroupVersion.WithKind("Deployment"))},
			},
			Revision: int64(i + 1), Data: runtime.RawExtension{Raw: r.raw},
		}
		if r.hash == "cccc" {
			c.Annotations["fleet.nationtech.io/rolled-back"] = shared.now.Add(-time.Hour).UTC().Format(time.RFC3339Nano)
		}
		must(t, shared.client.Create(t.Context(), c))
	}
	d.Status = completeStatus(name, 10)
	d.Status.ObservedGeneration = d.Generation
	d.Status.CurrentRevision, d.Status.UpdateRevision = name+"-bbbb", name+"-cccc"
	d.Status.Wave.Phase = v1alpha1.WaveProgressing
	d.Status.Conditions = []metav1.Condition{condition("Ready", "False", v1alpha1.ReasonProgressing, "The rollout goes on", time.Minute)}
	must(t, shared.client.Status().Update(t.Context(), d))
}

// apply applies a manifest as kustomize-controller does.
func apply(t *testing.T, manifest string) {
	t.Helper()
	u := &unstructured.Unstructured{}
	must(t, yaml.Unmarshal([]byte(manifest), &u.Object))
	must(t, shared.client.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("kustomize-controller"), client.ForceOwnership))
}

func get(t *testing.T, ns, name string) *v1alpha1.Deployment {
	t.Helper()
	d := &v1alpha1.Deployment{}
	must(t, shared.client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: name}, d))
	return d
}

// TestSteering changes Deployments that Flux applies, and holds what is said to
// golden files.
func TestSteering(t *testing.T) {
	ns := namespace(t, "steering")
	must(t, shared.client.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "conf"}, Data: map[string]string{"a": "2"}}))
	waves := `
  rollout:
    waves:
    - {name: canary, limit: 1}
    - {name: shops, approval: Manual, limit: 5}
    - {name: all, approval: Manual}
`
	applied(t, ns, "web", waves)
	applied(t, ns, "in-git", "\n  paused: true\n"+strings.Replace(waves, "  rollout:", "  rollout:\n    approvals: [{wave: shops, revision: in-git-old}]", 1))
	deployment(t, ns, "charts", func(d *v1alpha1.Deployment) {
		d.Spec.Score = v1alpha1.Score{Kubernetes: &v1alpha1.KubernetesScore{Manifests: []v1alpha1.Manifest{{RawExtension: runtime.RawExtension{Raw: []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"}}`)}}}}}
		d.Status = completeStatus("charts", 1)
	})
	run := func(t *testing.T, file string, wantCode int, args string) string {
		t.Helper()
		out, errOut, code := command(t, t.Context(), append(strings.Fields("rollout "+args), "-n", ns)...)
		if code != wantCode {
			t.Errorf("%s: exit code %d, want %d\n%s%s", args, code, wantCode, out, errOut)
		}
		if file != "" {
			// The clock of the tests begins with them.
			out := regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`).ReplaceAllString(out, "2026-01-02T03:04:05Z")
			golden(t, file, "$ kubectl fleet rollout "+args+"\n"+out+"--- stderr\n"+errOut)
		}
		return out + errOut
	}

	t.Run("history", func(t *testing.T) {
		run(t, "history.txt", 0, "history web")
		run(t, "history-names.txt", 0, "history web -o name")
		run(t, "history-one.txt", 0, "history web --revision 2")
		if out := run(t, "", 0, "history web -o wide"); !strings.Contains(out, "FULL-COMMIT") || !strings.Contains(out, "ccccccc333") {
			t.Errorf("-o wide says\n%s", out)
		}
		run(t, "history-jsonpath.txt", 0, "history web -o jsonpath={range.revisions[*]}{.revision}:{.name}:{.commit}:{.changes};{end}")
		if out := run(t, "", 0, "history web --revision bbbb -o jsonpath={.score.podman.containers[0].image}{.configMaps.conf.data.a}"); out != "example.org/web:21" {
			t.Errorf("--revision bbbb -o jsonpath says %q", out)
		}
		run(t, "history-missing.txt", 3, "history web --revision 7")
	})
	t.Run("dry runs change nothing", func(t *testing.T) {
		before := get(t, ns, "web").ResourceVersion
		run(t, "pause-dry-run.txt", 0, "pause web --dry-run=client")
		run(t, "", 0, "undo web --dry-run=server")
		run(t, "", 0, "restart web --dry-run=server -o yaml")
		if after := get(t, ns, "web").ResourceVersion; after != before {
			t.Errorf("the version went from %s to %s", before, after)
		}
	})
	t.Run("pause stays when Git says nothing of it", func(t *testing.T) {
		run(t, "pause.txt", 0, "pause web")
		d := get(t, ns, "web")
		if !d.Spec.Paused {
			t.Error("it is not paused")
		}
		for _, m := range d.ManagedFields {
			if strings.HasPrefix(m.Manager, "kubectl") {
				t.Errorf("Flux would take the fields of %s away", m.Manager)
			}
		}
		apply(t, "apiVersion: fleet.nationtech.io/v1alpha1\nkind: Deployment\nmetadata: {name: web, namespace: steering, labels: {kustomize.toolkit.fluxcd.io/name: field, kustomize.toolkit.fluxcd.io/namespace: flux-system}}\n"+
			"spec: {targetSelector: {matchLabels: {a: b}}, score: {podman: {containers: [{name: web, image: 'example.org/web:3', env: [{name: MODE, value: new}]}], volumes: [{name: conf, configMap: {name: conf}}]}},"+
			" rollout: {waves: [{name: canary, limit: 1}, {name: shops, approval: Manual, limit: 5}, {name: all, approval: Manual}]}}")
		if !get(t, ns, "web").Spec.Paused {
			t.Error("another apply of Flux has taken it away")
		}
		run(t, "pause-again.txt", 0, "pause web")
		run(t, "resume.txt", 0, "resume web")
		if get(t, ns, "web").Spec.Paused {
			t.Error("it is still paused")
		}
	})
	t.Run("resume of what Git pauses says that it comes back", func(t *testing.T) {
		run(t, "resume-in-git.txt", 0, "resume in-git --dry-run=server")
	})
	t.Run("approve", func(t *testing.T) {
		answered := get(t, ns, "web")
		answered.Status.ObservedGeneration = answered.Generation
		must(t, shared.client.Status().Update(t.Context(), answered))
		run(t, "approve-none.txt", 3, "approve web")
		run(t, "approve-unknown.txt", 3, "approve web --wave shop")
		run(t, "approve-automatic.txt", 3, "approve web --wave canary")
		if answer := run(t, "", 3, "approve charts"); !strings.Contains(answer, "needs an approval") {
			t.Errorf("without waves it says %s", answer)
		}
		d := get(t, ns, "web")
		d.Status.ObservedGeneration = d.Generation
		d.Status.Wave = &v1alpha1.WaveStatus{Name: "shops", Index: 2, Of: 3, Phase: v1alpha1.WaveAwaitingApproval, Since: ago(time.Minute)}
		d.Status.Conditions = []metav1.Condition{condition("Ready", "False", v1alpha1.ReasonAwaitingApproval, "Wave shops begins when somebody approves it", time.Minute)}
		must(t, shared.client.Status().Update(t.Context(), d))
		run(t, "approve.txt", 0, "approve web")
		if answer := run(t, "", 3, "approve web"); !strings.Contains(answer, "has not answered generation") {
			t.Errorf("before the operator has answered it says %s", answer)
		}
		d = get(t, ns, "web")
		d.Status.ObservedGeneration = d.Generation
		must(t, shared.client.Status().Update(t.Context(), d))
		run(t, "approve-ahead.txt", 0, "approve web --wave all")
		want := []v1alpha1.Approval{{Wave: "shops", Revision: "web-cccc"}, {Wave: "all", Revision: "web-cccc"}}
		if got := get(t, ns, "web").Spec.Rollout.Approvals; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("the approvals are %v, want %v", got, want)
		}
		run(t, "approve-in-git.txt", 0, "approve in-git --wave shops --dry-run=server")
	})
	t.Run("restart", func(t *testing.T) {
		answer := run(t, "", 0, "restart web")
		if want := shared.now.UTC().Format(time.RFC3339); get(t, ns, "web").Spec.Score.Podman.RestartedAt != want || !strings.Contains(answer, want) || !strings.Contains(answer, "leaves it as it is") {
			t.Errorf("it says\n%s", answer)
		}
		run(t, "restart-kubernetes.txt", 3, "restart charts")
	})
	t.Run("undo", func(t *testing.T) {
		d := get(t, ns, "web")
		d.Status.ObservedGeneration = d.Generation
		must(t, shared.client.Status().Update(t.Context(), d))
		run(t, "undo-two.txt", 0, "undo web --to-revision 1 --dry-run=server")
		run(t, "undo.txt", 0, "undo web")
		p := get(t, ns, "web").Spec.Score.Podman
		if p.Containers[0].Image != "example.org/web:2" || len(p.Containers[0].Env) != 0 || p.RestartedAt != "" {
			t.Errorf("the score is %+v", p)
		}
		owners := get(t, ns, "web").ManagedFields
		if !slices.ContainsFunc(owners, func(m metav1.ManagedFieldsEntry) bool {
			return m.Manager == "kubectl-fleet" && strings.Contains(m.FieldsV1.GetRawString(), "f:score")
		}) {
			t.Errorf("what Git does not have of the score would stay: %v", owners)
		}
		run(t, "undo-again.txt", 0, "undo web --to-revision bbbb")
		if answer := run(t, "", 3, "undo web"); !strings.Contains(answer, "has not answered generation") {
			t.Errorf("before the operator has answered it says %s", answer)
		}
		d = get(t, ns, "web")
		d.Status.ObservedGeneration, d.Status.CurrentRevision, d.Status.UpdateRevision = d.Generation, "web-bbbb", "web-bbbb"
		must(t, shared.client.Status().Update(t.Context(), d))
		if answer := run(t, "", 0, "undo web --dry-run=client"); !strings.Contains(answer, "rolled back to revision 1 (web-aaaa) (dry run)") {
			t.Errorf("after a complete rollout it says %s", answer)
		}
		if answer := run(t, "", 3, "undo charts"); !strings.Contains(answer, "no revision before") {
			t.Errorf("without revisions it says %s", answer)
		}
	})
	t.Run("refusals of RBAC are clear", func(t *testing.T) {
		nobody := filepath.Join(filepath.Dir(shared.kubeconfig), "nobody")
		role := metav1.ObjectMeta{Namespace: ns, Name: "reader"}
		must(t, shared.client.Create(t.Context(), &rbacv1.Role{ObjectMeta: role, Rules: []rbacv1.PolicyRule{{APIGroups: []string{"fleet.nationtech.io"}, Resources: []string{"deployments"}, Verbs: []string{"get"}}}}))
		must(t, shared.client.Create(t.Context(), &rbacv1.RoleBinding{ObjectMeta: role, RoleRef: rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "Role", Name: "reader"},
			Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: "rbac.authorization.k8s.io", Name: "nobody"}}}))
		for args, want := range map[string]string{
			"pause web":   "kubectl auth can-i patch deployments.fleet.nationtech.io -n steering",
			"history web": "kubectl auth can-i list controllerrevisions.apps -n steering",
		} {
			deadline := time.Now().Add(10 * time.Second)
			for {
				answer := run(t, "", 3, args+" --kubeconfig "+nobody)
				if strings.Contains(answer, want) {
					break
				}
				// The API server learns of the role in a moment.
				if time.Now().After(deadline) {
					t.Fatalf("%s says\n%s", args, answer)
				}
			}
		}
	})
	t.Run("completion", func(t *testing.T) {
		for args, want := range map[string]string{
			"approve in-git --wave ":    "shops\nall\n",
			"undo web --to-revision ":   "1\taaaa, aaaaaaa, web example.org/web:1",
			"history web --revision 2":  "2\tbbbb, bbbbbbb, current, web 1 -> 2",
			"pause we":                  "web\n",
			"pause web --dry-run=":      "client",
			"pause web -o ":             "yaml",
			"approve no-such --wave sh": ":",
		} {
			fields := strings.Split("__complete rollout --kubeconfig "+shared.kubeconfig+" -n "+ns+" "+args, " ")
			out, errOut, code := command(t, t.Context(), fields...)
			if code != 0 || !strings.Contains(out, want) {
				t.Errorf("%s: exit code %d\n%s%s", args, code, out, errOut)
			}
		}
	})
}
