package device

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleet/api/v1alpha1"
)

func TestSlimTakesOnlyWhatNobodyNeeds(t *testing.T) {
	device := func(capacity string) *v1alpha1.Device {
		d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Name: "till", Namespace: "shops", Labels: map[string]string{"site": "mtl", "line": "4"}, Annotations: map[string]string{"a": "b"}, Finalizers: []string{v1alpha1.Finalizer}}}
		d.Spec.PublicKey = "U"
		d.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Heartbeat", Message: "A heartbeat arrives"}}
		d.Status.Info = &v1alpha1.DeviceInfo{Hostname: "till", Drivers: map[string]string{"podman": "5"}, Capacity: map[string]resource.Quantity{"cpu": resource.MustParse(capacity)}}
		return d
	}
	slim := func(d *v1alpha1.Device) *v1alpha1.Device {
		t.Helper()
		d.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "flux"}}
		d.Annotations[corev1.LastAppliedConfigAnnotation] = "{}"
		out, err := Slim(d)
		if err != nil {
			t.Fatal(err)
		}
		return out.(*v1alpha1.Device)
	}
	one, other, larger := slim(device("4")), slim(device("4")), slim(device("8"))
	if !reflect.DeepEqual(one, device("4")) || !reflect.DeepEqual(larger, device("8")) {
		t.Errorf("%+v and %+v", one, larger)
	}
	same := func(a, b any) bool { return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer() }
	if !same(one.Labels, other.Labels) || !same(one.Status.Info.Drivers, other.Status.Info.Drivers) || !same(one.Status.Info.Capacity, other.Status.Info.Capacity) {
		t.Error("equal maps are not one")
	}
	if same(one.Status.Info.Capacity, larger.Status.Info.Capacity) {
		t.Error("maps that differ are one")
	}
	two, forged := device("4"), device("4")
	two.Status.Info.Drivers = map[string]string{"kvm": "1", "podman": "5"}
	forged.Status.Info.Drivers = map[string]string{"kvm": `1,"podman"=5`}
	if same(slim(two).Status.Info.Drivers, slim(forged).Status.Info.Drivers) {
		t.Error("a device passes for another by what it calls its drivers")
	}
	if p := (&v1alpha1.Deployment{}); func() any { o, _ := Slim(p); return o }() != any(p) {
		t.Error("what is no Device comes back as another")
	}
}
