// Package placements is `kubectl fleet placements`: what runs where.
package placements

import (
	"strings"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/plugin/screen"
)

// State is where a Deployment stands on a device, measured by what the device was
// told. The first is what a person has to see first.
type State int

// States of a placement.
const (
	// Failed: the device has what it was told, and it is not well.
	Failed State = iota
	// Pending: it does not have it yet.
	Pending
	// Leftover: it was told nothing any more, and still speaks of it.
	Leftover
	// Running: it runs what it was told.
	Running
)

// Of is the state of a placement. It is what the operator counts by in the status of a
// Device.
func Of(p *live.Placement) State {
	phase := contracts.Phase(p.Status.Phase)
	// A report that can't be read is of no revision.
	unreadable := phase == contracts.PhaseFailed && p.Status.Revision == ""
	switch {
	case p.Spec.ToldTime == nil:
		return Leftover
	case p.Status.Revision != p.Spec.Revision && !unreadable:
		return Pending
	case phase == contracts.PhaseRunning:
		return Running
	case phase == contracts.PhaseFailed, phase == contracts.PhaseDegraded, phase == contracts.PhaseRolledBack:
		return Failed
	}
	return Pending
}

// Tone is how a placement is shown. What is said of a device that is gone is old.
func Tone(p *live.Placement) screen.Tone {
	switch state := Of(p); {
	case state == Failed:
		return screen.Bad
	case !p.Status.Online:
		return screen.Dim
	case state == Running:
		return screen.Plain
	}
	return screen.Busy
}

// ShortRevision is a revision without the Deployment's name before it.
func ShortRevision(p *live.Placement, revision string) string {
	return strings.TrimPrefix(revision, p.Spec.Deployment+"-")
}
