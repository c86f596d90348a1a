package operator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/plugin"
	"github.com/nationtech/fleet/plugin/status"
	"github.com/nationtech/fleet/test/simulated"
)

// bindEverywhere gives somebody a role in all namespaces, until the test ends.
func (f *fleet) bindEverywhere(who rbacv1.Subject, role string) {
	f.Helper()
	b := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}, Subjects: []rbacv1.Subject{who},
	}
	f.create(b)
}

func (f *fleet) create(o client.Object) {
	f.Helper()
	must(f.T, f.client.Create(f.Context(), o))
	c := f.client
	f.Cleanup(func() { _ = c.Delete(context.Background(), o) })
}

// statusAs is what kubectl fleet status says to somebody.
func (f *fleet) statusAs(user string, args ...string) status.Report {
	f.Helper()
	out := f.kubectl(append([]string{"status", "-o", "json", "--as", user}, args...)...)
	var r status.Report
	must(f.T, json.Unmarshal([]byte(out), &r))
	r.Time = metav1.Time{}
	return r
}

// One may ask the live API and the other may not: what they are told of the same fleet
// has to be the same, whichever way it was counted.
func TestStatusIsTheSameWithAndWithoutTheLiveAPI(t *testing.T) {
	f := newLiveFleet(t)
	other := f.team()
	add := func(namespace string, id string, change func(*v1alpha1.Device)) {
		t.Helper()
		d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: id, Labels: map[string]string{"site": "tor"}}}
		d.Spec.Approved = new(true)
		if change != nil {
			change(d)
		}
		must(t, f.client.Create(t.Context(), d))
	}
	// What has an ID is older than what wants it too.
	taken := unique(t, "taken")
	add(other, taken, nil)
	f.device(simulated.Running)
	mismatched := f.device(simulated.Running)
	var gone []*sim
	for range 3 {
		gone = append(gone, f.device(simulated.Running))
	}
	for _, d := range gone {
		d.Stop()
	}
	for n := range 5 {
		add(f.namespace, unique(t, fmt.Sprint("new-", n)), func(d *v1alpha1.Device) { d.Spec.Cordoned = n == 0 })
	}
	for n := range 4 {
		add(f.namespace, unique(t, fmt.Sprint("applicant-", n)), func(d *v1alpha1.Device) { d.Spec.Approved = nil })
	}
	add(f.namespace, unique(t, "out"), func(d *v1alpha1.Device) { d.Spec.Approved = new(false) })
	// It was set up anew, and its agent still has the key that it had before.
	d := &v1alpha1.Device{}
	must(t, f.client.Get(t.Context(), client.ObjectKey{Namespace: f.namespace, Name: string(mismatched.id)}, d))
	patch := client.MergeFrom(d.DeepCopy())
	d.Spec.PublicKey = f.publicKey(f.newID())
	must(t, f.client.Patch(t.Context(), d, patch))
	// Its connection ends with that; its last heartbeat is to hold for a while.
	value, err := contracts.Encode(contracts.HeartbeatPayload{V: contracts.Version, Seq: 1 << 20, Time: time.Now().UnixMilli(), Interval: 600})
	must(t, err)
	eventually(t, func() string {
		if mismatched.Connected() {
			return "it is connected still"
		}
		return ""
	})
	_, err = f.js.Publish(t.Context(), contracts.BucketDeviceHeartbeat.Subject(contracts.HeartbeatKey(mismatched.id)), value)
	must(t, err)
	f.untilDevice(gone[2].id, "gone", func(d *v1alpha1.Device) bool {
		return reason(d.Status.Conditions, v1alpha1.ConditionReady) == "False HeartbeatMissed"
	})
	add(f.namespace, taken, nil)
	add(other, string(gone[0].id), nil)

	blind := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{"deployments", "devices"}, Verbs: []string{"get", "list"}},
	}}
	flux := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{"kustomize.toolkit.fluxcd.io", "source.toolkit.fluxcd.io"}, Resources: []string{"*"}, Verbs: []string{"list"}},
	}}
	f.create(blind)
	f.create(flux)
	f.bindEverywhere(person("seeing"), "fleet-view")
	f.bindEverywhere(person("blind"), blind.Name)
	f.bindEverywhere(person("seeing"), flux.Name)
	f.bindEverywhere(person("blind"), flux.Name)
	eventually(t, func() string {
		may := f.as(t, "seeing").List(t.Context(), &live.FleetHealthList{})
		mayNot := f.as(t, "blind").List(t.Context(), &live.FleetHealthList{})
		if may != nil || !apierrors.IsForbidden(mayNot) || f.as(t, "blind").List(t.Context(), &v1alpha1.DeviceList{}) != nil {
			return fmt.Sprintf("who may ask the live API is answered %v, who may not %v", may, mayNot)
		}
		return ""
	})

	want := status.Devices{Total: 16, Ready: 1, NotReady: 4, NeverSeen: 5, Pending: 4, ShutOut: 1, Duplicate: 1, Mismatched: 1, Cordoned: 1}
	for _, args := range [][]string{nil, {"-l", "site=tor"}, {"-l", "site!=tor"}, {"-l", "site=none"}, {"-n", other}, {"-A"}} {
		t.Run(strings.Join(append([]string{"status"}, args...), " "), func(t *testing.T) {
			eventually(t, func() string {
				with, without := f.statusAs("seeing", args...), f.statusAs("blind", args...)
				if !reflect.DeepEqual(with, without) {
					a, _ := json.Marshal(with)
					b, _ := json.Marshal(without)
					return fmt.Sprintf("with the live API\n%s\nwithout\n%s", a, b)
				}
				if got := with.Devices; args == nil {
					if len(got.Gone) != 3 || len(got.Waiting) != 3 || len(got.Applicants) != 3 || len(got.Duplicates) != 1 || len(got.Mismatches) != 1 {
						return fmt.Sprintf("it names %+v", got)
					}
					got.Gone, got.Waiting, got.Applicants, got.Duplicates, got.Mismatches = nil, nil, nil, nil, nil
					if !reflect.DeepEqual(got, want) {
						return fmt.Sprintf("it counts %+v", got)
					}
				}
				return ""
			})
		})
	}

	// Without the operator the numbers are those that it wrote last, and it says so.
	before := f.statusAs("seeing")
	f.stop()
	f.stop = func() {}
	eventually(t, func() string {
		after := f.statusAs("seeing")
		if len(after.Footnotes) != len(before.Footnotes)+1 || !strings.Contains(fmt.Sprint(after.Footnotes), "as the operator wrote them last") {
			return fmt.Sprintf("its footnotes are %q", after.Footnotes)
		}
		after.Footnotes = before.Footnotes
		if !reflect.DeepEqual(after, before) {
			return fmt.Sprintf("%+v\nbefore %+v", after, before)
		}
		return ""
	})
}

// Nothing about a Deployment changes, and everything is read every ten seconds at most.
func TestStatusWatchHearsOfDevicesBeforeItReadsEverything(t *testing.T) {
	f := newLiveFleet(t)
	f.approve(f.newID())
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	done, kubeconfig := make(chan int, 1), f.writeKubeconfig()
	go func() {
		defer in.Close()
		streams := genericiooptions.IOStreams{In: strings.NewReader(""), Out: in, ErrOut: io.Discard}
		done <- plugin.Execute(ctx, []string{"status", "--watch", "-o", "json", "--kubeconfig", kubeconfig}, streams)
	}()
	t.Cleanup(func() {
		cancel()
		out.Close()
		<-done
	})
	reports := json.NewDecoder(out)
	next := func() (r status.Report) {
		t.Helper()
		must(t, reports.Decode(&r))
		return r
	}
	next()
	// The watch of Deployments has begun meanwhile, and brings one reading of its own.
	before := next()
	f.approve(f.newID())
	after := next()
	if took := after.Time.Sub(before.Time.Time); after.Devices.Total != before.Devices.Total+1 || took >= 9*time.Second {
		t.Errorf("%v after %+v there is %+v", took, before.Devices, after.Devices)
	}
}
