package top

import (
	"fmt"
	"testing"
	"time"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
)

// slow has a heartbeat each 200s: 100,000 of those are 500 a second.
func slow(h *live.Heartbeat) { h.Status.IntervalSeconds = 200 }

// BenchmarkFrame is the work for one frame of a fleet of 100,000 devices with a
// placement each, at 1,000 changes a second: half of them heartbeats, half placements.
func BenchmarkFrame(b *testing.B) {
	const (
		devices = 100_000
		changed = int(1000 * frameInterval / time.Second)
	)
	var heartbeats []*live.Heartbeat
	var placements []*live.Placement
	for i := range devices {
		name := fmt.Sprintf("till-%d", i)
		heartbeats = append(heartbeats, beat(name, time.Duration(i%30)*time.Second, slow))
		placements = append(placements, placed(name, "signage", phases[i%len(phases)].name, time.Duration(i)*time.Second))
	}
	for name, keys := range map[string]string{"all rows": "", "placements": "<tab>", "filtered": "<tab>/99", "problems by name": "<tab>ps"} {
		b.Run(name, func(b *testing.B) {
			m := open(120, 40, full(now, heartbeats, placements))
			press(m, keys)
			at := now
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				at = at.Add(frameInterval)
				f := frame{now: at, heartbeats: changes[live.Heartbeat]{objects: map[key]*live.Heartbeat{}}, placements: changes[live.Placement]{objects: map[key]*live.Placement{}}}
				for j := range changed {
					n := (i*changed + j) * 7919 % devices
					if j%2 == 0 {
						h := beat(fmt.Sprintf("till-%d", n), 0, slow, func(h *live.Heartbeat) { h.Status.LastHeartbeatTime.Time = at })
						f.heartbeats.set(keyOf(h), h)
					} else {
						p := placed(fmt.Sprintf("till-%d", n), "signage", phases[(n+i)%len(phases)].name, now.Sub(at))
						f.placements.set(keyOf(p), p)
					}
				}
				b.StartTimer()
				m.Update(f)
				if m.View() == "" {
					b.Fatal("nothing was drawn")
				}
			}
			perFrame := b.Elapsed().Seconds() / float64(b.N)
			b.ReportMetric(perFrame/frameInterval.Seconds()*100, "%CPU")
		})
	}
}
