package fleetview

import (
	"fmt"
	"reflect"
	"time"

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
	v.mu.Lock()
	defer v.mu.Unlock()
	v.totals.Folded++
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

func (v *View) foldDesired(e bus.Entry) (contracts.DeviceID, error) {
	id, name, err := contracts.ParseDesiredStateKey(e.Key)
	if err != nil {
		return id, err
	}
	order, err := v.orderOf(Key{id, name}, e.Value)
	if err != nil {
		// Whoever wrote this, the device does not obey: it was told nothing.
		v.setTold(id, name, "", told{sequence: e.Sequence})
		return id, err
	}
	s := order.Desired
	if s == nil {
		v.setTold(id, name, "", told{issued: order.Issued, sequence: e.Sequence})
		return id, nil
	}
	sealedTo := ""
	if s.Sealed != nil {
		sealedTo = s.Sealed.To
	}
	v.setTold(id, name, s.Namespace, told{
		exists: true, revision: s.Revision, digest: s.Digest, wave: s.Wave, failedBefore: s.FailedBefore, number: s.Number,
		at: e.Time.UnixNano(), issued: order.Issued, sealedTo: sealedTo, sequence: e.Sequence,
	})
	return id, nil
}

// orderOf reads an order of the operator's. Its signature is not looked at: to have
// forged it gains nothing, since the device looks, and to verify what a large fleet
// was told would take longer than to read it.
func (v *View) orderOf(k Key, value []byte) (contracts.Order, error) {
	envelope, err := contracts.DecodeEnvelope(value)
	if err != nil {
		return contracts.Order{}, err
	}
	order, err := envelope.Order(nil, k.Deployment)
	if err != nil {
		return contracts.Order{}, err
	}
	if !v.signed(k, envelope.Key, order.Issued) {
		return contracts.Order{}, &contracts.UntrustedKeyError{Got: envelope.Key, Want: v.signer}
	}
	return order, nil
}

// setTold replaces what a device was told, unless something newer is known.
func (v *View) setTold(id contracts.DeviceID, name contracts.DeploymentName, namespace string, t told) {
	d, known := v.devices[id]
	if !known && !t.exists {
		return
	}
	if !known {
		d = v.device(id)
	}
	p, known := d.placements[name]
	if !known {
		if !t.exists {
			return
		}
		// The operator's own writes are not bounded by maxPlacements.
		p = &placement{}
		d.placements[contracts.DeploymentName(intern(string(name)))] = p
	}
	if t.sequence < p.told.sequence {
		return
	}
	t.revision, t.digest, t.wave, t.sealedTo = intern(t.revision), intern(t.digest), intern(t.wave), intern(t.sealedTo)
	before, beforeIn := p.told, p.namespace
	p.told, p.namespace = t, intern(namespace)
	if before.exists && beforeIn != namespace {
		v.unindex(beforeIn, name, d.id)
	}
	if t.exists {
		key := types.NamespacedName{Namespace: p.namespace, Name: string(name)}
		if v.told[key] == nil {
			v.told[key] = map[contracts.DeviceID]*placement{}
		}
		v.told[key][d.id] = p
	}
	v.outrun(Key{d.id, name}, p)
	if before.exists != t.exists || before.revision != t.revision || before.digest != t.digest || beforeIn != namespace {
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
	d := v.device(id)
	if e.Deleted {
		if p := d.placements[name]; p != nil {
			p.report = nil
			v.changed(d, name, p)
			d.drop(name, p)
		}
		return id, nil
	}
	p := v.placement(d, name)
	if p == nil {
		return id, fmt.Errorf("the device reports more than %d deployments", maxPlacements)
	}
	s, err := contracts.DecodeDeploymentState(e.Value)
	if err == nil && s.Deployment != name {
		err = fmt.Errorf("the value is of deployment %q", s.Deployment)
	}
	r := report{
		revision: intern(s.Revision), digest: intern(s.Digest), phase: contracts.Phase(intern(string(s.Phase))),
		reason: intern(s.Reason), message: s.Message, log: s.Log, restarts: s.Restarts, drifts: s.Drifts, issued: min(s.Issued, maxReported),
		at: e.Time.UnixNano(), since: e.Time.Add(-s.InPhase()).UnixNano(),
	}
	if err != nil {
		r = report{malformed: true, reason: ReasonInvalidReport, message: err.Error(), at: e.Time.UnixNano(), since: e.Time.UnixNano()}
	}
	if before := p.report; before != nil {
		same := *before
		same.at, same.since = r.at, r.since
		if same == r {
			return id, err
		}
	}
	p.report = &r
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
	d := v.device(id)
	if e.Deleted {
		if d.info != nil || d.infoErr != "" {
			d.info, d.infoErr = nil, ""
			v.devicesChanged.Add(d.id)
		}
		return id, nil
	}
	info, err := contracts.DecodeDeviceInfo(e.Value)
	if err == nil && info.Device != id {
		err = fmt.Errorf("the value is of device %q", info.Device)
	}
	if err != nil {
		d.info, d.infoErr = nil, err.Error()
		v.devicesChanged.Add(d.id)
		return id, err
	}
	// The time differs each time; a change of it alone is none.
	info.Time = time.Time{}
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
