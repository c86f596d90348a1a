package operator_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fluxcd/pkg/runtime/conditions/check"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/pace"
	"github.com/nationtech/fleet/test/simulated"
)

// checked holds a Deployment to what kstatus and Flux expect of conditions.
func checked(t *testing.T, f *fleet, d *v1alpha1.Deployment) {
	t.Helper()
	fail, warn := check.NewChecker(f.client, &check.Conditions{NegativePolarity: []string{"Stalled", "Reconciling"}}).Check(t.Context(), d)
	if fail != nil {
		t.Errorf("conditions: %v", fail)
	}
	if warn != nil {
		t.Logf("conditions: %v", warn)
	}
}

func TestADeploymentReachesItsDevicesAndSaysSo(t *testing.T) {
	f := newFleet(t)
	devices := []*sim{f.device(simulated.Running), f.device(simulated.Running), f.device(simulated.Running)}
	f.deploy("app", nil)
	d := f.complete("app", 3)
	checked(t, f, d)
	if d.Status.UpdateRevision == "" || d.Status.CurrentRevision != d.Status.UpdateRevision || d.Status.Progress != "3/3" {
		t.Errorf("status %+v", d.Status)
	}
	for _, device := range devices {
		if got := device.revision("app"); got != d.Status.UpdateRevision {
			t.Errorf("device %s was told %q", device.id, got)
		}
	}
	f.event(f.namespace, "app", "RolloutStarted")
	f.event(f.namespace, "app", v1alpha1.ReasonRolloutComplete)

	f.edit("app", image("2"))
	after := f.complete("app", 3)
	if after.Status.UpdateRevision == d.Status.UpdateRevision {
		t.Error("another image is the same revision")
	}
	f.edit("app", image("1"))
	if again := f.complete("app", 3); again.Status.UpdateRevision != d.Status.UpdateRevision {
		t.Error("the old image is not the old revision")
	}
	revisions := &appsv1.ControllerRevisionList{}
	must(t, f.client.List(t.Context(), revisions, client.InNamespace(f.namespace)))
	if len(revisions.Items) != 2 {
		t.Errorf("%d revisions, want 2", len(revisions.Items))
	}
	for _, r := range revisions.Items {
		if want := int64(2); r.Name == d.Status.UpdateRevision && r.Revision != want+1 || r.Name != d.Status.UpdateRevision && r.Revision != want {
			t.Errorf("revision %s has number %d", r.Name, r.Revision)
		}
		if !metav1.IsControlledBy(&r, d) {
			t.Errorf("revision %s is not the Deployment's", r.Name)
		}
	}
}

func TestAnEqualSpecIsNeverWrittenAgain(t *testing.T) {
	f := newFleet(t)
	f.device(simulated.Running)
	f.device(simulated.Running)
	f.deploy("app", nil)
	f.complete("app", 2)
	before := f.sequence()
	f.edit("app", func(d *v1alpha1.Deployment) { d.Labels = map[string]string{"touched": "yes"} })
	f.edit("app", func(d *v1alpha1.Deployment) {
		half := intstr.FromString("50%")
		d.Spec.Rollout.MaxUnavailable = &half
	})
	f.complete("app", 2)
	f.stop()
	f.stop = f.startOperator()
	f.edit("app", func(d *v1alpha1.Deployment) { d.Spec.RevisionHistoryLimit = new(int32(3)) })
	f.complete("app", 2)
	if after := f.sequence(); after != before {
		t.Errorf("desired state was written %d times for nothing", after-before)
	}
}

func TestMaxUnavailableBoundsWhatIsBetweenRevisions(t *testing.T) {
	f := newFleet(t)
	const devices, budget = 8, 2
	var mu sync.Mutex
	waiting, most := map[contracts.DeviceID]bool{}, 0
	var all []*sim
	for range devices {
		all = append(all, f.device(simulated.Running))
	}
	two := intstr.FromInt32(budget)
	f.deploy("app", func(d *v1alpha1.Deployment) { d.Spec.Rollout.MaxUnavailable = &two })
	f.complete("app", devices)
	for _, d := range all {
		d.Answer(func(now contracts.DesiredState) *contracts.DeploymentState {
			mu.Lock()
			defer mu.Unlock()
			waiting[d.id] = true
			most = max(most, len(waiting))
			return nil
		})
	}
	f.edit("app", image("2"))
	for done := 0; done < devices; done++ {
		var next *sim
		eventually(t, func() string {
			mu.Lock()
			defer mu.Unlock()
			for _, d := range all {
				if waiting[d.id] {
					next = d
					return ""
				}
			}
			return fmt.Sprintf("%d devices are done and nobody else is told", done)
		})
		mu.Lock()
		delete(waiting, next.id)
		mu.Unlock()
		next.AnswerAgain(simulated.Running)
	}
	f.complete("app", devices)
	if most != budget {
		t.Errorf("%d devices were between revisions at once, the budget is %d", most, budget)
	}
}

func TestAnOfflineDeviceHoldsNothingAndIsToldWhenItReturns(t *testing.T) {
	f := newFleet(t)
	here, away := f.device(simulated.Running), f.device(simulated.Running)
	one := intstr.FromInt32(1)
	f.deploy("app", func(d *v1alpha1.Deployment) { d.Spec.Rollout.MaxUnavailable = &one })
	f.complete("app", 2)
	away.Stop()
	f.until("app", "with one offline", func(d *v1alpha1.Deployment) bool { return d.Status.Aggregate.Offline == 1 })
	device := &v1alpha1.Device{}
	must(t, f.client.Get(t.Context(), client.ObjectKey{Namespace: f.namespace, Name: string(away.id)}, device))
	if got := reason(device.Status.Conditions, v1alpha1.ConditionReady); got != "False HeartbeatMissed" {
		t.Errorf("Ready of the device is %q", got)
	}
	f.edit("app", image("2"))
	d := f.until("app", "ready with one offline", func(d *v1alpha1.Deployment) bool {
		return reason(d.Status.Conditions, v1alpha1.ConditionReady) == "True RolloutComplete" && d.Status.Aggregate.Succeeded == 1 && d.Status.Aggregate.Offline == 1
	})
	checked(t, f, d)
	if here.revision("app") != d.Status.UpdateRevision {
		t.Error("the device that is there was not told")
	}
	f.online(away.id, simulated.Running)
	f.complete("app", 2)
}

func TestADeviceThatWasApprovedBeforeItCameIsToldWhenItComes(t *testing.T) {
	f := newFleet(t)
	f.device(simulated.Running)
	id := f.newID()
	f.approve(id)
	f.deploy("app", nil)
	f.until("app", "complete without it", func(d *v1alpha1.Deployment) bool {
		a := d.Status.Aggregate
		return a != nil && a.Matched == 2 && a.Succeeded == 1 && a.Offline == 1 && meta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionReady)
	})
	f.online(id, simulated.Running)
	f.complete("app", 2)
}

func TestFailingDevicesStallARolloutAndAFixGoesThrough(t *testing.T) {
	f := newFleet(t)
	good, bad := f.device(simulated.Running), f.device(simulated.Running)
	one := intstr.FromInt32(1)
	f.deploy("app", func(d *v1alpha1.Deployment) { d.Spec.Rollout.MaxUnavailable = &one })
	f.complete("app", 2)
	for _, d := range []*sim{good, bad} {
		d.Answer(simulated.Failing("ImagePullFailed"))
	}
	f.edit("app", image("broken"))
	d := f.until("app", "stalled", func(d *v1alpha1.Deployment) bool {
		// Conditions are written before the rest of the status.
		return reason(d.Status.Conditions, v1alpha1.ConditionStalled) == "True DevicesFailed" && len(d.Status.Failures) > 0
	})
	checked(t, f, d)
	if d.Status.Aggregate.Failed != 1 || len(d.Status.Failures) != 1 || d.Status.Failures[0].Reason != "ImagePullFailed" {
		t.Errorf("status %+v", d.Status)
	}
	if got := reason(d.Status.Conditions, v1alpha1.ConditionReconciling); got != "" {
		t.Errorf("Reconciling is %q beside Stalled", got)
	}
	f.event(f.namespace, "app", "WaveHalted")
	for _, d := range []*sim{good, bad} {
		d.Answer(simulated.Running)
	}
	f.edit("app", image("fixed"))
	checked(t, f, f.complete("app", 2))
}

func TestPausedAndSuspendedTellNobodyAnything(t *testing.T) {
	f := newFleet(t)
	device := f.device(simulated.Running)
	f.deploy("app", nil)
	before := f.complete("app", 1)
	f.edit("app", func(d *v1alpha1.Deployment) { d.Spec.Paused = true; image("2")(d) })
	checked(t, f, f.until("app", "paused", func(d *v1alpha1.Deployment) bool {
		return reason(d.Status.Conditions, v1alpha1.ConditionReady) == "False Paused"
	}))
	f.edit("app", func(d *v1alpha1.Deployment) { d.Spec.Paused, d.Spec.Suspend = false, true })
	checked(t, f, f.until("app", "suspended", func(d *v1alpha1.Deployment) bool {
		return reason(d.Status.Conditions, v1alpha1.ConditionReady) == "False Suspended"
	}))
	if got := device.revision("app"); got != before.Status.UpdateRevision {
		t.Errorf("the device was told %s", got)
	}
	f.edit("app", func(d *v1alpha1.Deployment) { d.Spec.Suspend = false })
	f.complete("app", 1)
	if device.revision("app") == before.Status.UpdateRevision {
		t.Error("the device was not told what was held back")
	}
}

func TestAConfigMapIsPartOfTheRevision(t *testing.T) {
	f := newFleet(t)
	device := f.device(simulated.Running)
	f.deploy("app", func(d *v1alpha1.Deployment) {
		d.Spec.Score.Podman.Containers[0].EnvFrom = []v1alpha1.EnvFromSource{{ConfigMapRef: &v1alpha1.ConfigMapRef{Name: "settings"}}}
	})
	d := f.until("app", "stalled", func(d *v1alpha1.Deployment) bool {
		return reason(d.Status.Conditions, v1alpha1.ConditionStalled) == "True ReferenceNotFound"
	})
	checked(t, f, d)
	settings := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "settings"}, Data: map[string]string{"COLOUR": "blue"}}
	must(t, f.client.Create(t.Context(), settings))
	first := f.complete("app", 1).Status.UpdateRevision
	settings.Data["COLOUR"] = "green"
	must(t, f.client.Update(t.Context(), settings))
	f.until("app", "at another revision", func(d *v1alpha1.Deployment) bool {
		return d.Status.UpdateRevision != first && d.Status.Aggregate.Succeeded == 1
	})
	if env := device.Told("app").Score.Podman.Containers[0].Env; len(env) != 1 || env[0].Value != "green" {
		t.Errorf("the device was told %+v", env)
	}
}

func TestDeletingADeploymentWithdrawsIt(t *testing.T) {
	f := newFleet(t)
	device := f.device(simulated.Running)
	other := f.device(simulated.Running)
	f.deploy("app", nil)
	f.deploy("stays", nil)
	f.complete("app", 2)
	f.complete("stays", 2)
	other.Stop()
	must(t, f.client.Delete(t.Context(), f.get("app")))
	eventually(t, func() string {
		err := f.client.Get(t.Context(), client.ObjectKey{Namespace: f.namespace, Name: "app"}, &v1alpha1.Deployment{})
		if !apierrors.IsNotFound(err) {
			return fmt.Sprint("still there: ", err)
		}
		if device.revision("app") != "" {
			return "the device is still told"
		}
		return ""
	})
	keys := f.keys()
	for _, d := range []*sim{device, other} {
		if _, ok := keys[string(d.id)+".app"]; ok {
			t.Errorf("key of %s is still there", d.id)
		}
		if _, ok := keys[string(d.id)+".stays"]; !ok {
			t.Errorf("the other Deployment of %s is gone too", d.id)
		}
	}
}

func TestWhatIsLeftOfADeploymentThatIsGoneIsWithdrawn(t *testing.T) {
	f := newFleet(t)
	device := f.device(simulated.Running)
	f.deploy("app", nil)
	f.complete("app", 1)
	f.stop()
	d := f.get("app")
	d.Finalizers = nil
	must(t, f.client.Update(t.Context(), d))
	must(t, f.client.Delete(t.Context(), d))
	f.stop = f.startOperator()
	eventually(t, func() string {
		if device.revision("app") != "" {
			return "the device is still told"
		}
		return ""
	})
}

func TestALostBucketTakesNothingFromADevice(t *testing.T) {
	f := newFleet(t)
	d := f.device(simulated.Running)
	f.deploy("kept", nil)
	f.deploy("dropped", nil)
	kept := f.complete("kept", 1)
	f.complete("dropped", 1)
	revision := kept.Status.UpdateRevision
	var missed []string
	d.Watch(func(view map[contracts.DeploymentName]contracts.DesiredState) {
		if _, ok := view["kept"]; !ok {
			missed = append(missed, fmt.Sprint(view))
		}
	})
	// The operator is down, the bucket goes, and so does a Deployment.
	f.stop()
	must(t, f.js.DeleteStream(t.Context(), contracts.BucketDesiredState.Stream()))
	dropped := f.get("dropped")
	dropped.Finalizers = nil
	must(t, f.client.Update(t.Context(), dropped))
	must(t, f.client.Delete(t.Context(), dropped))
	f.stop = f.startOperator()
	eventually(t, func() string {
		if got := d.revision("dropped"); got != "" {
			return "the device still has " + got
		}
		if _, ok := f.keys()[string(d.id)+".kept"]; !ok {
			return "what the device is told is not written again"
		}
		return ""
	})
	if got := d.revision("kept"); got != revision || len(missed) > 0 {
		t.Errorf("the device has %q, want %q; it was without it in %v", got, revision, missed)
	}
}

func TestADeploymentThatCannotGoOnWithdrawsAllTheSame(t *testing.T) {
	f := newFleet(t)
	d := f.device(simulated.Running)
	f.deploy("app", nil)
	f.complete("app", 1)
	f.edit("app", func(d *v1alpha1.Deployment) {
		d.Spec.Score.Podman.Containers[0].EnvFrom = []v1alpha1.EnvFromSource{{ConfigMapRef: &v1alpha1.ConfigMapRef{Name: "missing"}}}
	})
	f.until("app", "stalled", func(d *v1alpha1.Deployment) bool {
		return reason(d.Status.Conditions, v1alpha1.ConditionStalled) == "True "+v1alpha1.ReasonReferenceNotFound
	})
	device := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: string(d.id)}}
	must(t, f.client.Delete(t.Context(), device))
	eventually(t, func() string {
		if err := f.client.Get(t.Context(), client.ObjectKeyFromObject(device), device); !apierrors.IsNotFound(err) {
			return fmt.Sprintf("the Device is still there: %v", err)
		}
		return ""
	})
	if got, ok := f.keys()[string(d.id)+".app"]; ok {
		t.Errorf("the device is still told %s", got)
	}
}

func TestARevisionThatNobodyOwnsIsAdopted(t *testing.T) {
	f := newFleet(t)
	f.device(simulated.Running)
	f.deploy("app", nil)
	revision := f.complete("app", 1).Status.UpdateRevision
	app := f.get("app")
	must(t, f.client.Delete(t.Context(), app, client.PropagationPolicy(metav1.DeletePropagationOrphan)))
	left := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: revision}}
	eventually(t, func() string {
		if err := f.client.Get(t.Context(), client.ObjectKeyFromObject(app), app); !apierrors.IsNotFound(err) {
			// No garbage collector runs here: orphaning is ours to do.
			must(t, f.client.Get(t.Context(), client.ObjectKeyFromObject(left), left))
			left.OwnerReferences = nil
			must(t, client.IgnoreNotFound(f.client.Update(t.Context(), left)))
			app.Finalizers = slices.DeleteFunc(app.Finalizers, func(s string) bool { return s == metav1.FinalizerOrphanDependents })
			_ = f.client.Update(t.Context(), app)
			return "the Deployment is still there"
		}
		return ""
	})
	f.deploy("app", nil)
	f.complete("app", 1)
	must(t, f.client.Get(t.Context(), client.ObjectKeyFromObject(left), left))
	if !metav1.IsControlledBy(left, f.get("app")) {
		t.Errorf("revision %s is owned by %v", left.Name, left.OwnerReferences)
	}
}

func TestADeviceThatLeavesTheSelectorIsToldNoLonger(t *testing.T) {
	f := newFleet(t)
	stays, leaves := f.device(simulated.Running), f.device(simulated.Running)
	f.deploy("app", nil)
	f.complete("app", 2)
	key := client.ObjectKey{Namespace: f.namespace, Name: string(leaves.id)}
	for _, change := range []struct {
		name       string
		away, back func(*v1alpha1.Device)
	}{
		{"other labels", func(d *v1alpha1.Device) { d.Labels = nil }, func(d *v1alpha1.Device) { d.Labels = map[string]string{"run": "yes"} }},
		{"not approved", func(d *v1alpha1.Device) { d.Spec.Approved = new(false) }, func(d *v1alpha1.Device) { d.Spec.Approved = new(true) }},
	} {
		edit := func(do func(*v1alpha1.Device)) {
			d := &v1alpha1.Device{}
			must(t, f.client.Get(t.Context(), key, d))
			patch := client.MergeFrom(d.DeepCopy())
			do(d)
			must(t, f.client.Patch(t.Context(), d, patch))
		}
		edit(change.away)
		f.complete("app", 1)
		eventually(t, func() string {
			if got, ok := f.keys()[string(leaves.id)+".app"]; ok {
				return change.name + ": the device is still told " + got
			}
			return ""
		})
		edit(change.back)
		f.complete("app", 2)
	}
	d := &v1alpha1.Device{}
	must(t, f.client.Get(t.Context(), key, d))
	must(t, f.client.Delete(t.Context(), d))
	f.complete("app", 1)
	eventually(t, func() string {
		if err := f.client.Get(t.Context(), key, d); !apierrors.IsNotFound(err) {
			return fmt.Sprintf("the Device is still there (%v), finalizers %v", err, d.Finalizers)
		}
		for k := range f.keys() {
			if strings.HasPrefix(k, string(leaves.id)+".") {
				return "key " + k + " is still there"
			}
		}
		return ""
	})
	if stays.revision("app") == "" {
		t.Error("the other device is told no longer too")
	}
}

func TestACordonedDeviceKeepsWhatItHas(t *testing.T) {
	f := newFleet(t)
	device, other := f.device(simulated.Running), f.device(simulated.Running)
	f.deploy("app", nil)
	before := f.complete("app", 2).Status.UpdateRevision
	cordon := func(v bool) {
		d := &v1alpha1.Device{}
		must(t, f.client.Get(t.Context(), client.ObjectKey{Namespace: f.namespace, Name: string(device.id)}, d))
		patch := client.MergeFrom(d.DeepCopy())
		d.Spec.Cordoned = v
		must(t, f.client.Patch(t.Context(), d, patch))
	}
	cordon(true)
	f.edit("app", image("2"))
	f.until("app", "ready but for the cordoned", func(d *v1alpha1.Deployment) bool {
		return d.Status.Aggregate.Succeeded == 1 && reason(d.Status.Conditions, v1alpha1.ConditionReady) == "True RolloutComplete"
	})
	if device.revision("app") != before || other.revision("app") == before {
		t.Errorf("told: cordoned %s, other %s, before %s", device.revision("app"), other.revision("app"), before)
	}
	cordon(false)
	f.complete("app", 2)
}

func TestASecondDeviceOfAnIDIsRefused(t *testing.T) {
	f := newFleet(t)
	device := f.device(simulated.Running)
	f.deploy("app", nil)
	f.complete("app", 1)
	elsewhere := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "second-"}}
	must(t, f.client.Create(t.Context(), elsewhere))
	// Made in the same second, the namespace that comes first in the alphabet has it.
	second := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: elsewhere.Name, Name: string(device.id), Labels: map[string]string{"run": "yes"}}}
	second.Spec.Approved = new(true)
	must(t, f.client.Create(t.Context(), second))
	eventually(t, func() string {
		must(t, f.client.Get(t.Context(), client.ObjectKeyFromObject(second), second))
		for _, c := range second.Status.Conditions {
			if c.Type == v1alpha1.ConditionReady && c.Reason == v1alpha1.ReasonDuplicateID && strings.Contains(c.Message, f.namespace+"/"+string(device.id)) {
				return ""
			}
		}
		return fmt.Sprintf("conditions %+v", second.Status.Conditions)
	})
	f.event(elsewhere.Name, string(device.id), v1alpha1.ReasonDuplicateID)
	if f.complete("app", 1); device.revision("app") == "" {
		t.Error("the first Device lost its Deployment")
	}
	// It gives the ID back without taking anything of the first with it.
	must(t, f.client.Delete(t.Context(), second))
	eventually(t, func() string {
		if err := f.client.Get(t.Context(), client.ObjectKeyFromObject(second), second); !apierrors.IsNotFound(err) {
			return fmt.Sprint("still there: ", err)
		}
		return ""
	})
	f.complete("app", 1)
}

func TestMalformedValuesAreToldOfAndHurtNobodyElse(t *testing.T) {
	f := newFleet(t)
	bad, good := f.device(simulated.Running), f.device(simulated.Running)
	f.deploy("app", nil)
	f.complete("app", 2)
	for _, key := range []string{"$KV.device-state.state." + string(bad.id) + ".app", "$KV.desired-state." + string(good.id) + ".app"} {
		_, err := f.js.Publish(t.Context(), key, []byte(`{"v":99}`))
		must(t, err)
	}
	f.event(f.namespace, string(bad.id), "MalformedValue")
	f.until("app", "naming the unreadable report", func(d *v1alpha1.Deployment) bool {
		return len(d.Status.Failures) == 1 && d.Status.Failures[0].Reason == "InvalidReport" && d.Status.Failures[0].Device == string(bad.id)
	})
	// The operator's own key is written anew; the device reports again when it has
	// something to say.
	bad.AnswerAgain(simulated.Running)
	f.complete("app", 2)
	eventually(t, func() string {
		if v := f.keys()[string(good.id)+".app"]; !strings.Contains(v, `"revision"`) {
			return "the key holds " + v
		}
		return ""
	})
}

func TestAnotherReplicaTakesOver(t *testing.T) {
	f := newFleet(t)
	device := f.device(simulated.Running)
	f.deploy("app", nil)
	f.complete("app", 1)
	second := f.startOperator()
	defer second()
	f.stop()
	f.edit("app", image("2"))
	d := f.complete("app", 1)
	if device.revision("app") != d.Status.UpdateRevision {
		t.Error("the device was not told")
	}
}

func TestARestartInTheMiddleOfARolloutGoesOn(t *testing.T) {
	f := newFleet(t)
	var all []*sim
	for range 6 {
		all = append(all, f.device(simulated.Running))
	}
	one := intstr.FromInt32(1)
	f.deploy("app", func(d *v1alpha1.Deployment) { d.Spec.Rollout.MaxUnavailable = &one })
	f.complete("app", 6)
	for _, d := range all {
		d.Answer(simulated.Silent)
	}
	writes := f.writes(all)
	f.edit("app", image("2"))
	f.until("app", "with one told", func(d *v1alpha1.Deployment) bool { return d.Status.Aggregate.Updated == 1 })
	f.stop()
	f.stop = f.startOperator()
	for _, d := range all {
		d.AnswerAgain(simulated.Running)
	}
	f.complete("app", 6)
	if wrote := writes(); wrote != 6 {
		t.Errorf("%d writes for 6 devices", wrote)
	}
}

func TestOldRevisionsArePruned(t *testing.T) {
	f := newFleet(t)
	f.device(simulated.Running)
	f.deploy("app", func(d *v1alpha1.Deployment) { d.Spec.RevisionHistoryLimit = new(int32(2)) })
	f.complete("app", 1)
	for i := range 5 {
		f.edit("app", image(fmt.Sprint("v", i)))
		f.complete("app", 1)
	}
	eventually(t, func() string {
		list := &appsv1.ControllerRevisionList{}
		must(t, f.client.List(t.Context(), list, client.InNamespace(f.namespace)))
		var numbers []int64
		var names []string
		for _, r := range list.Items {
			numbers = append(numbers, r.Revision)
			names = append(names, fmt.Sprint(r.Revision, " ", r.Name))
		}
		slices.Sort(numbers)
		if !slices.Equal(numbers, []int64{4, 5, 6}) {
			return fmt.Sprintf("revisions %v, want the last three; the present one is %s", names, f.get("app").Status.UpdateRevision)
		}
		return ""
	})
}

// TestManyReportsAreFewWrites has devices report without end: etcd must not pay
// for it.
func TestManyReportsAreFewWrites(t *testing.T) {
	f := newFleet(t)
	var all []*sim
	for range 20 {
		all = append(all, f.device(simulated.Running))
	}
	f.deploy("app", nil)
	f.complete("app", 20)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	w, err := f.client.Watch(ctx, &v1alpha1.DeploymentList{}, client.InNamespace(f.namespace))
	must(t, err)
	defer w.Stop()
	reports := 0
	for i := 0; ctx.Err() == nil; i++ {
		d := all[i%len(all)]
		if i/len(all)%2 == 0 {
			d.AnswerAgain(simulated.Failing("ProbeFailed"))
		} else {
			d.AnswerAgain(simulated.Running)
		}
		reports++
	}
	writes := map[string]bool{}
	for e := range w.ResultChan() {
		if d, ok := e.Object.(*v1alpha1.Deployment); ok {
			writes[d.ResourceVersion] = true
		}
	}
	t.Logf("%d reports in 3 s, %d writes of the status", reports, len(writes))
	// One each second after a burst, see package pace; the patch helper writes
	// conditions and the rest of a status one after the other.
	if reports < 300 || len(writes) > 2*(pace.Burst+4) {
		t.Errorf("%d reports cost %d writes", reports, len(writes))
	}
	for _, d := range all {
		d.AnswerAgain(simulated.Running)
	}
	f.complete("app", 20)
}

func TestDevicesDifferWhereTheScoreRefersToThem(t *testing.T) {
	f := newFleet(t)
	a, b := f.device(simulated.Running), f.device(simulated.Running)
	f.deploy("app", func(d *v1alpha1.Deployment) {
		d.Spec.Score.Podman.Containers[0].Env = []v1alpha1.EnvVar{{Name: "ME", ValueFrom: &v1alpha1.EnvVarSource{FieldRef: &v1alpha1.FieldRef{FieldPath: "metadata.name"}}}}
	})
	f.complete("app", 2)
	got := map[contracts.DeviceID]string{}
	for _, d := range []*sim{a, b} {
		got[d.id] = d.Told("app").Score.Podman.Containers[0].Env[0].Value
	}
	if want := map[contracts.DeviceID]string{a.id: string(a.id), b.id: string(b.id)}; !maps.Equal(got, want) {
		t.Errorf("told %v", got)
	}
}
