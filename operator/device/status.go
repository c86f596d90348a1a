package device

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fluxcd/pkg/runtime/conditions"

	"github.com/nationtech/fleet/api/health"
	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/fleethealth"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/operator/roster"
)

// setStatus says how a Device is doing.
func (r *Reconciler) setStatus(obj *v1alpha1.Device) {
	s := &obj.Status
	s.ObservedGeneration = obj.Generation
	id := contracts.DeviceID(obj.Name)
	seen := r.View.Device(id)
	owner, _ := r.Roster.Owner(id)
	facts := fleethealth.Facts(roster.Of(obj), &owner, &seen)
	was := ""
	if before := conditions.Get(obj, v1alpha1.ConditionReady); before != nil {
		was = before.Reason
	}
	reason := ready(obj, &facts)
	if reason == v1alpha1.ReasonDuplicateID {
		// What is on the bus under this ID is of the other.
		conditions.MarkFalse(obj, v1alpha1.ConditionJoined, reason, "%s", facts.Message(reason))
		s.Info, s.Deployments, s.LastHeartbeatTime = nil, nil, nil
		return
	}
	join(obj, seen, &facts)
	s.Info = info(seen.Info)
	s.Deployments = &v1alpha1.DeviceDeployments{
		Total: seen.Counts.Told, Running: seen.Counts.Running, Pending: seen.Counts.Pending, Failed: seen.Counts.Failed,
	}
	if seen.LastHeartbeat.IsZero() {
		s.LastHeartbeatTime = nil
		return
	}
	// The time alone is no reason to write, unless it is old.
	if s.LastHeartbeatTime == nil || was != reason ||
		seen.LastHeartbeat.Sub(s.LastHeartbeatTime.Time) >= r.refresh()*3/4 {
		at := metav1.NewTime(seen.LastHeartbeat).Rfc3339Copy()
		s.LastHeartbeatTime = &at
	}
}

func join(obj *v1alpha1.Device, seen fleetview.Device, facts *health.Facts) {
	switch {
	case seen.InfoError != "":
		conditions.MarkFalse(obj, v1alpha1.ConditionJoined, v1alpha1.ReasonInvalidInfo, "What the device registered with can't be read: %s", seen.InfoError)
	case seen.Info == nil:
		conditions.MarkFalse(obj, v1alpha1.ConditionJoined, v1alpha1.ReasonNeverSeen, "No agent has registered as this device")
	case facts.Mismatched():
		conditions.MarkFalse(obj, v1alpha1.ConditionJoined, v1alpha1.ReasonPublicKeyMismatch, "%s", facts.Message(v1alpha1.ReasonPublicKeyMismatch))
	case seen.Info.Refused > 0:
		conditions.MarkTrue(obj, v1alpha1.ConditionJoined, v1alpha1.ReasonOrdersRefused, "The agent refuses what the operator has not signed for it, and goes on with what it was told before: %s", seen.Info.RefusedReason)
	default:
		conditions.MarkTrue(obj, v1alpha1.ConditionJoined, v1alpha1.ReasonRegistered, "The agent has registered")
	}
}

// ready sets the condition Ready and returns its reason.
func ready(obj *v1alpha1.Device, facts *health.Facts) string {
	reason := facts.Reason()
	if reason == v1alpha1.ReasonHeartbeat {
		conditions.MarkTrue(obj, v1alpha1.ConditionReady, reason, "%s", facts.Message(reason))
	} else {
		conditions.MarkFalse(obj, v1alpha1.ConditionReady, reason, "%s", facts.Message(reason))
	}
	return reason
}

func info(i *contracts.DeviceInfo) *v1alpha1.DeviceInfo {
	if i == nil {
		return nil
	}
	out := &v1alpha1.DeviceInfo{
		Hostname: i.Hostname, OS: i.OS, Arch: i.Arch, Kernel: i.Kernel, AgentVersion: i.AgentVersion, BootID: i.BootID,
		Drivers: i.Drivers, Addresses: i.Addresses,
	}
	capacity := map[string]resource.Quantity{}
	if i.Capacity.CPUs > 0 {
		capacity[string(corev1.ResourceCPU)] = resource.MustParse(strconv.Itoa(i.Capacity.CPUs))
	}
	if i.Capacity.MemoryBytes > 0 {
		capacity[string(corev1.ResourceMemory)] = *resource.NewQuantity(i.Capacity.MemoryBytes, resource.BinarySI)
	}
	if i.Capacity.StorageBytes > 0 {
		capacity[string(corev1.ResourceStorage)] = *resource.NewQuantity(i.Capacity.StorageBytes, resource.BinarySI)
	}
	if len(capacity) > 0 {
		out.Capacity = capacity
	}
	return out
}

// compare reports whether a status differs, and whether in something that
// somebody waits for.
func compare(a, b *v1alpha1.DeviceStatus) (changed, urgent bool) {
	if apiequality.Semantic.DeepEqual(a, b) {
		return false, false
	}
	for _, t := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionJoined} {
		x, y := apimeta.FindStatusCondition(a.Conditions, t), apimeta.FindStatusCondition(b.Conditions, t)
		if (x == nil) != (y == nil) || x != nil && (x.Status != y.Status || x.Reason != y.Reason) {
			return true, true
		}
	}
	return true, a.ObservedGeneration != b.ObservedGeneration
}

// newcomer reports whether all that there is to say is that nobody has heard of the device.
func newcomer(before, now *v1alpha1.DeviceStatus) bool {
	ready := apimeta.FindStatusCondition(now.Conditions, v1alpha1.ConditionReady)
	return len(before.Conditions) == 0 && ready != nil && ready.Reason == v1alpha1.ReasonNeverSeen
}

// announce tells of what has changed, as events.
func (r *Reconciler) announce(obj *v1alpha1.Device, before *v1alpha1.DeviceStatus) {
	for _, t := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionJoined} {
		now, was := conditions.Get(obj, t), apimeta.FindStatusCondition(before.Conditions, t)
		if now == nil || was != nil && was.Reason == now.Reason {
			continue
		}
		switch now.Reason {
		case v1alpha1.ReasonDuplicateID:
			// Both conditions have this reason.
			if t == v1alpha1.ConditionReady {
				r.Recorder.Warning(obj, nil, now.Reason, "%s", now.Message)
			}
		case v1alpha1.ReasonPublicKeyMismatch:
			// Ready may have it too, or a reason that is more urgent.
			if t == v1alpha1.ConditionJoined {
				r.Recorder.Warning(obj, nil, now.Reason, "%s", now.Message)
			}
		case v1alpha1.ReasonInvalidInfo, v1alpha1.ReasonHeartbeatMissed, v1alpha1.ReasonOrdersRefused:
			r.Recorder.Warning(obj, nil, now.Reason, "%s", now.Message)
		case v1alpha1.ReasonRegistered:
			r.Recorder.Normal(obj, nil, now.Reason, "%s", now.Message)
		case v1alpha1.ReasonHeartbeat:
			// That a device is there for the first time Registered says.
			if was != nil && was.Reason == v1alpha1.ReasonHeartbeatMissed {
				r.Recorder.Normal(obj, nil, now.Reason, "%s", now.Message)
			}
		}
	}
}
