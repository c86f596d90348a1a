// Package approval is who takes part in the fleet: `kubectl fleet approve`, `deny` and
// `revoke`, and `kubectl fleet device reset-key`.
//
// What a command does with a device is decided by pure functions; the changes are then
// made many at a time, for a fleet has many devices.
package approval

import (
	"fmt"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/flux"
)

// Outcome is what a command has done with a device.
type Outcome string

// Outcomes.
const (
	// Changed: the command did what it is for.
	Changed Outcome = "Changed"
	// Unchanged: it was so already.
	Unchanged Outcome = "Unchanged"
	// Skipped: a selector has found it, and the command is not for such devices.
	Skipped Outcome = "Skipped"
	// Failed: it could not be changed.
	Failed Outcome = "Failed"
)

// verdict is what is to be done with a device, and why nothing is.
type verdict struct {
	outcome Outcome
	why     string
}

// action is what a command does.
type action struct {
	// verb is the command, and did what it has done, in words.
	verb, did string
	// kind is what it prints with -o json.
	kind string
	// judge decides about a device, apply makes the change. named tells that a person
	// has named the device; otherwise a selector has found it.
	judge func(d *v1alpha1.Device, named bool) verdict
	apply func(*v1alpha1.Device)
	// inGit is what Flux makes of it.
	inGit flux.Change
	// note says what somebody should know of a device that was changed; may be nil.
	note func(*v1alpha1.Device) string
	// next says what comes after it, in a namespace; may be nil.
	next func(namespace string) []string
}

func setApproved(to bool) (func(*v1alpha1.Device), flux.Change) {
	change := flux.Change{
		Noun: v1alpha1.DeviceKind, Field: "spec.approved", Path: flux.Path("spec", "approved"),
		InGit: []string{"spec:", fmt.Sprintf("  approved: %t", to)},
	}
	if !to {
		change.Back = "; a device that is approved there takes part in the fleet again then"
	}
	return func(d *v1alpha1.Device) { d.Spec.Approved = new(to) }, change
}

func approving() action {
	apply, inGit := setApproved(true)
	return action{
		verb: "approve", did: "approved", kind: "DeviceApproval", apply: apply, inGit: inGit,
		judge: func(d *v1alpha1.Device, named bool) verdict {
			switch approved := d.Spec.Approved; {
			case approved == nil, !*approved && named:
				return verdict{outcome: Changed}
			case *approved:
				return verdict{Unchanged, "is approved already"}
			}
			return verdict{Skipped, "is shut out: to let it in again, name it"}
		},
		note: func(d *v1alpha1.Device) string {
			if d.Spec.PublicKey == "" {
				return "No key yet, so whoever joins first as the device, with a token of its namespace, is in the fleet"
			}
			return ""
		},
	}
}

func denying() action {
	apply, inGit := setApproved(false)
	return action{
		verb: "deny", did: "denied", kind: "DeviceDenial", apply: apply, inGit: inGit,
		judge: func(d *v1alpha1.Device, named bool) verdict {
			switch approved := d.Spec.Approved; {
			case approved == nil:
				return verdict{outcome: Changed}
			case !*approved:
				return verdict{Unchanged, "is shut out already"}
			case named:
				return verdict{Failed, fmt.Sprintf("takes part in the fleet: to shut it out, kubectl fleet revoke %s -n %s", d.Name, d.Namespace)}
			}
			return verdict{Skipped, "takes part in the fleet"}
		},
	}
}

func revoking() action {
	apply, inGit := setApproved(false)
	return action{
		verb: "revoke", did: "shut out", kind: "DeviceRevocation", apply: apply, inGit: inGit,
		judge: func(d *v1alpha1.Device, named bool) verdict {
			switch approved := d.Spec.Approved; {
			case approved == nil && named:
				return verdict{Failed, fmt.Sprintf("waits for approval: to refuse it, kubectl fleet deny %s -n %s", d.Name, d.Namespace)}
			case approved == nil:
				return verdict{Skipped, "waits for approval"}
			case !*approved:
				return verdict{Unchanged, "is shut out already"}
			}
			return verdict{outcome: Changed}
		},
	}
}

func resettingKey() action {
	return action{
		verb: "reset the key of", did: "key taken out", kind: "DeviceKeyReset",
		apply: func(d *v1alpha1.Device) { d.Spec.PublicKey = "" },
		inGit: flux.Change{
			Noun: v1alpha1.DeviceKind, Field: "spec.publicKey", Path: flux.Path("spec", "publicKey"), Gone: true,
			How: "To keep it, in Git: remove spec.publicKey, or write the new key there, which fleet-agent identity prints on the device.",
		},
		judge: func(d *v1alpha1.Device, _ bool) verdict {
			if d.Spec.PublicKey == "" {
				return verdict{Unchanged, "has no key"}
			}
			return verdict{outcome: Changed}
		},
		note: func(d *v1alpha1.Device) string {
			if d.Spec.Approved != nil && *d.Spec.Approved {
				return "Still approved, so whoever joins first as the device, with a token of its namespace, is in the fleet"
			}
			return ""
		},
		next: func(namespace string) []string {
			return []string{
				"For the device, a token: kubectl fleet token create -n " + namespace,
				"On the device, with it: sudo -u fleet-agent fleet-agent join --token TOKEN",
			}
		},
	}
}
