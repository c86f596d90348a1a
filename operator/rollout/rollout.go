// Package rollout decides which devices are told a revision, and what that means
// for the Deployment. It is pure: the same input gives the same output, and all
// that it needs to go on in the middle of a rollout is what the devices were told
// and what they report.
package rollout

import (
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
)

// MaxFailures is how many failing devices an Output names.
const MaxFailures = 10

// MaxWaves is how many waves an Input may have: what the API allows, and the rest.
const MaxWaves = 17

// Ref identifies what a device was told or what it speaks of. The zero Ref is
// nothing.
type Ref struct {
	Revision string
	Digest   string
}

// Device is one selected device as it was seen. All times are by one clock.
type Device struct {
	ID contracts.DeviceID
	// Want is the digest of the update revision as it is resolved for this device,
	// Back that of the current revision; Back is empty when there is none.
	Want, Back string
	// Told is what the device was told last, at ToldAt, in the wave of that name, when
	// the revision had that number.
	Told       Ref
	ToldAt     time.Time
	ToldWave   string
	ToldNumber int64
	// FailedBefore tells that it was failing at the current revision when it was told.
	FailedBefore bool
	// Reported is what the device's last report speaks of, Phase what it says, at
	// ReportedAt, and PhaseSince since when that has been so. Phase is empty for a
	// device that has reported nothing.
	Reported   Ref
	Phase      contracts.Phase
	ReportedAt time.Time
	PhaseSince time.Time
	// Online tells that the device's heartbeats arrive, since OnlineSince.
	Online      bool
	OnlineSince time.Time
	// Held keeps everything new from the device: it is cordoned, or its identity
	// is in doubt. It takes no part in the rollout: it neither holds it nor uses
	// its budget.
	Held bool
	// Unreadable tells that the device's last report can't be read.
	Unreadable bool
	// Drifted tells that the device has put right what was changed by hand.
	Drifted bool
	// Matches has a bit for each wave whose selector matches the device.
	Matches uint32
}

// Wave is a part of the fleet that gets a revision together.
type Wave struct {
	Name string
	// Limit of how many devices are in it; nil for any number.
	Limit *intstr.IntOrString
	// Soak is how long the wave must have been well before the next one begins.
	Soak time.Duration
	// Approved tells that nobody has to approve it, or that somebody has.
	Approved bool
}

// Input is a Deployment and its devices as they were seen at one moment.
type Input struct {
	// Update is the name of the revision that every device should run, Current that
	// of the last that all of them ran; empty when there was none.
	Update, Current string
	// Number of the update revision. It is a new one each time that the revision is
	// wanted anew: what was told before is of another rollout.
	Number int64
	// Failed tells that the update revision was rolled back: it is not tried again.
	Failed bool
	// Waves in their order, at most MaxWaves; the last has no limit and matches every
	// device.
	Waves []Wave
	// Devices that the Deployment selects and that may be told things, in the order
	// in which they are told. See Order.
	Devices []Device
	// MaxUnavailable bounds how many online devices may be between revisions or
	// failing; a percentage is of the online devices that are not held, rounded up.
	MaxUnavailable intstr.IntOrString
	// SuccessThreshold is how many of the reachable devices of a wave, and of all,
	// have to be well.
	SuccessThreshold intstr.IntOrString
	// ProgressDeadline is how long a device may make no progress.
	ProgressDeadline time.Duration
	// OnFailure says what happens when a wave fails.
	OnFailure v1alpha1.OnFailure
	// Paused tells nobody anything.
	Paused bool
	// Now is the present.
	Now time.Time
}

// Tell is one device that is to be told something.
type Tell struct {
	// Index of the device, and of the wave that it is told in.
	Index, Wave int
	// Back tells that it is the current revision and not the update revision.
	Back bool
	// FailedBefore is to be remembered with what it is told.
	FailedBefore bool
}

// Counts are an Aggregate and what it leaves out.
type Counts struct {
	v1alpha1.Aggregate
	// Held is how many online devices are held and don't run the update revision.
	Held int32
}

// Output is what is to be done, and how the rollout stands before it is done.
type Output struct {
	// Tell has what devices are to be told.
	Tell []Tell
	// RollBack is to be remembered of the update revision, so that the next Input
	// says Failed, before anything else is done.
	RollBack bool
	// Ran tells that a rollout that is Complete makes the update revision the current
	// one: most devices run it. With fewer, the others have not been asked yet, and
	// what they will say when they return must still be able to halt it.
	Ran bool
	// Counts of the devices, and of each wave.
	Counts Counts
	Waves  []v1alpha1.WaveProgress
	// Wave is the index of the one that the rollout is in.
	Wave int
	// Budget is how many devices may be unavailable, Unavailable how many are.
	Budget, Unavailable int
	// Phase of the rollout, and the reason when it is Halted, RollingBack, RolledBack
	// or Stalled.
	Phase  v1alpha1.WavePhase
	Reason string
	// Until is when a wave that soaks has soaked.
	Until time.Time
	// Failures has the indices of the worst failing devices, worst first.
	Failures []int
	// Wake is when the output changes by time alone; zero when it doesn't.
	Wake time.Time
}
