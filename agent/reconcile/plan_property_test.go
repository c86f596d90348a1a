package reconcile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nationtech/fleet/contracts"
)

// model is a runtime that carries out steps in memory and refuses what podman
// would refuse.
type model struct {
	o    Observed
	next int
	now  time.Time
}

func (m *model) id() string { m.next++; return fmt.Sprint("c", m.next) }

func (m *model) pod(name string) *Pod {
	for i := range m.o.Pods {
		if m.o.Pods[i].Name == name {
			return &m.o.Pods[i]
		}
	}
	return nil
}

func (m *model) apply(d *Desired, s Step) error {
	switch s.Kind {
	case Pull:
		m.o.Images[s.Image] = true
		return nil
	case CreatePod:
		if m.pod(d.PodName) != nil {
			return fmt.Errorf("pod name %s is taken", d.PodName)
		}
		p := Pod{ID: m.id(), Name: d.PodName, Hash: d.PodHash}
		if !d.HostNetwork {
			p.Infra = &Container{ID: m.id(), State: StateCreated}
		}
		m.o.Pods = append(m.o.Pods, p)
		return nil
	case RemovePod:
		if m.pod(s.Pod) == nil {
			return fmt.Errorf("no pod %s", s.Pod)
		}
		m.o.Pods = slices.DeleteFunc(m.o.Pods, func(p Pod) bool { return p.Name == s.Pod })
		return nil
	case Remove:
		removed := false
		match := func(c Container) bool {
			removed = removed || c.ID == s.Container
			return c.ID == s.Container
		}
		m.o.Strays = slices.DeleteFunc(m.o.Strays, match)
		for i := range m.o.Pods {
			m.o.Pods[i].Containers = slices.DeleteFunc(m.o.Pods[i].Containers, match)
		}
		if !removed {
			return fmt.Errorf("no container %s", s.Container)
		}
		return nil
	}
	if s.Container != "" {
		for i := range m.o.Pods {
			for j := range m.o.Pods[i].Containers {
				if c := &m.o.Pods[i].Containers[j]; c.ID == s.Container {
					return m.change(&m.o.Pods[i], c, s.Kind)
				}
			}
		}
		return fmt.Errorf("%s: no such container", s)
	}
	p := m.pod(cmp.Or(s.Pod, d.PodName))
	if p == nil {
		return fmt.Errorf("%s without the pod", s)
	}
	switch s.Kind {
	case StartInfra:
		p.Infra.State = StateRunning
		return nil
	case Create:
		u := d.Find(s.Unit)
		for _, pod := range m.o.Pods {
			for _, c := range pod.Containers {
				if c.Name == u.ContainerName {
					return fmt.Errorf("container name %s is taken", c.Name)
				}
			}
		}
		if !m.o.Images[u.Spec.Image] {
			return fmt.Errorf("image %s is not here", u.Spec.Image)
		}
		p.Containers = append(p.Containers, Container{ID: m.id(), Name: u.ContainerName, Unit: u.Name, Hash: u.Hash, Init: u.Init, State: StateCreated})
		return nil
	case Start:
		for i := range p.Containers {
			if c := &p.Containers[i]; c.Name == d.Find(s.Unit).ContainerName {
				return m.change(p, c, s.Kind)
			}
		}
		return fmt.Errorf("%s: no such container", s)
	}
	return fmt.Errorf("unknown step %s", s)
}

// change starts, stops or unpauses a container.
func (m *model) change(p *Pod, c *Container, k Kind) error {
	switch {
	case k == Stop:
		c.State, c.Finished = StateExited, m.now
	case !p.up():
		return fmt.Errorf("%s %s before the network", k, c.ID)
	case c.Init:
		c.State, c.Started, c.ExitCode, c.Finished = StateExited, m.now, 0, m.now
	default:
		c.State, c.Started = StateRunning, m.now
	}
	return nil
}

// settle asks and applies until nothing is left to do, and returns the IDs that
// steps touched.
func (m *model) settle(t *rapid.T, d *Desired) map[string]bool {
	return m.settleFailing(t, d, func(Step) bool { return false })
}

// settleFailing does the same when steps fail: those are not tried again.
func (m *model) settleFailing(t *rapid.T, d *Desired, fails func(Step) bool) map[string]bool {
	touched := map[string]bool{}
	pulled := map[string]bool{}
	failed := map[string]time.Time{}
	never := m.now.Add(1000 * time.Hour)
	for range 100 {
		p := Decide(d, m.o, Memory{Now: m.now, Pulled: pulled, Failed: failed})
		if p.Failure != nil {
			t.Fatalf("failure: %s", p.Failure.Message)
		}
		if len(p.Steps) == 0 {
			if !p.Wake.IsZero() && p.Wake.Before(never) {
				m.now = p.Wake
				continue
			}
			return touched
		}
		for _, s := range p.Steps {
			if fails(s) {
				if failed[s.Key()] == never {
					t.Fatalf("step %s is tried again before its time", s)
				}
				failed[s.Key()] = never
				break
			}
			for _, c := range containersOf(m, s) {
				touched[c] = true
			}
			if s.Kind == Pull {
				pulled[s.Image] = true
			}
			if err := m.apply(d, s); err != nil {
				t.Fatalf("step %s of %v: %v\nobserved %+v", s, p.Steps, err, m.o)
			}
		}
	}
	t.Fatalf("no end in sight: %+v", m.o)
	return nil
}

func containersOf(m *model, s Step) []string {
	if s.Container != "" {
		return []string{s.Container}
	}
	var ids []string
	if p := m.pod(s.Pod); s.Kind == RemovePod && p != nil {
		for _, c := range p.Containers {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

func drawScore(t *rapid.T, label string) contracts.DesiredState {
	draw := func(prefix string, min, max int) []contracts.Container {
		var out []contracts.Container
		for i := range rapid.IntRange(min, max).Draw(t, label+prefix) {
			name := fmt.Sprint(prefix, i)
			c := contracts.Container{Name: name, Image: "img:" + rapid.SampledFrom([]string{"1", "2"}).Draw(t, label+name),
				PullPolicy: rapid.SampledFrom([]string{"Always", "IfNotPresent"}).Draw(t, label+name+"policy")}
			if rapid.Bool().Draw(t, label+name+"port") {
				c.Ports = []contracts.Port{{Container: 80, Host: int32(8000 + i), Protocol: "TCP"}}
			}
			out = append(out, c)
		}
		return out
	}
	p := &contracts.PodmanScore{RestartPolicy: "Always", InitContainers: draw("init", 0, 2), Containers: draw("app", 1, 3), HostNetwork: rapid.Bool().Draw(t, label+"host")}
	s := contracts.ReconcileScore{Podman: p}
	return contracts.DesiredState{Deployment: "web", Revision: "r", Digest: s.Digest(), Score: s}
}

// disturb does what a person or a crash could have done to the device.
func disturb(t *rapid.T, m *model) {
	if rapid.Bool().Draw(t, "stray") {
		m.o.Strays = append(m.o.Strays, Container{ID: m.id(), State: StateRunning})
	}
	for i := range m.o.Pods {
		p := &m.o.Pods[i]
		if p.Infra != nil {
			p.Infra.State = rapid.SampledFrom([]State{StateRunning, StateRunning, StateRunning, StateExited}).Draw(t, "infra")
		}
		p.Containers = slices.DeleteFunc(p.Containers, func(Container) bool { return rapid.IntRange(0, 5).Draw(t, "remove") == 0 })
		for j := range p.Containers {
			c := &p.Containers[j]
			c.State = rapid.SampledFrom([]State{c.State, c.State, StateExited, StatePaused, StateBroken, StateCreated}).Draw(t, "state")
			c.Finished = m.now
		}
	}
	for _, image := range slices.Sorted(maps.Keys(m.o.Images)) {
		if rapid.IntRange(0, 3).Draw(t, "image gone") == 0 {
			delete(m.o.Images, image)
		}
	}
}

func TestStepsAlwaysReachWhatIsDesired(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{o: Observed{Images: map[string]bool{}}, now: now}
		for i := range rapid.IntRange(1, 4).Draw(t, "changes") {
			ds := drawScore(t, fmt.Sprint(i, "-"))
			d, err := Compile(ds, Settings{Device: "pi"})
			if err != nil {
				t.Fatal(err)
			}
			disturb(t, m)
			m.settle(t, d)
			pod := m.o.Current(d)
			if pod == nil || len(m.o.Pods) != 1 || len(m.o.Strays) != 0 {
				t.Fatalf("want one whole pod and nothing else, have %+v", m.o)
			}
			for _, u := range d.Units {
				c := pod.Find(u)
				if u.Init {
					continue
				}
				if c == nil || c.State != StateRunning {
					t.Fatalf("%s does not run: %+v", u.Name, c)
				}
			}
			for _, c := range pod.Containers {
				if !wanted(d, c) {
					t.Fatalf("%+v is not wanted and still there", c)
				}
			}
			if again := Decide(d, m.o, Memory{Now: m.now}); len(again.Steps) != 0 {
				t.Fatalf("a second look wants %v", again.Steps)
			}
		}
		m.settle(t, nil)
		if len(m.o.Pods)+len(m.o.Strays) != 0 {
			t.Fatalf("left after removal: %+v", m.o)
		}
	})
}

func TestUnchangedContainersAreNeverTouched(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{o: Observed{Images: map[string]bool{}}, now: now}
		compile := func(label string) *Desired {
			d, err := Compile(drawScore(t, label), Settings{Device: "pi"})
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		from := compile("from-")
		m.settle(t, from)
		to := compile("to-")
		keep := map[string]string{}
		if to.PodHash == from.PodHash && to.HostNetwork == from.HostNetwork {
			for _, c := range m.o.Pods[0].Containers {
				if wanted(to, c) {
					keep[c.ID] = c.Unit
				}
			}
		}
		touched := m.settle(t, to)
		for id, unit := range keep {
			if touched[id] {
				t.Fatalf("%s (%s) did not change and was touched", unit, id)
			}
		}
	})
}

// What runs stays and what has ended comes back, whichever image can't be had and
// whatever somebody did to the device meanwhile.
func TestWithoutTheNewImageTheOldRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{o: Observed{Images: map[string]bool{}}, now: now}
		compile := func(label string, change func(*contracts.PodmanScore)) *Desired {
			ds := drawScore(t, label)
			if change != nil {
				change(ds.Score.Podman)
			}
			d, err := Compile(ds, Settings{Device: "pi"})
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		m.settle(t, compile("from-", nil))
		to := compile("to-", func(p *contracts.PodmanScore) { p.Containers[0].Image = "img:missing" })
		for i := range m.o.Pods {
			p := &m.o.Pods[i]
			if p.Infra != nil && rapid.Bool().Draw(t, "reboot") {
				p.Infra.State = StateExited
			}
			for j := range p.Containers {
				c := &p.Containers[j]
				if !c.Init {
					c.State = rapid.SampledFrom([]State{StateRunning, StateExited, StatePaused}).Draw(t, "state")
					c.Finished = m.now
				}
			}
		}
		before := len(m.o.Pods[0].Containers)
		m.settleFailing(t, to, func(s Step) bool { return s.Image == "img:missing" })
		if len(m.o.Pods) != 1 || len(m.o.Pods[0].Containers) < before {
			t.Fatalf("the old pod is not whole: %+v", m.o)
		}
		for _, c := range m.o.Pods[0].Containers {
			if !m.o.Pods[0].up() || !c.Init && c.State != StateRunning {
				t.Fatalf("%+v does not run in %+v", c, m.o)
			}
		}
	})
}

// A step that fails is waited for and holds up nothing that does not need it.
func TestAStepThatFailsIsNotTriedBeforeItsTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{o: Observed{Images: map[string]bool{}}, now: now}
		for i := range 3 {
			d, err := Compile(drawScore(t, fmt.Sprint(i, "-")), Settings{Device: "pi"})
			if err != nil {
				t.Fatal(err)
			}
			disturb(t, m)
			kind := rapid.SampledFrom([]Kind{Pull, CreatePod, StartInfra, Create, Start, Stop, Remove, RemovePod, Unpause}).Draw(t, "kind")
			m.settleFailing(t, d, func(s Step) bool { return s.Kind == kind })
		}
	})
}
