package operator_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/simulated"
)

// canary is a rollout in which one device gets a revision first.
func canary(soak time.Duration, change func(*v1alpha1.Rollout)) func(*v1alpha1.Deployment) {
	return func(d *v1alpha1.Deployment) {
		one := intstr.FromInt32(1)
		d.Spec.Rollout.Waves = []v1alpha1.Wave{{Name: "canary", Limit: &one, Soak: &metav1.Duration{Duration: soak}}}
		if change != nil {
			change(&d.Spec.Rollout)
		}
	}
}

func (f *fleet) devices(n int, answer simulated.Answer) (all []*sim) {
	f.Helper()
	for range n {
		all = append(all, f.device(answer))
	}
	return all
}

// told counts the devices by the revision that they were told.
func told(devices []*sim, name string) map[string]int {
	out := map[string]int{}
	for _, d := range devices {
		out[d.revision(name)]++
	}
	return out
}

func phase(p v1alpha1.WavePhase, wave string) func(*v1alpha1.Deployment) bool {
	return func(d *v1alpha1.Deployment) bool {
		return d.Status.Wave != nil && d.Status.Wave.Phase == p && d.Status.Wave.Name == wave
	}
}

// answering changes what devices answer from now on.
func answering(devices []*sim, answer simulated.Answer) {
	for _, d := range devices {
		d.Answer(answer)
	}
}

func TestACanarySoaksAndThenTheRestFollows(t *testing.T) {
	f := newFleet(t)
	all := f.devices(4, simulated.Running)
	const soak = 2 * time.Second
	f.deploy("app", canary(soak, nil))
	old := f.complete("app", 4).Status.UpdateRevision
	f.edit("app", image("2"))
	d := f.until("app", "soaking", phase(v1alpha1.WaveSoaking, "canary"))
	checked(t, f, d)
	if got := told(all, "app"); got[old] != 3 || got[d.Status.UpdateRevision] != 1 {
		t.Errorf("while the canary soaks devices were told %v", got)
	}
	if d.Status.Wave.Until == nil || d.Status.Wave.Of != 2 {
		t.Errorf("wave %+v", d.Status.Wave)
	}
	checked(t, f, f.complete("app", 4))
	f.event(f.namespace, "app", "WaveStarted")
	f.event(f.namespace, "app", "WaveCompleted")
	var last, first time.Time
	for _, device := range all {
		at := device.Told("app").Time
		if first.IsZero() || at.Before(first) {
			first = at
		}
		if at.After(last) {
			last = at
		}
	}
	if gap := last.Sub(first); gap < soak || gap > soak+time.Second {
		t.Errorf("the rest was told %v after the canary, want it within a second of %v", gap, soak)
	}
}

func TestWhoJoinsWhileACanarySoaksGetsWhatTheOthersRun(t *testing.T) {
	f := newFleet(t)
	f.devices(2, simulated.Running)
	f.deploy("app", canary(0, nil))
	old := f.complete("app", 2).Status.UpdateRevision
	f.edit("app", func(d *v1alpha1.Deployment) {
		image("2")(d)
		// Longer than it takes to join, however busy the machine is.
		d.Spec.Rollout.Waves[0].Soak = &metav1.Duration{Duration: time.Hour}
	})
	f.until("app", "soaking", phase(v1alpha1.WaveSoaking, "canary"))
	joined := f.device(simulated.Running)
	eventually(t, func() string {
		if got := joined.revision("app"); got != old {
			return fmt.Sprintf("the new device was told %q, want %q", got, old)
		}
		return ""
	})
}

func TestABadCanaryHaltsAndAFixResumesByItself(t *testing.T) {
	f := newFleet(t)
	all := f.devices(5, simulated.Running)
	f.deploy("app", canary(0, nil))
	old := f.complete("app", 5).Status.UpdateRevision
	answering(all, simulated.Failing("ImagePullFailed"))
	f.edit("app", image("bad"))
	d := f.until("app", "halted", func(d *v1alpha1.Deployment) bool {
		return phase(v1alpha1.WaveHalted, "canary")(d) && len(d.Status.Failures) == 1
	})
	checked(t, f, d)
	if got := told(all, "app"); got[old] != 4 || got[d.Status.UpdateRevision] != 1 {
		t.Errorf("devices were told %v", got)
	}
	answering(all, simulated.Running)
	f.edit("app", image("fixed"))
	checked(t, f, f.complete("app", 5))
}

func TestRollbackTakesBackWhatFailedAndIsNotTriedAgain(t *testing.T) {
	f := newFleet(t)
	all := f.devices(4, simulated.Running)
	f.deploy("app", canary(0, func(r *v1alpha1.Rollout) {
		r.OnFailure = v1alpha1.OnFailureRollback
		half := intstr.FromString("50%")
		r.Waves = append(r.Waves, v1alpha1.Wave{Name: "half", Limit: &half})
	}))
	old := f.complete("app", 4).Status.UpdateRevision
	// The canary runs it, and then not all devices do.
	seen := make(chan struct{}, 16)
	answering(all, func(d contracts.DesiredState) *contracts.DeploymentState {
		if d.Revision == old || d.Wave == "canary" {
			return simulated.Running(d)
		}
		seen <- struct{}{}
		return &contracts.DeploymentState{Phase: contracts.PhaseRolledBack, Reason: "ProbeFailed", Message: "it is not well"}
	})
	f.edit("app", image("bad"))
	d := f.until("app", "rolled back", func(d *v1alpha1.Deployment) bool {
		return d.Status.Wave != nil && d.Status.Wave.Phase == v1alpha1.WaveRolledBack
	})
	checked(t, f, d)
	if got := told(all, "app"); got[old] != 4 || len(seen) == 0 {
		t.Errorf("devices were told %v, and %d tried it", got, len(seen))
	}
	if got := reason(d.Status.Conditions, v1alpha1.ConditionStalled); got != "True RolledBack" {
		t.Errorf("Stalled is %q", got)
	}
	f.event(f.namespace, "app", "RolledBack")
	// Another operator does not begin again, not even when a device returns.
	writes := f.writes(all)
	f.stop()
	f.stop = f.startOperator()
	f.edit("app", func(d *v1alpha1.Deployment) { d.Spec.RevisionHistoryLimit = new(int32(5)) })
	f.until("app", "rolled back", func(d *v1alpha1.Deployment) bool {
		return d.Status.Wave != nil && d.Status.Wave.Phase == v1alpha1.WaveRolledBack
	})
	if n := writes(); n != 0 {
		t.Errorf("%d writes after a restart", n)
	}
	// Another revision is another try, and so is the same one after it.
	answering(all, simulated.Running)
	f.edit("app", image("fixed"))
	f.complete("app", 4)
	f.edit("app", image("bad"))
	f.complete("app", 4)
}

func TestAWaveWaitsForItsApproval(t *testing.T) {
	f := newFleet(t)
	all := f.devices(3, simulated.Running)
	f.deploy("app", canary(0, func(r *v1alpha1.Rollout) {
		r.Waves = append(r.Waves, v1alpha1.Wave{Name: "rest-of-it", Approval: v1alpha1.ApprovalManual})
	}))
	approve := func() string {
		d := f.until("app", "waiting for approval", phase(v1alpha1.WaveAwaitingApproval, "rest-of-it"))
		checked(t, f, d)
		f.edit("app", func(d *v1alpha1.Deployment) {
			d.Spec.Rollout.Approvals = []v1alpha1.Approval{{Wave: "rest-of-it", Revision: d.Status.UpdateRevision}}
		})
		return d.Status.UpdateRevision
	}
	first := approve()
	f.complete("app", 3)
	// The approval of one revision is none of the next.
	f.edit("app", image("2"))
	f.until("app", "waiting for approval", phase(v1alpha1.WaveAwaitingApproval, "rest-of-it"))
	if got := told(all, "app"); got[first] != 2 {
		t.Errorf("devices were told %v", got)
	}
	approve()
	f.complete("app", 3)
}

// TestAnOperatorKilledAtRandomMomentsWritesTheSame restarts the operator all
// through a rollout: each device is told once, in the wave that it would have been
// told in anyway.
func TestAnOperatorKilledAtRandomMomentsWritesTheSame(t *testing.T) {
	f := newFleet(t)
	all := f.devices(8, simulated.Running)
	f.deploy("app", canary(300*time.Millisecond, func(r *v1alpha1.Rollout) {
		quarter := intstr.FromString("25%")
		r.Waves = append(r.Waves, v1alpha1.Wave{Name: "quarter", Limit: &quarter, Soak: &metav1.Duration{Duration: 300 * time.Millisecond}})
		r.MaxUnavailable = &quarter
	}))
	f.complete("app", 8)
	slow := func(d contracts.DesiredState) *contracts.DeploymentState {
		time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond) // a device takes its time
		return simulated.Running(d)
	}
	answering(all, slow)
	rollout := func(tag string, kills int) (writes int64, waves string) {
		count := f.writes(all)
		f.edit("app", image(tag))
		for range kills {
			time.Sleep(time.Duration(rand.IntN(120)) * time.Millisecond) // the moment is to be random
			f.stop()
			f.stop = f.startOperator()
		}
		f.complete("app", 8)
		for _, d := range all {
			waves += fmt.Sprintf("%s %s\n", d.id, d.Told("app").Wave)
		}
		return count(), waves
	}
	undisturbed, want := rollout("2", 0)
	killed, got := rollout("3", 10)
	if undisturbed != 8 || killed != 8 {
		t.Errorf("%d writes undisturbed and %d with the operator killed, want 8", undisturbed, killed)
	}
	if got != want {
		t.Errorf("devices were told in other waves:\n%s\nundisturbed:\n%s", got, want)
	}
	if strings.Count(want, "canary") != 1 || strings.Count(want, "quarter") != 2 {
		t.Errorf("waves:\n%s", want)
	}
}

func TestRevisionsKeepTheirConfigMapsToGoBackTo(t *testing.T) {
	f := newFleet(t)
	device := f.device(simulated.Running)
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "settings"}, Data: map[string]string{"SETTING": "one"}}
	must(t, f.client.Create(t.Context(), config))
	f.deploy("app", canary(0, func(r *v1alpha1.Rollout) { r.OnFailure = v1alpha1.OnFailureRollback }))
	f.edit("app", func(d *v1alpha1.Deployment) {
		d.Spec.Score.Podman.Containers[0].EnvFrom = []v1alpha1.EnvFromSource{{ConfigMapRef: &v1alpha1.ConfigMapRef{Name: "settings"}}}
	})
	revision := f.complete("app", 1).Status.UpdateRevision
	answering([]*sim{device}, func(d contracts.DesiredState) *contracts.DeploymentState {
		if d.Revision == revision {
			return simulated.Running(d)
		}
		return &contracts.DeploymentState{Phase: contracts.PhaseRolledBack, Reason: "ProbeFailed", Message: "it is not well"}
	})
	config.Data["SETTING"] = "two"
	must(t, f.client.Update(t.Context(), config))
	f.until("app", "rolled back", func(d *v1alpha1.Deployment) bool {
		return d.Status.Wave != nil && d.Status.Wave.Phase == v1alpha1.WaveRolledBack
	})
	env := device.Told("app").Score.Podman.Containers[0].Env
	if len(env) != 1 || env[0].Value != "one" {
		t.Errorf("the device was told %v", env)
	}
	revisions := &appsv1.ControllerRevisionList{}
	must(t, f.client.List(t.Context(), revisions, client.InNamespace(f.namespace)))
	marked := 0
	for _, r := range revisions.Items {
		if r.Annotations["fleet.nationtech.io/rolled-back"] != "" {
			marked++
		}
	}
	if marked != 1 {
		t.Errorf("%d of %d revisions are marked as rolled back", marked, len(revisions.Items))
	}
}
