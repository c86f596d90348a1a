// Package fleetview is the operator's memory of what the devices were told and
// what they report. It is folded from the buckets entry by entry, each in O(1),
// and holds nothing that the buckets don't.
package fleetview

import (
	"strings"
	"sync"
	"time"
	"unique"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/coalesce"
)

// maxPlacements bounds what one device can make the operator remember.
const maxPlacements = 1024

// Malformed is a value or key in a bucket that can't be read.
type Malformed struct {
	Bucket contracts.Bucket
	Key    string
	// Device that the key belongs to; empty when the key doesn't name one.
	Device contracts.DeviceID
	Err    error
}

// Options of a View.
type Options struct {
	// Clock tells when heartbeats are overdue.
	Clock clock.WithTicker
	// Signer is the public key that the operator signs with, Previous those that it
	// signed with before: what is signed with another was told by nobody.
	Signer   string
	Previous []string
	// Observer is told of every change; nil for nobody.
	Observer Observer
	// OnMalformed is called for keys and values that can't be read, without a lock
	// held and at most once a second for a device, and for all that name no device.
	// It must not block for long.
	OnMalformed func(Malformed)
}

// Observer is told of changes in their order. A lock is held meanwhile: it must
// neither block nor call the View.
type Observer interface {
	// Heartbeat is how a device is, at each of its heartbeats and when they stop.
	Heartbeat(contracts.DeviceID, Heartbeat)
	// Placement is how a Deployment stands on a device; one that has neither been told
	// nor reported is gone.
	Placement(contracts.DeviceID, contracts.DeploymentName, Placement)
}

// Heartbeat is the last sign of life of a device.
type Heartbeat struct {
	Online bool
	// Last is when the last one reached the server; zero for never.
	Last     time.Time
	Interval time.Duration
	// Sequence and Uptime are what it said, Latency how much later it arrived than it
	// was sent by the device's clock.
	Sequence        uint64
	Uptime, Latency time.Duration
	// Missed counts the gaps in the sequence that were seen.
	Missed uint64
	// AgentVersion and Hostname are of its information.
	AgentVersion, Hostname string
}

// View is the fleet as the bus shows it. All methods may be called at any time
// from any goroutine.
type View struct {
	clock       clock.WithTicker
	signer      string
	previous    []string
	observer    Observer
	onMalformed func(Malformed)

	devicesChanged     *coalesce.Set[contracts.DeviceID]
	deploymentsChanged *coalesce.Set[types.NamespacedName]
	standingChanged    *coalesce.Set[contracts.DeviceID]
	outdated           *coalesce.Set[Key]

	// read has, by name of a Deployment, the desired state that was read last. It has a
	// lock of its own: reading takes longest.
	reading sync.Mutex
	read    map[contracts.DeploymentName]read

	mu      sync.RWMutex
	devices map[contracts.DeviceID]*device
	// told has, by Deployment, the placements that were told.
	told map[types.NamespacedName]map[contracts.DeviceID]*placement
	// overdue orders the online devices by when their next heartbeat is overdue.
	overdue   expiries
	rearm     chan struct{}
	suspended bool
	resumed   time.Time
	totals    Totals
	// issued is the highest number of an order that was seen or given.
	issued int64
	// complained is when something malformed of no device was last passed on.
	complained time.Time
}

// Totals count the whole fleet.
type Totals struct {
	// Devices that have ever sent something, and how many of them are online.
	Devices, Online int
	// Told is how many keys of desired state there are.
	Told int
	// Placements by what the device says of what it was told.
	Running, Pending, Failed int
	// Folded counts the entries that were read, MalformedEntries those that could
	// not be.
	Folded, MalformedEntries uint64
}

// device is what the bus shows of one device.
type device struct {
	id         contracts.DeviceID
	placements map[contracts.DeploymentName]*placement

	info    *contracts.DeviceInfo
	infoErr string
	vouched vouched
	online  bool
	// since when it is online, as far as this operator has seen.
	since    time.Time
	last     time.Time
	interval time.Duration
	// What the last heartbeat said, and how many were missed.
	sequence, missed uint64
	uptime, latency  time.Duration
	// slot is the place in View.overdue, -1 when the device is not in it; due is
	// the time that it is ordered by, which may be earlier than the truth.
	slot int
	due  time.Time

	counts Counts
	// complained is when something malformed was last passed on.
	complained time.Time
}

// placement is one Deployment on one device. What many placements share, which is nearly
// all, is kept once.
type placement struct {
	told   unique.Handle[Order]
	report unique.Handle[Report]
	// toldAt is when it was told, reportedAt when the report reached the server, since
	// when the phase began; by the server's clock, in nanoseconds.
	toldAt, reportedAt, since int64
	// sequence is of the order, and sum of its bytes.
	sequence, sum uint64
	phase         phaseClass
}

// Order is what a device was told for a Deployment, if Told: Revision and Digest, in the
// wave ToldWave. FailedBefore is what was remembered with it, ToldNumber the revision's
// number.
type Order struct {
	Told             bool
	Revision, Digest string
	ToldWave         string
	FailedBefore     bool
	ToldNumber       int64
	// SealedTo is the key that the secrets are sealed to; empty where there are none.
	SealedTo string

	namespace string
	// issued is the number of the order; 0 when there is none that counts.
	issued int64
}

// Report is what a device says of a Deployment.
type Report struct {
	// Phase is empty when the device has reported nothing. ReportedRevision and
	// ReportedDigest are what the report speaks of.
	Phase                            contracts.Phase
	ReportedRevision, ReportedDigest string
	Reason, Message, Log             string
	Restarts, Drifts                 int64
	// Malformed tells that the last report can't be read; Message says why.
	Malformed bool

	issued int64
}

var (
	nothingTold     = unique.Make(Order{})
	nothingReported = unique.Make(Report{})
)

func newPlacement() *placement { return &placement{told: nothingTold, report: nothingReported} }

// Counts are of the Deployments that a device was told.
type Counts struct {
	Told, Running, Pending, Failed int32
}

// New makes an empty View.
func New(o Options) *View {
	return &View{
		clock:              o.Clock,
		signer:             o.Signer,
		previous:           o.Previous,
		observer:           o.Observer,
		onMalformed:        o.OnMalformed,
		devicesChanged:     coalesce.New[contracts.DeviceID](),
		deploymentsChanged: coalesce.New[types.NamespacedName](),
		standingChanged:    coalesce.New[contracts.DeviceID](),
		outdated:           coalesce.New[Key](),
		devices:            map[contracts.DeviceID]*device{},
		told:               map[types.NamespacedName]map[contracts.DeviceID]*placement{},
		read:               map[contracts.DeploymentName]read{},
		rearm:              make(chan struct{}, 1),
	}
}

// ChangedDevices collects the devices whose information, liveness or counts have
// changed.
func (v *View) ChangedDevices() *coalesce.Set[contracts.DeviceID] { return v.devicesChanged }

// ChangedStanding collects the devices that have come or gone, or have another key:
// what may be told them has changed, also by a Deployment that has told them nothing.
func (v *View) ChangedStanding() *coalesce.Set[contracts.DeviceID] { return v.standingChanged }

// ChangedDeployments collects the Deployments for whose devices something has
// changed: liveness, what they were told or what they report.
func (v *View) ChangedDeployments() *coalesce.Set[types.NamespacedName] { return v.deploymentsChanged }

// intern keeps one copy of a string that comes again and again.
func intern(s string) string { return unique.Make(s).Value() }

func (v *View) device(id contracts.DeviceID) *device {
	d, ok := v.devices[id]
	if !ok {
		d = &device{id: contracts.DeviceID(strings.Clone(string(id))), slot: -1, placements: map[contracts.DeploymentName]*placement{}}
		v.devices[d.id] = d
		v.totals.Devices++
	}
	return d
}

// placement returns nil when the device has too many already.
func (v *View) placement(d *device, name contracts.DeploymentName) *placement {
	p, ok := d.placements[name]
	if !ok {
		if len(d.placements) >= maxPlacements {
			return nil
		}
		p = newPlacement()
		d.placements[contracts.DeploymentName(intern(string(name)))] = p
	}
	return p
}

// drop forgets a placement of which nothing is left.
func (d *device) drop(name contracts.DeploymentName, p *placement) {
	if !p.told.Value().Told && p.report == nothingReported {
		delete(d.placements, name)
	}
}

// changed notes that something about a placement has changed.
func (v *View) changed(d *device, name contracts.DeploymentName, p *placement) {
	if t := p.told.Value(); t.Told {
		v.deploymentsChanged.Add(types.NamespacedName{Namespace: t.namespace, Name: string(name)})
	}
	v.recount(d, p)
	v.observePlacement(d, name, p)
}

func (v *View) observePlacement(d *device, name contracts.DeploymentName, p *placement) {
	if v.observer == nil {
		return
	}
	out := Placement{Online: d.online}
	p.show(p.told.Value().namespace, &out)
	v.observer.Placement(d.id, name, out)
}

func (v *View) observeDevice(d *device) {
	if v.observer == nil {
		return
	}
	h := Heartbeat{
		Online: d.online, Last: d.last, Interval: d.interval, Sequence: d.sequence, Uptime: d.uptime, Latency: d.latency, Missed: d.missed,
	}
	if d.info != nil {
		h.AgentVersion, h.Hostname = d.info.AgentVersion, d.info.Hostname
	}
	v.observer.Heartbeat(d.id, h)
}

// phaseClass is what a placement counts as. notTold counts as nothing.
type phaseClass uint8

const (
	notTold phaseClass = iota
	running
	pending
	failed
)

func (p *placement) class() phaseClass {
	switch t, r := p.told.Value(), p.report.Value(); {
	case !t.Told:
		return notTold
	case r.Malformed:
		return failed
	case r.ReportedRevision != t.Revision || r.ReportedDigest != t.Digest:
		return pending
	case r.Phase == contracts.PhaseRunning:
		return running
	case r.Phase == contracts.PhaseFailed || r.Phase == contracts.PhaseDegraded || r.Phase == contracts.PhaseRolledBack:
		return failed
	}
	return pending
}

// recount keeps the counters by difference.
func (v *View) recount(d *device, p *placement) {
	before, after := p.phase, p.class()
	if before == after {
		return
	}
	v.add(d, before, -1)
	v.add(d, after, 1)
	p.phase = after
	v.devicesChanged.Add(d.id)
}

func (v *View) add(d *device, class phaseClass, n int) {
	switch class {
	case notTold:
		return
	case running:
		d.counts.Running += int32(n)
		v.totals.Running += n
	case pending:
		d.counts.Pending += int32(n)
		v.totals.Pending += n
	case failed:
		d.counts.Failed += int32(n)
		v.totals.Failed += n
	}
	d.counts.Told += int32(n)
	v.totals.Told += n
}
