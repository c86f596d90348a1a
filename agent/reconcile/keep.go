package reconcile

import "time"

// keep is what keeps up what there is while something stands in the way of what is
// wanted: an image that can't be had, a step that fails. What is in the wanted pod
// and wanted goes on as if nothing else were; what is older goes on until it can be
// replaced.
func keep(d *Desired, o Observed, m Memory) Plan {
	var p Plan
	pod := o.Current(d)
	if pod != nil && pod.up() {
		p = keepWanted(d, pod, o, m, p)
	}
	if pod != nil && (pod.begun(d) || pod.Infra != nil && pod.Infra.State == StateRunning) {
		// The new pod has taken the old one's place, and its ports.
		return p
	}
	for i := range o.Pods {
		if old := &o.Pods[i]; pod == nil || old.ID != pod.ID {
			p.keepOld(d, old, m)
		}
	}
	return p
}

func keepWanted(d *Desired, pod *Pod, o Observed, m Memory, p Plan) Plan {
	// A container and its replacement don't run side by side: they share ports.
	older := map[string]bool{}
	for _, c := range pod.Containers {
		if !wanted(d, c) && c.State != StateBroken {
			older[c.Unit] = true
			p.keepContainer(d, c, m)
		}
	}
	absent := map[string]bool{}
	for _, u := range missingUnits(d, pod) {
		if pull, failure := pulls([]Unit{u}, o, m); older[u.Name] || !pod.begun(d) || failure != nil || len(pull) > 0 {
			absent[u.Name] = true
			continue
		}
		for _, c := range pod.Containers {
			if c.Name == u.ContainerName {
				absent[u.Name] = absent[u.Name] || p.add(m, Step{Kind: Remove, Container: c.ID})
			}
		}
		absent[u.Name] = absent[u.Name] || p.add(m, Step{Kind: Create, Unit: u.Name})
	}
	return start(d, pod, m, p, func(u Unit) bool { return older[u.Name] || absent[u.Name] })
}

// keepOld keeps up a pod that will be replaced. When its network has ended, by a
// reboot or by hand, all of it is started again: nothing else can be done for it as
// long as what it was made from is not wanted any more.
func (p *Plan) keepOld(d *Desired, pod *Pod, m Memory) {
	if pod.up() {
		for _, c := range pod.Containers {
			p.keepContainer(d, c, m)
		}
		return
	}
	if !pod.Infra.ran() {
		return
	}
	cutOff := false
	for _, c := range pod.Containers {
		if c.State == StateRunning {
			cutOff = true
			p.Steps = append(p.Steps, Step{Kind: Stop, Unit: c.Unit, Container: c.ID})
		}
		if seen, ok := m.Ended[c.ID]; ok && seen.Add(settle).After(m.Now) {
			// Somebody may be stopping the pod, one container after the other.
			cutOff = true
			p.wakeAt(seen.Add(settle))
		}
	}
	if cutOff || p.add(m, Step{Kind: StartInfra, Pod: pod.Name}) {
		return
	}
	for _, c := range pod.Containers {
		if !c.isInit(d) && c.ran() {
			p.Steps = append(p.Steps, Step{Kind: Start, Unit: c.Unit, Container: c.ID})
		}
	}
}

// keepContainer keeps up a container that will be replaced. That it has ended for
// good is no failure of what is wanted.
func (p *Plan) keepContainer(d *Desired, c Container, m Memory) {
	if c.isInit(d) || c.State == StateCreated || c.State == StateBroken {
		return
	}
	before := p.Failure
	p.startUnit(d, Unit{Name: c.Unit}, &c, m)
	p.Failure = before
}

// isInit reports whether it is an init container, of whichever revision.
func (c Container) isInit(d *Desired) bool {
	u := d.Find(c.Unit)
	return c.Init || u != nil && u.Init
}

// ran reports whether a container that does not run has run. A reboot makes podman
// forget, for some versions, all but when.
func (c Container) ran() bool {
	return c.State == StateExited || c.State == StateCreated && !c.Started.IsZero()
}

// up reports whether the pod's network is there.
func (p *Pod) up() bool { return p.Infra == nil || p.Infra.State == StateRunning }

// add adds a step that others need, and reports whether it is held back, and they
// with it.
func (p *Plan) add(m Memory, s Step) (held bool) {
	p.Steps = append(p.Steps, s)
	return m.Failed[s.Key()].After(m.Now)
}

func (p *Plan) wakeAt(t time.Time) {
	if p.Wake.IsZero() || t.Before(p.Wake) {
		p.Wake = t
	}
}

// withhold takes out the steps that failed and are not to be tried again yet, and
// remembers the first of them.
func (p Plan) withhold(m Memory) Plan {
	var left []Step
	for _, s := range p.Steps {
		until := m.Failed[s.Key()]
		if !until.After(m.Now) { // zero for one that has not failed
			left = append(left, s)
			continue
		}
		if p.Held == "" {
			p.Held = s.Key()
		}
		p.wakeAt(until)
	}
	p.Steps = left
	return p
}
