package admission

import (
	"errors"
	"fmt"
	"time"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/operator/roster"
)

// Standing is how a device stands that has an ID and a key.
type Standing int

// Standings.
const (
	// Unknown: no Device has the ID and the key.
	Unknown Standing = iota
	// Pending: nobody has decided yet.
	Pending
	// Approved: it takes part in the fleet.
	Approved
	// ShutOut: somebody has said that it does not.
	ShutOut
)

// StandingOf tells how a device with a key stands with the Device that has its ID; nil is
// that there is none. A key that a Device names elsewhere says nothing: keys are no
// secret, and anybody may write one into a Device of their own.
func StandingOf(owner *roster.Device, key string) Standing {
	switch {
	case owner == nil, owner.Deleting, owner.PublicKey == "", owner.PublicKey != key:
		return Unknown
	case owner.Approved == nil:
		return Pending
	case *owner.Approved:
		return Approved
	}
	return ShutOut
}

// How long somebody may be connected to ask. Whoever waits for approval may wait on:
// the decision ends it.
const (
	toAsk  = time.Minute
	toJoin = 2 * time.Minute
)

// errTooMany tells that a stranger has to try again.
var errTooMany = errors.New("too many that are not known want to join at once")

// decide says whether a caller may connect, and for how long.
func decide(owner *roster.Device, c bus.Caller, stranger func() bool) (time.Duration, error) {
	standing := StandingOf(owner, c.Key)
	if c.Joining {
		switch {
		case standing == Pending:
			return 0, nil
		case standing == Approved:
			return toAsk, nil
		case stranger():
			return toJoin, nil
		}
		return 0, errTooMany
	}
	switch {
	case standing == Approved:
		return 0, nil
	case standing == ShutOut:
		return 0, fmt.Errorf("device %s is shut out: its spec.approved is false", c.Device)
	case standing == Pending:
		return 0, fmt.Errorf("device %s waits for approval", c.Device)
	case owner == nil, owner.Deleting:
		return 0, fmt.Errorf("there is no Device %s", c.Device)
	case owner.PublicKey == "":
		return 0, fmt.Errorf("the Device %s has no key yet", c.Device)
	}
	return 0, fmt.Errorf("the Device %s has another key", c.Device)
}

// expelled are those whose connections end when the Device that has an ID changes.
func expelled(before, after *roster.Device) (out []bus.Caller) {
	for n, d := range []*roster.Device{before, after} {
		if d == nil || d.PublicKey == "" || n == 1 && before != nil && before.PublicKey == d.PublicKey {
			continue
		}
		was, is := StandingOf(before, d.PublicKey), StandingOf(after, d.PublicKey)
		if was == is {
			continue
		}
		if was == Approved {
			out = append(out, bus.Caller{Device: d.ID, Key: d.PublicKey})
		}
		if was == Pending {
			// Who waits is to ask again.
			out = append(out, bus.Caller{Device: d.ID, Key: d.PublicKey, Joining: true})
		}
	}
	return out
}
