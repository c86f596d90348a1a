package top

import (
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/plugin/screen"
)

// state that something can be in, and how it is shown.
type state struct {
	name string
	tone screen.Tone
}

// toneOf is how a state is shown; one that is not known is nothing special.
func toneOf(states []state, name string) screen.Tone {
	for _, s := range states {
		if s.name == name {
			return s.tone
		}
	}
	return screen.Plain
}

// States of a device.
const (
	// gone: heartbeats came, and come no more.
	gone = "gone"
	// late: the next one should have come.
	late = "late"
	// never: none ever came.
	never = "never seen"
	// online: they come in time.
	online = "online"
)

// deviceStates, worst first.
var deviceStates = []state{{gone, screen.Bad}, {late, screen.Warn}, {never, screen.Dim}, {online, screen.Good}}

// phases of a placement, worst first.
var phases = []state{
	{string(contracts.PhaseFailed), screen.Bad},
	{string(contracts.PhaseRolledBack), screen.Bad},
	{string(contracts.PhaseDegraded), screen.Bad},
	{string(contracts.PhasePending), screen.Busy},
	{string(contracts.PhasePulling), screen.Busy},
	{string(contracts.PhaseApplying), screen.Busy},
	{string(contracts.PhaseRunning), screen.Good},
	{string(contracts.PhaseRemoved), screen.Dim},
}
