package agent

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleet/agent/store"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/internal/version"
)

// presence is what tells the fleet that the device is there.
type presence struct {
	device    *Device
	publisher *bus.Publisher
	started   time.Time
	// connected is called each time the connection stands anew.
	connected func()
	// news wakes inform: there is something new to say.
	news chan struct{}

	mu      sync.Mutex
	refused store.Refused
}

// refuse counts an order that does not count, and has the fleet told of it.
func (p *presence) refuse(name contracts.DeploymentName, reason error) {
	p.mu.Lock()
	p.refused = store.Refused{Count: p.refused.Count + 1, Deployment: name, Reason: reason.Error(), Time: time.Now()}
	p.mu.Unlock()
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// heartbeats sends a sign of life when the connection stands and at every
// interval.
func (p *presence) heartbeats(ctx context.Context) {
	up := p.device.Conn.StatusChanged(nats.CONNECTED)
	defer p.device.Conn.RemoveStatusListener(up)
	ticker := time.NewTicker(p.device.Config.HeartbeatInterval)
	defer ticker.Stop()
	for n := uint64(1); ; n++ {
		if p.device.Conn.IsConnected() {
			now := time.Now()
			if err := p.publisher.Heartbeat(contracts.HeartbeatPayload{
				Seq: n, Time: now.UnixMilli(), Interval: max(1, int(p.device.Config.HeartbeatInterval/time.Second)), Uptime: int64(now.Sub(p.started) / time.Second),
			}); err != nil {
				p.device.Log.Debug("heartbeat not sent", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-up:
			ticker.Reset(p.device.Config.HeartbeatInterval)
		}
	}
}

// lookAgain is how often the device looks whether what it says of itself still
// holds, and calm how long it lets news gather: a stranger may cause many.
const (
	lookAgain = 5 * time.Minute
	calm      = 2 * time.Second
)

// inform says what the device is whenever the connection stands anew and when it
// has changed, and keeps for the status command how the connection is.
func (p *presence) inform(ctx context.Context) {
	changed := p.device.Conn.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.DISCONNECTED)
	defer p.device.Conn.RemoveStatusListener(changed)
	timer := time.NewTimer(0)
	defer timer.Stop()
	was := nats.Status(-1)
	failures, silent := 0, 0
	for {
		if is := p.device.Conn.Status(); is != was {
			was = is
			p.remember(is == nats.CONNECTED)
			if is == nats.CONNECTED {
				p.connected()
			}
		}
		next := lookAgain
		if p.device.Conn.IsConnected() {
			info := p.info(ctx)
			err := p.publisher.Info(ctx, info)
			switch {
			case err != nil:
				next = bus.Backoff(failures, 200*time.Millisecond, 10*time.Second)
				failures++
				p.device.Log.Debug("what the device is was not sent", "error", err)
			case len(info.Drivers) < len(p.device.drivers()):
				// One that starts with the machine may just be slow.
				next = bus.Backoff(silent, 2*time.Second, lookAgain)
				failures, silent = 0, silent+1
			default:
				failures, silent = 0, 0
			}
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			p.remember(false)
			return
		case <-changed:
		case <-p.news:
			p.remember(p.device.Conn.IsConnected())
			timer.Reset(calm)
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
		case <-timer.C:
		}
	}
}

func (p *presence) info(ctx context.Context) contracts.DeviceInfo {
	i := p.device.Facts()
	i.Device, i.AgentVersion, i.PublicKey, i.Curve, i.Time = p.device.Config.Device, version.Version, p.device.PublicKey, p.device.Curve, time.Now().UTC()
	p.mu.Lock()
	if i.Refused = p.refused.Count; i.Refused > 0 {
		i.RefusedReason = fmt.Sprintf("deployment %s: %s", p.refused.Deployment, p.refused.Reason)
	}
	p.mu.Unlock()
	for name, d := range p.device.drivers() {
		v, err := d.Version(ctx)
		if err != nil {
			p.device.Log.Warn("a driver does not answer", "driver", name, "error", err)
			continue
		}
		if i.Drivers == nil {
			i.Drivers = map[string]string{}
		}
		i.Drivers[name] = v
	}
	return i
}

func (p *presence) remember(connected bool) {
	a := store.Agent{
		Device: p.device.Config.Device, Version: version.Version, Server: p.device.Config.NATS.URL, Started: p.started,
		Connected: connected, Since: time.Now(),
	}
	if err := p.device.Conn.LastError(); err != nil && !connected {
		a.Error = cmp.Or(p.device.WhyRefused(), bus.Explain(err).Error())
	}
	p.mu.Lock()
	if refused := p.refused; refused.Count > 0 {
		a.Refused = &refused
	}
	p.mu.Unlock()
	if err := p.device.Memory.PutAgent(a); err != nil {
		p.device.Log.Error("keep the agent's state for the status command", "error", err)
	}
}
