// Package health decides whether a Device is Ready, and why not, for everybody who says
// so: the operator in the Device's condition and in the FleetHealth of the live API, and
// kubectl fleet of what the live API tells it.
package health

import (
	"fmt"
	"time"

	"github.com/nationtech/fleet/api/v1alpha1"
)

// Facts are what the health of a Device follows from.
type Facts struct {
	Namespace, Name string
	// Approved and PublicKey are of its spec.
	Approved  *bool
	PublicKey string
	// Owner is the namespace of the older Device that has its ID; empty when it has its
	// ID itself.
	Owner string
	// Online tells that heartbeats arrive, one each Interval. LastHeartbeat is zero before
	// the first.
	Online        bool
	LastHeartbeat time.Time
	Interval      time.Duration
	// AgentKey is the public key that the agent connected with last; empty for unknown.
	AgentKey string
}

// Reason is that of the condition Ready, which is true for ReasonHeartbeat alone. The
// order is by what has to be put right first.
func (f *Facts) Reason() string {
	switch {
	case f.Owner != "":
		return v1alpha1.ReasonDuplicateID
	case f.Approved == nil:
		return v1alpha1.ReasonNotApproved
	case !*f.Approved:
		return v1alpha1.ReasonShutOut
	case f.LastHeartbeat.IsZero():
		return v1alpha1.ReasonNeverSeen
	case !f.Online:
		return v1alpha1.ReasonHeartbeatMissed
	case f.Mismatched():
		return v1alpha1.ReasonPublicKeyMismatch
	}
	return v1alpha1.ReasonHeartbeat
}

// Mismatched reports whether the agent has another identity than the Device says. Such a
// device is told nothing new.
func (f *Facts) Mismatched() bool {
	return f.AgentKey != "" && f.PublicKey != "" && f.AgentKey != f.PublicKey
}

// Message says in a sentence what a reason does in a word.
func (f *Facts) Message(reason string) string {
	switch reason {
	case v1alpha1.ReasonDuplicateID:
		return "Device " + f.Owner + "/" + f.Name + " is older and has this ID; delete one of them or give it another name"
	case v1alpha1.ReasonNotApproved:
		return "Nobody has approved the device yet: kubectl fleet approve " + f.Name + " -n " + f.Namespace
	case v1alpha1.ReasonShutOut:
		return "spec.approved is false: the device may not connect"
	case v1alpha1.ReasonNeverSeen:
		return "The device has never sent a heartbeat"
	case v1alpha1.ReasonHeartbeatMissed:
		return fmt.Sprintf("Three heartbeats in a row, one each %s, did not arrive", f.Interval)
	case v1alpha1.ReasonPublicKeyMismatch:
		return "The agent last connected with the public key " + f.AgentKey + ", spec.publicKey is " + f.PublicKey +
			" now: the device is told nothing new until an agent with that key connects"
	}
	return fmt.Sprintf("A heartbeat arrives each %s", f.Interval)
}
