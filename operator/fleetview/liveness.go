package fleetview

import (
	"container/heap"
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
)

// A device is offline when missedHeartbeats intervals have passed since its last
// heartbeat reached the server. The interval is the device's own word, so it is
// clamped: a device can neither stay online for days nor keep the timer busy.
const (
	missedHeartbeats = 3
	minInterval      = time.Second
	maxInterval      = 10 * time.Minute
)

func (v *View) foldHeartbeat(e bus.Entry) (contracts.DeviceID, error) {
	id, err := contracts.ParseHeartbeatKey(e.Key)
	if err != nil {
		return "", err
	}
	var h contracts.HeartbeatPayload
	if !e.Deleted {
		h, err = contracts.DecodeHeartbeat(e.Value)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	d := v.device(id)
	if e.Deleted {
		d.last = time.Time{}
		v.setOnline(d, false)
		v.observeDevice(d)
		return id, nil
	}
	if err != nil {
		return id, err
	}
	now := v.clock.Now()
	d.interval = min(max(time.Duration(h.Interval)*time.Second, minInterval), maxInterval)
	// An agent that has started again counts from the beginning.
	if uptime := time.Duration(h.Uptime) * time.Second; d.sequence > 0 && h.Seq > d.sequence+1 && uptime >= d.uptime {
		d.missed += h.Seq - d.sequence - 1
	}
	d.sequence, d.uptime = h.Seq, time.Duration(h.Uptime)*time.Second
	d.latency = e.Time.Sub(time.UnixMilli(h.Time))
	// The server's clock counts, not the device's; where it is ahead of ours, ours.
	d.last = e.Time
	if d.last.After(now) {
		d.last = now
	}
	if v.deadline(d).After(now) {
		v.setOnline(d, true)
		v.order(d)
	}
	v.observeDevice(d)
	return id, nil
}

// deadline is when the device's heartbeat is overdue. After an interruption every
// device has all of its time again: it could not be heard.
func (v *View) deadline(d *device) time.Time {
	from := d.last
	if d.online && v.resumed.After(from) {
		from = v.resumed
	}
	return from.Add(missedHeartbeats * d.interval)
}

func (v *View) setOnline(d *device, online bool) {
	if d.online == online {
		return
	}
	d.online = online
	if online {
		d.since = v.clock.Now()
		v.totals.Online++
	} else {
		v.totals.Online--
		if d.slot >= 0 {
			heap.Remove(&v.overdue, d.slot)
		}
	}
	v.devicesChanged.Add(d.id)
	v.standingChanged.Add(d.id)
	for name, p := range d.placements {
		if t := p.told.Value(); t.Told {
			v.deploymentsChanged.Add(types.NamespacedName{Namespace: t.namespace, Name: string(name)})
		}
		v.observePlacement(d, name, p)
	}
}

// order puts an online device into the heap. A heartbeat only moves the deadline
// back, which the timer finds out by itself: so a heartbeat costs O(1), and the
// heap is touched once per device and deadline.
func (v *View) order(d *device) {
	due := v.deadline(d)
	switch {
	case d.slot < 0:
		d.due = due
		heap.Push(&v.overdue, d)
	case due.Before(d.due):
		d.due = due
		heap.Fix(&v.overdue, d.slot)
	default:
		return
	}
	if v.overdue[0] == d {
		select {
		case v.rearm <- struct{}{}:
		default:
		}
	}
}

// expire takes the devices offline whose heartbeats are overdue, and returns how
// long to wait for the next; nothing to wait for is a long time.
func (v *View) expire() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	const nothing = time.Hour
	if v.suspended {
		return nothing
	}
	now := v.clock.Now()
	for len(v.overdue) > 0 {
		d := v.overdue[0]
		if d.due.After(now) {
			return d.due.Sub(now)
		}
		if due := v.deadline(d); due.After(now) {
			d.due = due
			heap.Fix(&v.overdue, 0)
			continue
		}
		v.setOnline(d, false)
		v.observeDevice(d)
	}
	return nothing
}

// Run takes devices offline whose heartbeats stop, until the context ends.
func (v *View) Run(ctx context.Context) error {
	for {
		timer := v.clock.NewTimer(v.expire())
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-v.rearm:
			timer.Stop()
		case <-timer.C():
		}
	}
}

// Suspend keeps every device as it is: the bus is not reachable, so silence says
// nothing about the devices.
func (v *View) Suspend() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.suspended = true
}

// Resume ends Suspend.
func (v *View) Resume() {
	v.mu.Lock()
	if v.suspended {
		v.suspended, v.resumed = false, v.clock.Now()
	}
	v.mu.Unlock()
	select {
	case v.rearm <- struct{}{}:
	default:
	}
}

// expiries is a heap of online devices by due.
type expiries []*device

func (x expiries) Len() int           { return len(x) }
func (x expiries) Less(i, j int) bool { return x[i].due.Before(x[j].due) }
func (x expiries) Swap(i, j int) {
	x[i], x[j] = x[j], x[i]
	x[i].slot, x[j].slot = i, j
}
func (x *expiries) Push(d any) {
	d.(*device).slot = len(*x)
	*x = append(*x, d.(*device))
}
func (x *expiries) Pop() any {
	old := *x
	d := old[len(old)-1]
	old[len(old)-1] = nil
	d.slot = -1
	*x = old[:len(old)-1]
	return d
}
