package device

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/operator/record"
	"github.com/nationtech/fleet/operator/roster"
)

const system = "fleet-system"

func newReconciler(t *testing.T) (*Reconciler, *testingclock.FakeClock) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	clock := testingclock.NewFakeClock(time.Unix(1_000_000, 0))
	return &Reconciler{
		Client: fake.NewClientBuilder().WithScheme(scheme).Build(), Roster: roster.New(),
		View: fleetview.New(fleetview.Options{Clock: clock}), Recorder: &record.Recorder{}, Clock: clock, Namespace: system,
	}, clock
}

func (r *Reconciler) registered(t *testing.T, id contracts.DeviceID) bool {
	t.Helper()
	err := r.Get(t.Context(), types.NamespacedName{Namespace: r.Namespace, Name: string(id)}, &v1alpha1.Device{})
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return err == nil
}

func TestADeletedDeviceIsRegisteredAnewAfterAWhile(t *testing.T) {
	r, clock := newReconciler(t)
	value, err := contracts.Encode(contracts.DeviceInfo{Device: "a"})
	if err != nil {
		t.Fatal(err)
	}
	r.View.Fold(bus.Entry{Bucket: contracts.BucketDeviceInfo, Key: contracts.DeviceInfoKey("a"), Value: value})
	r.deleted.Store(contracts.DeviceID("a"), clock.Now())
	for _, at := range []time.Duration{0, settle - time.Second} {
		result, err := r.register(t.Context(), "a")
		if err != nil || result.RequeueAfter <= 0 || r.registered(t, "a") {
			t.Fatalf("after %s: %+v, %v, registered %v; want it to wait", at, result, err, r.registered(t, "a"))
		}
		clock.Step(settle - time.Second)
	}
	if result, err := r.register(t.Context(), "a"); err != nil || result.RequeueAfter != 0 || !r.registered(t, "a") {
		t.Errorf("after %s: %+v, %v, registered %v", 2*settle, result, err, r.registered(t, "a"))
	}
}
