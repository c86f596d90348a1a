package machines

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
)

// Decide says which steps lead from what libvirt has to what is desired; nil desires
// nothing. After they are done it is asked again, until there are none. What stands in
// the way of one machine, or a step of it that failed, holds up no other.
func Decide(d *Desired, o Observed, m Memory) Plan {
	if d == nil {
		return removeAll(o, m)
	}
	p := &planner{d: d, o: o, m: m, cut: map[string]bool{}}
	for i := range d.Machines {
		p.machine(&d.Machines[i])
	}
	for _, dom := range o.Domains {
		// What replaces it may need its memory, its volume or its address; but when
		// nothing can replace it, it goes on.
		if dom.Ours && !p.wanted(dom.Name) && p.plan.Failure == nil && len(p.cut) == 0 {
			p.endings = append(p.endings, Step{Kind: Remove, Domain: dom.Name, Grace: grace(dom)})
		}
	}
	p.steps(&p.plan, p.preparations, p.endings, p.changes, p.starts)
	if len(p.plan.Steps) == 0 && p.plan.Held == "" && p.plan.Failure == nil && m.Healthy {
		p.steps(&p.plan, p.leftovers())
	}
	return p.plan
}

// planner collects the steps of all machines. Each machine's are a chain: its
// preparations, its end, its changes and its start, in that order; of all machines the
// preparations come first, so that nothing ends before what shall follow it can begin.
type planner struct {
	d    *Desired
	o    Observed
	m    Memory
	plan Plan

	preparations, endings, changes, starts []Step
	// cut are the machines of which a step is held back, and with it those after it.
	cut map[string]bool
}

func (p *planner) wanted(domain string) bool {
	return slices.ContainsFunc(p.d.Machines, func(m Machine) bool { return m.Domain == domain })
}

// add puts a step of a machine's chain where it belongs, unless one before it is held.
func (p *planner) add(list *[]Step, m *Machine, s Step) {
	if p.cut[m.Spec.Name] {
		return
	}
	if p.held(s) {
		p.cut[m.Spec.Name] = true
		return
	}
	if !slices.Contains(*list, s) { // two machines need the same network
		*list = append(*list, s)
	}
}

// held reports whether a step has failed and is not to be tried again yet.
func (p *planner) held(s Step) bool {
	until := p.m.Failed[s.Key()]
	if !until.After(p.m.Now) { // zero for one that has not failed
		return false
	}
	if p.plan.Held == "" {
		p.plan.Held = s.Key()
	}
	p.plan.wakeAt(until)
	return true
}

// steps adds steps that hang together with nothing.
func (p *planner) steps(plan *Plan, lists ...[]Step) {
	for _, s := range slices.Concat(lists...) {
		if !p.held(s) {
			plan.Steps = append(plan.Steps, s)
		}
	}
}

func (p *planner) fail(reason, format string, args ...any) {
	if p.plan.Failure == nil {
		p.plan.Failure = &reconcile.Failure{Reason: reason, Message: fmt.Sprintf(format, args...)}
	}
}

// machine adds the steps of one machine.
func (p *planner) machine(m *Machine) {
	dom := p.o.Find(m.Domain)
	if dom != nil && !dom.Ours {
		p.fail(ReasonNameTaken, "machine %s: libvirt has a machine %s that this deployment has not made; it is left alone", m.Spec.Name, m.Domain)
		return
	}
	lost, ready := p.networks(m)
	if !ready || !p.images(m, dom) {
		p.keep(m, dom)
		return
	}
	grow := p.disks(m)
	var why []string
	if dom != nil {
		why = m.differs(dom.made())
		why = append(why, p.shrinks(m, dom)...)
		for _, disk := range grow {
			why = append(why, "the size of disk "+disk.Name)
		}
	}
	switch {
	case dom == nil:
		p.make(m, grow, false)
	case len(why) > 0 && dom.Up():
		p.end(m, grow, "to change: "+strings.Join(why, ", "))
		p.make(m, grow, false)
	case len(why) > 0:
		p.make(m, grow, false)
	case len(lost) > 0 && dom.Up():
		// Its interfaces are on a bridge that was taken away with the network.
		p.end(m, nil, "to be in network "+strings.Join(lost, ", ")+" again")
		p.make(m, nil, false)
	case !dom.Persistent:
		// Somebody had libvirt forget it while it runs: it goes on running.
		p.make(m, nil, dom.Up())
	default:
		p.keep(m, dom)
	}
	if p.cut[m.Spec.Name] && (dom == nil || len(why) > 0) {
		// Something failed before its end: what there is goes on.
		p.keepOld(m, dom)
	}
}

// end adds the end of a machine that is to become another, unless what follows is held
// back.
func (p *planner) end(m *Machine, grow []Disk, why string) {
	for _, s := range m.changes(grow) {
		p.cut[m.Spec.Name] = p.cut[m.Spec.Name] || p.held(s)
	}
	p.add(&p.endings, m, Step{Kind: Stop, Machine: m.Spec.Name, Why: why})
}

// changes are the steps that make a machine which is off what it shall be.
func (m *Machine) changes(grow []Disk) []Step {
	var steps []Step
	for _, disk := range grow {
		steps = append(steps, Step{Kind: Grow, Machine: m.Spec.Name, Volume: disk.Volume})
	}
	return append(steps, Step{Kind: Define, Machine: m.Spec.Name})
}

// make adds the steps from a machine that is off, or not there, to one that runs.
func (p *planner) make(m *Machine, grow []Disk, running bool) {
	for _, s := range m.changes(grow) {
		p.add(&p.changes, m, s)
	}
	if !running {
		p.add(&p.starts, m, Step{Kind: Start, Machine: m.Spec.Name})
	}
}

// networks adds what makes the machine's networks, and returns those that a machine that
// runs has lost, by their names in the score. It reports whether the machine can be in
// them.
func (p *planner) networks(m *Machine) (lost []string, ok bool) {
	for _, i := range m.Interfaces {
		if i.Network == "" {
			continue
		}
		n := p.d.Network(i.Network)
		is, there := p.o.Networks[i.Network]
		switch {
		case there && !is.Ours:
			p.fail(ReasonNameTaken, "network %s: libvirt has a network %s that this deployment has not made; it is left alone", n.Spec.Name, n.LibvirtName)
			return nil, false
		case !there || !is.Active:
			lost = append(lost, n.Spec.Name)
			p.add(&p.preparations, m, Step{Kind: MakeNetwork, Network: i.Network})
		case p.m.Ensured[i.Network] != n.Hash:
			p.add(&p.preparations, m, Step{Kind: MakeNetwork, Network: i.Network, Sure: true})
		}
	}
	return lost, true
}

// images reports whether everything is in the pool that the machine is to be made of. A
// disk that is there needs its image too: it is a copy on write of it.
func (p *planner) images(m *Machine, dom *Domain) bool {
	if dom != nil && dom.Up() && len(m.differs(dom.made())) == 0 {
		return true // it has all it needs
	}
	for _, image := range m.images() {
		if !p.o.Images[image] {
			p.fail(ReasonImageNotFound, "machine %s: the device's pool has no volume %s; `virsh vol-create-as` and `virsh vol-upload` bring it there", m.Spec.Name, image)
			return false
		}
	}
	return true
}

// disks adds what makes the machine's disks, and returns those that are to grow.
func (p *planner) disks(m *Machine) (grow []Disk) {
	for _, d := range m.Disks {
		has, there := p.o.Volumes[d.Volume]
		kind := MakeDisk
		step := Step{Machine: m.Spec.Name, Volume: d.Volume}
		if d.Image == "" {
			kind, step.Machine = MakeVolume, ""
		}
		step.Kind = kind
		switch {
		case !there:
			p.add(&p.preparations, m, step)
		case d.Bytes > has:
			grow = append(grow, d)
		case d.Bytes != 0 && d.Bytes < has:
			p.fail(reconcile.ReasonVolume, "machine %s, disk %s: it has %s and can't shrink to %s; give it at least that, or another name", m.Spec.Name, d.Name, bytes(has), bytes(d.Bytes))
		}
	}
	if _, there := p.o.Volumes[m.Seed]; m.Seed != "" && !there {
		p.add(&p.preparations, m, Step{Kind: WriteSeed, Machine: m.Spec.Name, Volume: m.Seed})
	}
	return grow
}

// shrinks are the changes of a running machine's size that it has to restart for.
func (p *planner) shrinks(m *Machine, dom *Domain) (why []string) {
	if !dom.Up() || p.m.Sized[m.Spec.Name] == m.size() {
		return nil
	}
	cpus := p.m.Refused[Step{Kind: SetCPUs, Machine: m.Spec.Name}.Key()]
	memory := p.m.Refused[Step{Kind: SetMemory, Machine: m.Spec.Name}.Key()]
	// Processors that a guest has begun with can't be taken from it, and what it could
	// not be given was worth one try.
	if dom.CPUs > m.Spec.CPUs || cpus && dom.CPUs != m.Spec.CPUs {
		why = append(why, fmt.Sprintf("cpus %d → %d", dom.CPUs, m.Spec.CPUs))
	}
	if memory && dom.Memory != m.Spec.MemoryBytes {
		why = append(why, fmt.Sprintf("memory %s → %s", bytes(dom.Memory), bytes(m.Spec.MemoryBytes)))
	}
	return why
}

func (m *Machine) size() Size { return Size{m.Spec.CPUs, m.Spec.MemoryBytes} }

func (p *Plan) wakeAt(t time.Time) {
	if p.Wake.IsZero() || t.Before(p.Wake) {
		p.Wake = t
	}
}
