package machines

import (
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
)

// keep sees to a machine that is as it shall be, or can't become so.
func (p *planner) keep(m *Machine, dom *Domain) {
	if dom == nil || p.cut[m.Spec.Name] && !dom.Up() {
		return
	}
	name := m.Spec.Name
	switch {
	case dom.State == StatePaused && dom.Ended == EndCrashed:
		// Libvirt has paused it, for a disk that could not be written.
		if p.due(dom) {
			p.add(&p.starts, m, Step{Kind: Resume, Machine: name})
		}
	case dom.State == StatePaused:
		p.add(&p.starts, m, Step{Kind: Resume, Machine: name})
	case dom.State == StateRunning:
		if len(m.differs(dom.made())) == 0 {
			p.resize(m, dom)
		}
	case dom.Up():
		p.plan.wakeAt(p.m.Now.Add(passing)) // it passes, and tells
	case dom.Ended == EndCrashed || dom.State == StateCrashed || dom.Ended == EndShutdown:
		if p.due(dom) {
			p.add(&p.starts, m, Step{Kind: Start, Machine: name, Again: true, Crashed: dom.Ended != EndShutdown})
		}
	default:
		p.add(&p.starts, m, Step{Kind: Start, Machine: name})
	}
}

// keepOld starts a machine that runs no longer and can't become what is wanted now.
func (p *planner) keepOld(m *Machine, dom *Domain) {
	if dom == nil || dom.Up() || !dom.Persistent {
		return
	}
	if s := (Step{Kind: Start, Machine: m.Spec.Name}); !p.held(s) {
		p.starts = append(p.starts, s)
	}
}

// passing is how long a state that passes by itself is left alone without an event.
const passing = 5 * time.Second

// settle is how long a machine that has ended is left alone: somebody may be doing
// something to it.
const settle = 300 * time.Millisecond

// due reports whether a machine that has ended is to be started again, in the back-off of
// what ends again and again.
func (p *planner) due(dom *Domain) bool {
	ended, seen := p.m.Ended[dom.UUID]
	if !seen {
		ended = p.m.Now
	}
	at := p.m.Backoff[dom.UUID].NotBefore(reconcile.Container{Started: p.m.started(dom.UUID, ended), Finished: ended})
	if seen && at.Before(ended.Add(settle)) {
		at = ended.Add(settle)
	}
	if !at.After(p.m.Now) {
		return true
	}
	p.plan.wakeAt(at)
	return false
}

// started is when a machine that has ended began; at its end for one that nobody saw.
func (m Memory) started(uuid string, ended time.Time) time.Time {
	if at, ok := m.Started[uuid]; ok {
		return at
	}
	return ended
}

// resize gives a running machine more or less, once.
func (p *planner) resize(m *Machine, dom *Domain) {
	given := p.m.Sized[m.Spec.Name]
	if dom.CPUs < m.Spec.CPUs && given.CPUs != m.Spec.CPUs {
		p.add(&p.starts, m, Step{Kind: SetCPUs, Machine: m.Spec.Name})
	}
	if dom.Memory != m.Spec.MemoryBytes && given.Memory != m.Spec.MemoryBytes {
		p.add(&p.starts, m, Step{Kind: SetMemory, Machine: m.Spec.Name})
	}
}
