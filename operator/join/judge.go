// Package join takes devices into the fleet: it redeems their join tokens and tells them
// how they stand.
package join

import (
	"fmt"
	"time"

	"github.com/nationtech/fleet/api/jointoken"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/roster"
)

// action is what a claim leads to.
type action int

const (
	// refuse: nothing changes.
	refuse action = iota
	// agree: the Device is as it should be already.
	agree
	// create makes the Device.
	create
	// pin gives the Device, which has no key, the key.
	pin
)

type verdict struct {
	action
	reason  contracts.JoinReason
	message string
}

func refused(reason contracts.JoinReason, format string, args ...any) verdict {
	return verdict{reason: reason, message: fmt.Sprintf(format, args...)}
}

// judge decides on a claim with a token. kept is what is known of the token, nil is that
// there is none; taken is how many others use it at the same time; owner is the Device
// that has the ID, nil if none has. Whoever does not hold the token learns nothing.
func judge(c contracts.JoinClaim, t contracts.JoinToken, kept *jointoken.Token, taken int, owner *roster.Device, now time.Time) verdict {
	if kept == nil || !kept.Holds(t.Secret) {
		return refused(contracts.JoinUnknownToken, "there is no such join token; it was mistyped or revoked: ask for another (kubectl fleet token create)")
	}
	if skew := c.Time.Sub(now).Abs(); skew > contracts.MaxClockSkew {
		return refused(contracts.JoinClockOff, "the device's clock says %s, and it is %s: set it (timedatectl set-ntp true) and join again",
			c.Time.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	todo := create
	if owner != nil {
		switch {
		case owner.Namespace != t.Namespace:
			return refused(contracts.JoinIDTaken, "another device of the fleet has the ID %s: join with another (--device)", c.Device)
		case owner.Deleting:
			return refused(contracts.JoinUnavailable, "the Device %s is being deleted: try again", c.Device)
		case owner.PublicKey != "" && owner.PublicKey != c.PublicKey:
			return refused(contracts.JoinKeyMismatch, "the Device %s has another key: was this device set up anew? Then run kubectl fleet device reset-key %s -n %s, and join again",
				c.Device, c.Device, owner.Namespace)
		case owner.Approved != nil && !*owner.Approved:
			return refused(contracts.JoinShutOut, "the Device %s is shut out: its spec.approved is false", c.Device)
		case owner.PublicKey == c.PublicKey:
			return verdict{action: agree}
		}
		todo = pin
	}
	switch {
	case !now.Before(kept.Expires):
		return refused(contracts.JoinTokenExpired, "the join token has expired at %s: ask for another (kubectl fleet token create)", kept.Expires.UTC().Format(time.RFC3339))
	case kept.UsedUp(taken + 1):
		return refused(contracts.JoinTokenUsedUp, "the join token is used up, %d devices have joined with it: ask for another (kubectl fleet token create)", kept.Uses)
	}
	return verdict{action: todo}
}
