// Package devices is `kubectl fleet devices`: the devices of a fleet and how they
// are.
package devices

import (
	"fmt"
	"strings"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/screen"
)

// Health is how a device is. Every device has exactly one; being cordoned comes
// on top of it.
type Health string

// Healths of a device.
const (
	// Ready: heartbeats arrive.
	Ready Health = "ready"
	// NotReady: heartbeats came, and come no more; or they come from an agent with
	// another key.
	NotReady Health = "not-ready"
	// NeverSeen: approved, and no heartbeat ever came.
	NeverSeen Health = "never-seen"
	// Pending: spec.approved is not set, so it waits for somebody to approve it.
	Pending Health = "pending"
	// ShutOut: spec.approved is false, so it may not connect.
	ShutOut Health = "shut-out"
	// Duplicate: an older Device in another namespace has its ID.
	Duplicate Health = "duplicate"
)

// Cordoned is what --health takes for devices that are kept from anything new.
const Cordoned = "cordoned"

// HealthOf decides the health of a device from the few facts that a table of the
// API server holds too.
func HealthOf(approved *bool, ready, seen bool, reason string) Health {
	switch {
	case reason == v1alpha1.ReasonDuplicateID:
		return Duplicate
	case approved == nil:
		return Pending
	case !*approved:
		return ShutOut
	case ready:
		return Ready
	case reason == v1alpha1.ReasonPublicKeyMismatch:
		return NotReady
	case !seen:
		return NeverSeen
	}
	return NotReady
}

// Of is the health of a Device.
func Of(d *v1alpha1.Device) Health {
	reason := ""
	if c := apimeta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionReady); c != nil {
		reason = c.Reason
	}
	return HealthOf(d.Spec.Approved, apimeta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionReady), d.Status.LastHeartbeatTime != nil, reason)
}

// Tone is how a health is shown.
func (h Health) Tone() screen.Tone {
	switch h {
	case Ready:
		return screen.Good
	case Pending:
		return screen.Warn
	case NotReady, Duplicate:
		return screen.Bad
	}
	return screen.Dim
}

// healthFilter is the value of --health.
type healthFilter []string

func healthValues() []string {
	return []string{string(Ready), string(NotReady), string(NeverSeen), string(Pending), string(ShutOut), string(Duplicate), Cordoned}
}

func (f healthFilter) validate() error {
	for _, wanted := range f {
		known := false
		for _, v := range healthValues() {
			known = known || v == wanted
		}
		if !known {
			return fmt.Errorf("--health %s: must be one of %s", wanted, strings.Join(healthValues(), ", "))
		}
	}
	return nil
}

// match reports whether a device is to be shown; without a filter every device
// is.
func (f healthFilter) match(d *device) bool {
	if len(f) == 0 {
		return true
	}
	health := string(Of(d.Device))
	for _, wanted := range f {
		if wanted == health || wanted == Cordoned && d.Spec.Cordoned {
			return true
		}
	}
	return false
}

// StatusWords says in the style of `kubectl get nodes` what is special about a
// device: the reason why it is not ready, and whether it is cordoned.
func StatusWords(d *v1alpha1.Device) string {
	ready := apimeta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionReady)
	var words []string
	switch {
	case ready != nil && ready.Reason == v1alpha1.ReasonDuplicateID:
		words = append(words, v1alpha1.ReasonDuplicateID)
	case d.Spec.Approved == nil:
		words = append(words, "PendingApproval")
	case !*d.Spec.Approved:
		words = append(words, v1alpha1.ReasonShutOut)
	case ready == nil:
		words = append(words, v1alpha1.ReasonNeverSeen)
	case ready.Status == metav1.ConditionTrue:
		words = append(words, "Ready")
	default:
		words = append(words, screen.Safe(ready.Reason))
	}
	if d.Spec.Cordoned {
		words = append(words, "Cordoned")
	}
	return strings.Join(words, ",")
}
