package fleetview

import (
	"bytes"
	"fmt"
	"reflect"
	"time"
	"unique"

	"k8s.io/apimachinery/pkg/types"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
)

// Fold takes in one entry of a bucket.
func (v *View) Fold(e bus.Entry) {
	bad := v.fold(e)
	if bad != nil && v.onMalformed != nil {
		v.onMalformed(*bad)
	}
}

func (v *View) fold(e bus.Entry) *Malformed {
	var id contracts.DeviceID
	var err error
	switch e.Bucket {
	case contracts.BucketDesiredState:
		id, err = v.foldDesired(e)
	case contracts.BucketDeviceState:
		id, err = v.foldState(e)
	case contracts.BucketDeviceInfo:
		id, err = v.foldInfo(e)
	case contracts.BucketDeviceHeartbeat:
		id, err = v.foldHeartbeat(e)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.totals.Folded++
	if err == nil {
		return nil
	}
	v.totals.MalformedEntries++
	// Who sends nonsense without end is named once a second; so is, together, what
	// can't be laid at anybody's door.
	complained, now := &v.complained, v.clock.Now()
	if id != "" {
		complained = &v.device(id).complained
	}
	if now.Sub(*complained) < time.Second {
		return nil
	}
	*complained = now
	return &Malformed{Bucket: e.Bucket, Key: e.Key, Device: id, Err: err}
}

// What follows reads an entry before it takes the lock: the buckets are read side by side.

func (v *View) foldDesired(e bus.Entry) (contracts.DeviceID, error) {
	id, name, err := contracts.ParseDesiredStateKey(e.Key)
	if err != nil {
		return id, err
	}
	sum := Sum(e.Value)
	if v.playedBack(id, name, e, sum) {
		return id, nil
	}
	key, order, err := v.readOrder(name, e.Value)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err == nil && !v.signed(Key{id, name}, key, order.issued) {
		err = &contracts.UntrustedKeyError{Got: key, Want: v.signer}
	}
	if err != nil {
		// Whoever wrote this, the device does not obey: it was told nothing.
		order, sum = Order{}, 0
	}
	v.setTold(id, name, told{Order: order, sequence: e.Sequence, sum: sum, at: e.Time.UnixNano()})
	return id, err
}

// playedBack reports whether an entry is what the operator itself has written, and takes
// over when and where: to read a fleet's orders again takes longer than to write them.
func (v *View) playedBack(id contracts.DeviceID, name contracts.DeploymentName, e bus.Entry, sum uint64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	d := v.devices[id]
	if d == nil {
		return false
	}
	p := d.placements[name]
	if p == nil || p.sum != sum || p.sequence > e.Sequence {
		return false
	}
	p.sequence, p.toldAt = e.Sequence, e.Time.UnixNano()
	return true
}

// read is a desired state as it was read, and its bytes.
type read struct {
	value []byte
	order Order
}

// readOrder reads an order and says by which key it is signed. The signature is not looked
// at: to have forged it gains nothing, since the device looks, and to verify what a large
// fleet was told would take longer than to read it. Devices that are told the same have
// the same bytes, so these are read once for many.
func (v *View) readOrder(n contracts.DeploymentName, value []byte) (key string, o Order, err error) {
	envelope, err := contracts.DecodeEnvelope(value)
	if err != nil {
		return "", Order{}, err
	}
	v.reading.Lock()
	last := v.read[n]
	v.reading.Unlock()
	if envelope.Value != nil && bytes.Equal(envelope.Value, last.value) {
		return envelope.Key, last.order, nil
	}
	order, err := envelope.Order(nil, n)
	if err != nil {
		return "", Order{}, err
	}
	if order.Desired == nil {
		return envelope.Key, Withdrawn(order.Issued), nil
	}
	o = OrderOf(order.Desired)
	v.reading.Lock()
	defer v.reading.Unlock()
	v.read[n] = read{envelope.Value, o}
	return envelope.Key, o, nil
}

// told is an order with what it shares with no other.
type told struct {
	Order
	sequence, sum uint64
	at            int64
}

// setTold replaces what a device was told, unless something newer is known.
func (v *View) setTold(id contracts.DeviceID, name contracts.DeploymentName, t told) {
	d, known := v.devices[id]
	if !known && !t.Told {
		return
	}
	if !known {
		d = v.device(id)
	}
	p, known := d.placements[name]
	if !known {
		if !t.Told {
			return
		}
		// The operator's own writes are not bounded by maxPlacements.
		p = newPlacement()
		d.placements[contracts.DeploymentName(intern(string(name)))] = p
	}
	if t.sequence < p.sequence {
		return
	}
	before := p.told.Value()
	p.told, p.toldAt, p.sequence, p.sum = unique.Make(t.Order), t.at, t.sequence, t.sum
	if before.Told && before.namespace != t.namespace {
		v.unindex(before.namespace, name, d.id)
	}
	if t.Told {
		key := types.NamespacedName{Namespace: t.namespace, Name: string(name)}
		if v.told[key] == nil {
			v.told[key] = map[contracts.DeviceID]*placement{}
		}
		v.told[key][d.id] = p
	}
	v.outrun(Key{d.id, name}, p)
	if before.Told != t.Told || before.Revision != t.Revision || before.Digest != t.Digest || before.namespace != t.namespace {
		v.changed(d, name, p)
	}
}

func (v *View) unindex(namespace string, name contracts.DeploymentName, id contracts.DeviceID) {
	key := types.NamespacedName{Namespace: namespace, Name: string(name)}
	delete(v.told[key], id)
	if len(v.told[key]) == 0 {
		delete(v.told, key)
	}
	v.deploymentsChanged.Add(key)
}

func (v *View) foldState(e bus.Entry) (contracts.DeviceID, error) {
	id, name, err := contracts.ParseDeviceStateKey(e.Key)
	if err != nil {
		return id, err
	}
	var s contracts.DeploymentState
	if !e.Deleted {
		if s, err = contracts.DecodeDeploymentState(e.Value); err == nil && s.Deployment != name {
			err = fmt.Errorf("the value is of deployment %q", s.Deployment)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	d := v.device(id)
	if e.Deleted {
		if p := d.placements[name]; p != nil {
			p.report = nothingReported
			v.changed(d, name, p)
			d.drop(name, p)
		}
		return id, nil
	}
	p := v.placement(d, name)
	if p == nil {
		return id, fmt.Errorf("the device reports more than %d deployments", maxPlacements)
	}
	at, since := e.Time.UnixNano(), e.Time.Add(-s.InPhase()).UnixNano()
	r := Report{
		Phase: s.Phase, ReportedRevision: s.Revision, ReportedDigest: s.Digest,
		Reason: s.Reason, Message: s.Message, Log: s.Log, Restarts: s.Restarts, Drifts: s.Drifts, issued: min(s.Issued, maxReported),
	}
	if err != nil {
		r, since = Report{Malformed: true, Reason: ReasonInvalidReport, Message: err.Error()}, at
	}
	report := unique.Make(r)
	if report == p.report {
		return id, err
	}
	p.report, p.reportedAt, p.since = report, at, since
	v.outrun(Key{d.id, name}, p)
	v.changed(d, name, p)
	if p.untold() {
		v.devicesChanged.Add(d.id)
	}
	return id, err
}

// ReasonInvalidReport is the reason of a failure whose report can't be read.
const ReasonInvalidReport = "InvalidReport"

func (v *View) foldInfo(e bus.Entry) (contracts.DeviceID, error) {
	id, err := contracts.ParseDeviceInfoKey(e.Key)
	if err != nil {
		return "", err
	}
	var info contracts.DeviceInfo
	if !e.Deleted {
		if info, err = contracts.DecodeDeviceInfo(e.Value); err == nil && info.Device != id {
			err = fmt.Errorf("the value is of device %q", info.Device)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	d := v.device(id)
	if e.Deleted {
		if d.info != nil || d.infoErr != "" {
			d.info, d.infoErr = nil, ""
			v.devicesChanged.Add(d.id)
		}
		return id, nil
	}
	if err != nil {
		d.info, d.infoErr = nil, err.Error()
		v.devicesChanged.Add(d.id)
		return id, err
	}
	// The time differs each time; a change of it alone is none.
	info.Time = time.Time{}
	// What a fleet has in common.
	info.Device, info.OS, info.Arch, info.Kernel, info.AgentVersion = d.id, intern(info.OS), intern(info.Arch), intern(info.Kernel), intern(info.AgentVersion)
	if d.info == nil || d.info.PublicKey != info.PublicKey || !reflect.DeepEqual(d.info.Curve, info.Curve) {
		v.standingChanged.Add(d.id)
	}
	if d.infoErr != "" || d.info == nil || !reflect.DeepEqual(*d.info, info) {
		d.info, d.infoErr = &info, ""
		v.devicesChanged.Add(d.id)
		v.observeDevice(d)
	}
	return id, nil
}
