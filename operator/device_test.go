package operator_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/simulated"
)

// untilDevice waits until a Device is as wanted.
func (f *fleet) untilDevice(id contracts.DeviceID, what string, wanted func(*v1alpha1.Device) bool) *v1alpha1.Device {
	f.Helper()
	d := &v1alpha1.Device{}
	eventually(f.T, func() string {
		if err := f.client.Get(f.Context(), client.ObjectKey{Namespace: f.namespace, Name: string(id)}, d); err != nil {
			return err.Error()
		}
		if wanted(d) {
			return ""
		}
		return fmt.Sprintf("%s is not %s: spec %+v, conditions %+v", id, what, d.Spec, d.Status.Conditions)
	})
	return d
}

func joined(d *v1alpha1.Device) bool {
	return reason(d.Status.Conditions, v1alpha1.ConditionJoined) == "True Registered" &&
		reason(d.Status.Conditions, v1alpha1.ConditionReady) == "True HeartbeatReceived"
}

func TestADeviceWithAnotherKeySaysSoUntilTheKeysAgree(t *testing.T) {
	f := newFleet(t)
	device := f.device(simulated.Running)
	f.untilDevice(device.id, "joined", joined)
	pair, err := nkeys.CreateUser()
	must(t, err)
	other, err := pair.PublicKey()
	must(t, err)
	pin := func(key string) {
		d := &v1alpha1.Device{}
		must(t, f.client.Get(t.Context(), client.ObjectKey{Namespace: f.namespace, Name: string(device.id)}, d))
		patch := client.MergeFrom(d.DeepCopy())
		d.Spec.PublicKey = key
		must(t, f.client.Patch(t.Context(), d, patch))
	}
	pin(other)
	d := f.untilDevice(device.id, "refused", func(d *v1alpha1.Device) bool {
		return reason(d.Status.Conditions, v1alpha1.ConditionJoined) == "False PublicKeyMismatch" &&
			reason(d.Status.Conditions, v1alpha1.ConditionReady) == "False PublicKeyMismatch"
	})
	message := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionJoined).Message
	for _, want := range []string{other, f.publicKey(device.id), "until an agent with that key connects"} {
		if !strings.Contains(message, want) {
			t.Errorf("the message %q lacks %q", message, want)
		}
	}
	f.event(f.namespace, string(device.id), v1alpha1.ReasonPublicKeyMismatch)
	pin(f.publicKey(device.id))
	f.untilDevice(device.id, "joined again", joined)
}

func TestAMalformedKeyIsToldOfToWhoseItIs(t *testing.T) {
	f := newFleet(t)
	device := f.device(simulated.Running)
	f.untilDevice(device.id, "joined", joined)
	_, err := f.js.Publish(t.Context(), "$KV.device-state.state."+string(device.id)+".NotALabel", []byte("{}"))
	must(t, err)
	f.event(f.namespace, string(device.id), "MalformedValue")
}

func TestADeviceMadeAnewIsJoinedAtOnce(t *testing.T) {
	f := newFleet(t)
	device := f.device(simulated.Running)
	f.deploy("app", nil)
	f.complete("app", 1)
	d := f.untilDevice(device.id, "joined", joined)
	must(t, f.client.Delete(t.Context(), d))
	eventually(t, func() string {
		if err := f.client.Get(t.Context(), client.ObjectKeyFromObject(d), d); !apierrors.IsNotFound(err) {
			return fmt.Sprint("still there: ", err)
		}
		return ""
	})
	// The agent has not been anywhere and has nothing new to say of itself.
	f.approve(device.id)
	f.untilDevice(device.id, "joined", joined)
	f.complete("app", 1)
}
