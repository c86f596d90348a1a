package machines

import (
	"maps"
	"slices"
	"time"
)

// leftovers are the disks, seeds and networks that no machine needs any longer. Volumes
// for data are left, whatever the score says of them.
func (p *planner) leftovers() []Step {
	keep := map[string]bool{}
	for i := range p.d.Machines {
		m := &p.d.Machines[i]
		keep[m.Seed] = true
		for _, d := range m.Disks {
			keep[d.Volume] = true
		}
	}
	var steps []Step
	for _, name := range slices.Sorted(maps.Keys(p.o.Volumes)) {
		if !keep[name] && OfMachine(name) {
			steps = append(steps, Step{Kind: RemoveVolume, Volume: name})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.o.Networks)) {
		if p.o.Networks[name].Ours && p.d.Network(name) == nil {
			steps = append(steps, Step{Kind: RemoveNetwork, Network: name})
		}
	}
	return steps
}

// removeAll removes machines, and when none is left what they were made of.
func removeAll(o Observed, m Memory) Plan {
	p := &planner{o: o, m: m}
	for _, dom := range o.Domains {
		if dom.Ours {
			p.endings = append(p.endings, Step{Kind: Remove, Domain: dom.Name, Grace: grace(dom)})
		}
	}
	if len(p.endings) == 0 {
		p.d = &Desired{}
		p.endings = p.leftovers()
	}
	p.steps(&p.plan, p.endings)
	return p.plan
}

// unknownGrace is what a machine gets of which nobody knows how long it needs.
const unknownGrace = time.Minute

// grace is the time that a machine has to shut down, as it was wanted when it was made.
func grace(dom Domain) time.Duration {
	made, err := ParseMade(dom.Made)
	if err != nil {
		return unknownGrace
	}
	return time.Duration(made.Stop) * time.Second
}
