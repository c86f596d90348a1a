package machines

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nationtech/fleet/contracts"
)

// device does what steps say, as libvirt does, and knows what must not happen.
type device struct {
	t    *rapid.T
	want *Desired
	o    Observed
	runs int32
}

func (d *device) do(s Step, m Memory) {
	find := func() *Domain { return d.o.Find(d.want.Find(s.Machine).Domain) }
	switch s.Kind {
	case MakeNetwork:
		d.o.Networks[s.Network] = NetworkState{Active: true, Ours: true}
		m.Ensured[s.Network] = d.want.Network(s.Network).Hash
	case MakeVolume, MakeDisk, WriteSeed, Grow:
		bytes := int64(gib)
		for i := range d.want.Machines {
			for _, disk := range d.want.Machines[i].Disks {
				if disk.Volume == s.Volume && disk.Bytes > 0 {
					bytes = disk.Bytes
				}
			}
		}
		if s.Kind == Grow && find() != nil && find().Up() {
			d.t.Fatalf("%s while the machine runs", s)
		}
		d.o.Volumes[s.Volume] = bytes
	case Stop:
		if dom := find(); dom != nil {
			dom.State, dom.Ended, dom.Run = StateOff, EndShutdown, -1
			if !dom.Persistent {
				d.forget(dom.Name)
			}
		}
	case Define:
		w := d.want.Find(s.Machine)
		dom := find()
		if dom == nil {
			d.o.Domains = append(d.o.Domains, Domain{Name: w.Domain, Machine: s.Machine, UUID: fmt.Sprint("u", len(d.o.Domains), d.runs), Ours: true, State: StateOff, Run: -1})
			dom = find()
		}
		if !dom.Ours {
			d.t.Fatalf("%s: it is somebody else's", s)
		}
		dom.Persistent = true
		if !dom.Up() {
			dom.Made, dom.CPUs, dom.Memory = w.Made.String(), w.Spec.CPUs, w.Spec.MemoryBytes
		}
	case Start, Resume:
		dom := find()
		if dom == nil || !dom.Ours {
			d.t.Fatalf("%s: there is none of ours", s)
		}
		if dom.State == StateOff || dom.State == StateCrashed {
			d.runs++
			dom.Run = d.runs
		}
		dom.State, dom.Ended = StateRunning, EndUnknown
	case SetMemory:
		find().Memory = d.want.Find(s.Machine).Spec.MemoryBytes
	case SetCPUs:
		find().CPUs = d.want.Find(s.Machine).Spec.CPUs
	case Remove:
		if dom := d.o.Find(s.Domain); dom != nil && !dom.Ours {
			d.t.Fatalf("%s: it is somebody else's", s)
		}
		d.forget(s.Domain)
	case RemoveVolume:
		if !OfMachine(s.Volume) {
			d.t.Fatalf("%s: it has data", s)
		}
		delete(d.o.Volumes, s.Volume)
	case RemoveNetwork:
		if !d.o.Networks[s.Network].Ours {
			d.t.Fatalf("%s: it is somebody else's", s)
		}
		delete(d.o.Networks, s.Network)
	}
}

func (d *device) forget(domain string) {
	d.o.Domains = slices.DeleteFunc(d.o.Domains, func(dom Domain) bool { return dom.Name == domain })
}

// TestItEndsAsWanted: whatever somebody has done to a device, and whatever is wanted of it
// next, a few rounds lead there, data and what is foreign stay, a machine that is as it is
// wanted is not restarted, and then nothing is done any more.
func TestItEndsAsWanted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		anything := func(k *contracts.KVMScore) {
			k.Machines = nil
			for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 3, rapid.ID[string]).Draw(t, "machines") {
				m := contracts.Machine{
					Name: name, CPUs: rapid.IntRange(1, 3).Draw(t, "cpus"), MemoryBytes: int64(rapid.IntRange(1, 3).Draw(t, "memory")) * gib, StopSeconds: 1,
					Type: rapid.SampledFrom([]string{"", "pc"}).Draw(t, "type"),
				}
				m.MaxCPUs = rapid.SampledFrom([]int{0, m.CPUs, 4}).Draw(t, "maxCPUs")
				m.Disks = []contracts.Disk{{Name: "root", Image: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "image"), SizeBytes: 3 * gib}}
				if name == "a" {
					m.Disks = append(m.Disks, contracts.Disk{Name: "data", Volume: "data"})
				}
				if rapid.Bool().Draw(t, "in a network") {
					m.Interfaces = []contracts.MachineInterface{{Name: "n", Network: "inside"}}
				}
				k.Machines = append(k.Machines, m)
			}
			k.Networks[0].CIDR = rapid.SampledFrom([]string{"10.20.0.0/24", "10.30.0.0/24"}).Draw(t, "cidr")
		}
		was, want := compile(&failer{t: t}, anything), compile(&failer{t: t}, anything)
		dev := &device{t: t, want: want, o: running(was), runs: 10}
		dev.o.Images["x"], dev.o.Images["y"] = true, true
		dev.o.Volumes["fleet_pi_shop_data.qcow2"] = 5 * gib
		for i := range dev.o.Domains {
			harm(t, &dev.o.Domains[i])
		}
		if rapid.Bool().Draw(t, "the network is gone") {
			dev.o.Networks = map[string]NetworkState{}
		}
		dev.o.Domains = append(dev.o.Domains, Domain{Name: "somebody", State: StateRunning})
		runs := map[string]int32{}
		for i := range want.Machines {
			m := &want.Machines[i]
			if dom := dev.o.Find(m.Domain); dom != nil && dom.State == StateRunning && dom.Made == m.Made.String() && dom.CPUs <= m.Spec.CPUs &&
				(len(m.Interfaces) == 0 || len(dev.o.Networks) > 0) {
				runs[m.Domain] = dom.Run
			}
		}
		memory := ensured(was)
		for round := 0; ; round++ {
			memory.Now = memory.Now.Add(time.Hour) // no back-off lasts that long
			memory.Healthy = round > 5
			p := Decide(want, dev.o, memory)
			if p.Failure != nil {
				t.Fatalf("it fails: %v", p.Failure)
			}
			if len(p.Steps) == 0 && round > 6 {
				break
			}
			if round > 12 {
				t.Fatalf("it does not end: %s", said(p))
			}
			for _, s := range p.Steps {
				dev.do(s, memory)
			}
		}
		for i := range want.Machines {
			m := &want.Machines[i]
			dom := dev.o.Find(m.Domain)
			if dom == nil || dom.State != StateRunning || len(m.differs(dom.made())) > 0 || dom.CPUs != m.Spec.CPUs || dom.Memory != m.Spec.MemoryBytes || !dom.Persistent {
				t.Fatalf("machine %s is %+v, want %+v", m.Spec.Name, dom, m)
			}
			if run, ok := runs[m.Domain]; ok && run != dom.Run {
				t.Fatalf("machine %s was restarted for nothing", m.Spec.Name)
			}
		}
		if len(dev.o.Domains) != len(want.Machines)+1 || dev.o.Find("somebody") == nil {
			t.Fatalf("there are the machines %+v", dev.o.Domains)
		}
		for _, name := range slices.Sorted(maps.Keys(dev.o.Volumes)) {
			used := slices.ContainsFunc(want.Machines, func(m Machine) bool {
				return m.Seed == name || slices.ContainsFunc(m.Disks, func(d Disk) bool { return d.Volume == name })
			})
			if !used && !strings.HasSuffix(name, "_data.qcow2") {
				t.Fatalf("the volume %s is left", name)
			}
		}
		if _, there := dev.o.Volumes["fleet_pi_shop_data.qcow2"]; !there {
			t.Fatal("the data is gone")
		}
	})
}

// harm is what somebody does to a machine by hand.
func harm(t *rapid.T, d *Domain) {
	switch rapid.SampledFrom([]string{"nothing", "destroy", "shut down", "pause", "crash", "undefine", "more memory"}).Draw(t, "harm") {
	case "destroy":
		d.State, d.Ended, d.Run = StateOff, EndDestroyed, -1
	case "shut down":
		d.State, d.Ended, d.Run = StateOff, EndShutdown, -1
	case "pause":
		d.State = StatePaused
	case "crash":
		d.State, d.Ended, d.Run = StateOff, EndCrashed, -1
	case "undefine":
		d.Persistent = false
	case "more memory":
		d.Memory += gib
	}
}

// failer is what compile needs of a test.
type failer struct {
	testing.TB
	t *rapid.T
}

func (f *failer) Helper()           {}
func (f *failer) Fatal(args ...any) { f.t.Fatal(args...) }
