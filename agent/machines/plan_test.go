package machines

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const gib = 1 << 30

func score(change ...func(*contracts.KVMScore)) contracts.DesiredState {
	k := &contracts.KVMScore{
		Networks: []contracts.MachineNetwork{{Name: "inside", Mode: contracts.NetworkNAT, CIDR: "10.20.0.0/24", DHCP: true}},
		Volumes:  []contracts.MachineVolume{{Name: "data", SizeBytes: 5 * gib}},
		Machines: []contracts.Machine{{
			Name: "till", CPUs: 2, MemoryBytes: gib, Console: true, StopSeconds: 60,
			Disks:      []contracts.Disk{{Name: "root", Image: "debian-12.qcow2", SizeBytes: 20 * gib}, {Name: "data", Volume: "data"}},
			Interfaces: []contracts.MachineInterface{{Name: "net", Network: "inside"}},
			CloudInit:  &contracts.CloudInit{UserData: "#cloud-config\n"},
		}},
	}
	for _, c := range change {
		c(k)
	}
	s := contracts.ReconcileScore{KVM: k}
	return contracts.DesiredState{Deployment: "shop", Revision: "shop-1", Digest: s.Digest(), Score: s}
}

func compile(t testing.TB, change ...func(*contracts.KVMScore)) *Desired {
	t.Helper()
	d, err := Compile(score(change...), "pi")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// running is the device after everything desired was done.
func running(d *Desired) Observed {
	o := Observed{Networks: map[string]NetworkState{}, Volumes: map[string]int64{}, Images: map[string]bool{}}
	for _, n := range d.Networks {
		o.Networks[n.LibvirtName] = NetworkState{Active: true, Ours: true}
	}
	for _, v := range d.Volumes {
		o.Volumes[v.Volume] = v.Bytes
	}
	for _, image := range d.Images() {
		o.Images[image] = true
	}
	for i := range d.Machines {
		m := &d.Machines[i]
		for _, disk := range m.Disks {
			o.Volumes[disk.Volume] = max(disk.Bytes, gib)
		}
		if m.Seed != "" {
			o.Volumes[m.Seed] = 1 << 20
		}
		o.Domains = append(o.Domains, Domain{
			Name: m.Domain, Machine: m.Spec.Name, UUID: "uuid-" + m.Spec.Name, Ours: true, Made: m.Made.String(), State: StateRunning,
			CPUs: m.Spec.CPUs, Memory: m.Spec.MemoryBytes, Run: 1, Persistent: true,
		})
	}
	return o
}

// empty is a device with the images and nothing else.
func empty(d *Desired) Observed {
	o := running(d)
	return Observed{Networks: map[string]NetworkState{}, Volumes: map[string]int64{}, Images: o.Images}
}

// ensured is the memory of an agent that has made the networks.
func ensured(d *Desired) Memory {
	m := Memory{Now: now, Ensured: map[string]string{}, Sized: map[string]Size{}}
	if d == nil {
		return m
	}
	for _, n := range d.Networks {
		m.Ensured[n.LibvirtName] = n.Hash
	}
	return m
}

func first(change func(*contracts.Machine)) func(*contracts.KVMScore) {
	return func(k *contracts.KVMScore) { change(&k.Machines[0]) }
}

func dom(change func(*Domain)) func(Observed) Observed {
	return func(o Observed) Observed { change(&o.Domains[0]); return o }
}

func off(end End) func(Observed) Observed {
	return dom(func(d *Domain) { d.State, d.Ended, d.Run = StateOff, end, -1 })
}

func said(p Plan) string {
	var all []string
	for _, s := range p.Steps {
		text := s.String()
		if s.Why != "" {
			text += " " + s.Why
		}
		all = append(all, text)
	}
	// Hashes in names say nothing to a reader.
	text := strings.ReplaceAll(strings.Join(all, ", "), "fleet_pi_shop_", "")
	for _, image := range []string{"debian-12.qcow2", "debian-13.qcow2"} {
		text = strings.ReplaceAll(text, hash("image", image)[:8]+".qcow2", image)
	}
	return text
}

func TestDecide(t *testing.T) {
	const disks = "make disk till_root_debian-12.qcow2, make volume data.qcow2, write seed SEED"
	image := first(func(m *contracts.Machine) { m.Disks[0].Image = "debian-13.qcow2" })
	memory := func(bytes int64) func(*contracts.KVMScore) {
		return first(func(m *contracts.Machine) { m.MemoryBytes = bytes })
	}
	second := func(k *contracts.KVMScore) {
		k.Machines = append(k.Machines, contracts.Machine{Name: "kiosk", CPUs: 1, MemoryBytes: gib, StopSeconds: 60})
	}
	withImages := func(names ...string) func(Observed) Observed {
		return func(o Observed) Observed {
			for _, name := range names {
				o.Images[name] = true
			}
			return o
		}
	}
	tests := map[string]struct {
		before []func(*contracts.KVMScore) // what runs
		empty  bool
		change func(Observed) Observed
		want   []func(*contracts.KVMScore)
		gone   bool
		memory func(*Memory)
		steps  string
		fails  string
		reason string
		held   string
		wake   time.Duration
	}{
		"nothing changed, nothing is done":            {},
		"an empty device is made from network to run": {empty: true, steps: "make network inside, " + disks + ", define till, start till"},
		"an agent that has just begun makes sure of networks once": {memory: func(m *Memory) { m.Ensured = nil },
			steps: "make network inside"},
		"more memory within its most is given live": {before: list(first(func(m *contracts.Machine) { m.MaxMemoryBytes = 4 * gib })),
			want: list(first(func(m *contracts.Machine) { m.MemoryBytes, m.MaxMemoryBytes = 2*gib, 4*gib })), steps: "set memory till"},
		"less memory is taken live": {want: list(memory(gib / 2)), steps: "set memory till"},
		"memory that was asked for before is not asked for again": {want: list(memory(gib / 2)),
			memory: func(m *Memory) { m.Sized["till"] = Size{2, gib / 2} }},
		"more memory than its most restarts": {want: list(memory(2 * gib)), steps: "stop till to change: memory 1Gi → 2Gi, define till, start till"},
		"memory that libvirt refuses to change live restarts": {want: list(memory(gib / 2)),
			memory: func(m *Memory) {
				key := Step{Kind: SetMemory, Machine: "till"}.Key()
				m.Failed, m.Refused = map[string]time.Time{key: now.Add(time.Minute)}, map[string]bool{key: true}
			},
			steps: "stop till to change: memory 1Gi → 512Mi, define till, start till"},
		"memory that could not be changed because libvirt was away waits": {want: list(memory(gib / 2)),
			memory: func(m *Memory) {
				m.Failed = map[string]time.Time{Step{Kind: SetMemory, Machine: "till"}.Key(): now.Add(time.Minute)}
			},
			held: Step{Kind: SetMemory, Machine: "till"}.Key(), wake: time.Minute},
		"more processors within their most are given live": {before: list(first(func(m *contracts.Machine) { m.MaxCPUs = 4 })),
			want: list(first(func(m *contracts.Machine) { m.CPUs, m.MaxCPUs = 3, 4 })), steps: "set cpus till"},
		"fewer processors restart": {want: list(first(func(m *contracts.Machine) { m.CPUs = 1 })), steps: "stop till to change: cpus 2 → 1, define till, start till"},
		"more processors than their most restart": {want: list(first(func(m *contracts.Machine) { m.CPUs = 3 })),
			steps: "stop till to change: cpus 2 → 3, define till, start till"},
		"a changed machine type restarts and says from what": {want: list(first(func(m *contracts.Machine) { m.Type = "pc" })),
			steps: "stop till to change: machineType the device's own → pc, define till, start till"},
		"another image makes its disk before anything ends": {want: list(image), change: withImages("debian-13.qcow2"),
			steps: "make disk till_root_debian-13.qcow2, write seed SEED, stop till to change: disks, cloudInit, define till, start till"},
		"another image that is not there touches nothing": {want: list(image), change: func(o Observed) Observed { delete(o.Images, "debian-13.qcow2"); return o },
			fails: "has no volume debian-13.qcow2", reason: ReasonImageNotFound},
		"a larger disk grows while the machine is off": {want: list(first(func(m *contracts.Machine) { m.Disks[0].SizeBytes = 30 * gib })),
			steps: "stop till to change: the size of disk root, grow till_root_debian-12.qcow2, define till, start till"},
		"a smaller disk is refused and nothing is touched": {want: list(first(func(m *contracts.Machine) { m.Disks[0].SizeBytes = 10 * gib })),
			fails: "can't shrink to 10Gi", reason: reconcile.ReasonVolume},
		"changed user data is another seed": {want: list(first(func(m *contracts.Machine) { m.CloudInit.UserData = "#cloud-config\nhostname: x\n" })),
			steps: "write seed SEED, stop till to change: cloudInit, define till, start till"},
		"a changed network is made before its machine restarts": {want: list(func(k *contracts.KVMScore) { k.Networks[0].CIDR = "10.30.0.0/24" }),
			steps: "make network inside, stop till to change: interfaces, define till, start till"},
		"a changed probe changes nothing":         {want: list(first(func(m *contracts.Machine) { m.Readiness = &contracts.MachineProbe{GuestAgent: true} }))},
		"a changed grace period changes nothing":  {want: list(first(func(m *contracts.Machine) { m.StopSeconds = 5 }))},
		"an added machine leaves the other alone": {want: list(second), steps: "define kiosk, start kiosk"},
		"a removed machine goes":                  {before: list(second), steps: "remove kiosk"},
		"a machine of which nobody knows what it is made from is made anew": {change: dom(func(d *Domain) { d.Made = "something" }),
			steps: "stop till to change: what the agent makes machines from, define till, start till"},

		"one that was destroyed starts at once":      {change: off(EndDestroyed), steps: "start till"},
		"one that a reboot ended starts at once":     {change: off(EndUnknown), steps: "start till"},
		"one that shut down starts at once at first": {change: off(EndShutdown), steps: "start till"},
		"one that shuts down again and again waits": {change: off(EndShutdown), wake: 10 * time.Second,
			memory: backoff(1)},
		"one that crashed starts at once at first": {change: off(EndCrashed), steps: "start till"},
		"one that crashes again and again waits":   {change: off(EndCrashed), wake: 5 * time.Minute, memory: backoff(20)},
		"one that was destroyed does not wait":     {change: off(EndDestroyed), steps: "start till", memory: backoff(20)},
		"one that has just ended is left alone for a moment": {change: off(EndCrashed), wake: settle,
			memory: func(m *Memory) { m.Ended = map[string]time.Time{"uuid-till": now} }},
		"one that is paused runs on": {change: dom(func(d *Domain) { d.State = StatePaused }), steps: "resume till"},
		"one that is paused for its disk runs on in its back-off": {change: dom(func(d *Domain) { d.State, d.Ended = StatePaused, EndCrashed }), wake: 10 * time.Second,
			memory: backoff(1)},
		"one that is shutting down is awaited":              {change: dom(func(d *Domain) { d.State = StateStopping }), wake: passing},
		"one that was undefined is made from what there is": {change: func(o Observed) Observed { o.Domains = nil; return o }, steps: "define till, start till"},
		"one that was undefined while it runs is defined":   {change: dom(func(d *Domain) { d.Persistent = false }), steps: "define till"},
		"a network that is gone is made, and its machine put into it": {change: func(o Observed) Observed { delete(o.Networks, "fleet_pi_shop_inside"); return o },
			steps: "make network inside, stop till to be in network inside again, define till, start till"},
		"a network that a reboot ended is made before its machine starts": {change: func(o Observed) Observed {
			o.Networks["fleet_pi_shop_inside"] = NetworkState{Ours: true}
			return off(EndUnknown)(o)
		}, steps: "make network inside, start till"},
		"a foreign machine of the name is left alone": {change: dom(func(d *Domain) { d.Ours = false }), fails: "has not made; it is left alone", reason: ReasonNameTaken},
		"a foreign network of the name is left alone": {change: func(o Observed) Observed {
			o.Networks["fleet_pi_shop_inside"] = NetworkState{Active: true}
			return o
		}, fails: "network inside: libvirt has a network fleet_pi_shop_inside", reason: ReasonNameTaken},
		"with an image missing what runs no longer is started as it was": {want: list(image),
			change: func(o Observed) Observed { delete(o.Images, "debian-13.qcow2"); return off(EndUnknown)(o) },
			steps:  "start till", fails: "debian-13.qcow2", reason: ReasonImageNotFound},
		"what can't be replaced is not removed": {before: list(second), want: list(image), change: func(o Observed) Observed { delete(o.Images, "debian-13.qcow2"); return o },
			fails: "debian-13.qcow2", reason: ReasonImageNotFound},

		"a disk that can't be made holds its machine up, and no other": {empty: true, want: list(second), memory: held(Step{Kind: MakeVolume, Volume: "fleet_pi_shop_data.qcow2"}),
			steps: "make network inside, make disk till_root_debian-12.qcow2, define kiosk, start kiosk",
			held:  Step{Kind: MakeVolume, Volume: "fleet_pi_shop_data.qcow2"}.Key(), wake: time.Minute},
		"a definition that fails does not end what runs": {want: list(first(func(m *contracts.Machine) { m.Type = "pc" })), memory: held(Step{Kind: Define, Machine: "till"}),
			held: Step{Kind: Define, Machine: "till"}.Key(), wake: time.Minute},
		"a definition that fails has what was there run on": {want: list(first(func(m *contracts.Machine) { m.Type = "pc" })), change: off(EndShutdown),
			memory: held(Step{Kind: Define, Machine: "till"}), steps: "start till",
			held: Step{Kind: Define, Machine: "till"}.Key(), wake: time.Minute},
		"a start that failed waits": {change: off(EndUnknown), memory: held(Step{Kind: Start, Machine: "till"}),
			held: Step{Kind: Start, Machine: "till"}.Key(), wake: time.Minute},

		"what was replaced goes once what is new is healthy": {change: func(o Observed) Observed {
			o.Volumes["fleet_pi_shop_till_root_0123abcd.qcow2"], o.Volumes["fleet_pi_shop_till_seed_0123456789.iso"] = gib, 1
			o.Networks["fleet_pi_shop_old"] = NetworkState{Ours: true, Active: true}
			return o
		}, memory: func(m *Memory) { m.Healthy = true },
			steps: "remove volume till_root_0123abcd.qcow2, remove volume till_seed_0123456789.iso, remove network old"},
		"what was replaced stays until then": {change: func(o Observed) Observed { o.Volumes["fleet_pi_shop_till_root_0123abcd.qcow2"] = gib; return o }},
		"a volume for data stays though nothing uses it": {change: func(o Observed) Observed { o.Volumes["fleet_pi_shop_archive.qcow2"] = gib; return o },
			memory: func(m *Memory) { m.Healthy = true }},
		"a foreign network stays": {change: func(o Observed) Observed { o.Networks["fleet_pi_shop_x"] = NetworkState{Active: true}; return o },
			memory: func(m *Memory) { m.Healthy = true }},

		"a removed deployment ends its machines first":        {gone: true, steps: "remove till"},
		"then goes what they were made of, but data":          {gone: true, change: func(o Observed) Observed { o.Domains = nil; return o }, steps: "remove volume till_root_debian-12.qcow2, remove volume SEED, remove network inside"},
		"a removed deployment leaves a foreign machine alone": {gone: true, change: func(o Observed) Observed { o.Domains[0].Ours = false; o.Volumes, o.Networks = nil, nil; return o }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			was := compile(t, tt.before...)
			var d *Desired
			if !tt.gone {
				d = compile(t, tt.want...)
			}
			o := running(was)
			if tt.empty {
				o = empty(d)
			}
			if tt.change != nil {
				o = tt.change(o)
			}
			m := ensured(was)
			if tt.memory != nil {
				tt.memory(&m)
			}
			p := Decide(d, o, m)
			got := said(p)
			for _, one := range []*Desired{was, d} {
				if one != nil {
					got = strings.ReplaceAll(got, strings.TrimPrefix(one.Machines[0].Seed, "fleet_pi_shop_"), "SEED")
				}
			}
			if diff := cmp.Diff(tt.steps, got); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			switch {
			case tt.fails == "" && p.Failure != nil:
				t.Errorf("it fails: %v", p.Failure)
			case tt.fails != "" && (p.Failure == nil || !strings.Contains(p.Failure.Message, tt.fails) || p.Failure.Reason != tt.reason):
				t.Errorf("the failure is %+v, want %s %q", p.Failure, tt.reason, tt.fails)
			}
			if p.Held != tt.held {
				t.Errorf("held is %q, want %q", p.Held, tt.held)
			}
			if want := now.Add(tt.wake); tt.wake != 0 && !p.Wake.Equal(want) || tt.wake == 0 && !p.Wake.IsZero() {
				t.Errorf("wakes at %s, want %s after %s", p.Wake, tt.wake, now)
			}
		})
	}
}

func list[T any](all ...T) []T { return all }

func held(s Step) func(*Memory) {
	return func(m *Memory) { m.Failed = map[string]time.Time{s.Key(): now.Add(time.Minute)} }
}

// backoff is of a machine that has ended just before, so many times.
func backoff(restarts int) func(*Memory) {
	return func(m *Memory) {
		m.Backoff = map[string]reconcile.Backoff{"uuid-till": {Restarts: restarts}}
	}
}

func TestDrift(t *testing.T) {
	d := compile(t)
	for name, tt := range map[string]struct {
		change func(Observed) Observed
		memory func(*Memory)
		want   bool
	}{
		"nothing":                                {},
		"a machine that somebody destroyed":      {change: off(EndDestroyed), want: true},
		"a machine that was shut down":           {change: off(EndShutdown), want: true},
		"a machine that crashed":                 {change: off(EndCrashed)},
		"a machine that somebody paused":         {change: dom(func(d *Domain) { d.State = StatePaused }), want: true},
		"a machine that somebody undefined":      {change: func(o Observed) Observed { o.Domains = nil; return o }, want: true},
		"a network that somebody removed":        {change: func(o Observed) Observed { o.Networks = nil; return o }, want: true},
		"a network that the agent makes sure of": {memory: func(m *Memory) { m.Ensured = nil }},
		"a disk that nobody needs any longer":    {change: func(o Observed) Observed { o.Volumes["fleet_pi_shop_till_root_0123abcd.qcow2"] = 1; return o }, memory: func(m *Memory) { m.Healthy = true }},
		"memory that a guest has not given back": {change: dom(func(d *Domain) { d.Memory++ })},
	} {
		t.Run(name, func(t *testing.T) {
			o := running(d)
			if tt.change != nil {
				o = tt.change(o)
			}
			m := ensured(d)
			if tt.memory != nil {
				tt.memory(&m)
			}
			if p := Decide(d, o, m); p.Drift() != tt.want {
				t.Errorf("%s counts as drift: %v, want %v", said(p), p.Drift(), tt.want)
			}
		})
	}
}

func TestWithdrawTakesWhatIsRefusedAndNothingElse(t *testing.T) {
	d := compile(t, func(k *contracts.KVMScore) {
		k.Machines = append(k.Machines, contracts.Machine{Name: "kiosk", CPUs: 1, MemoryBytes: gib})
	})
	till := func(name string) bool { return name == "till" }
	if steps := Withdraw(d, running(d), till); len(steps) != 1 || steps[0].Kind != Remove || steps[0].Domain != "fleet_pi_shop_till" {
		t.Errorf("the steps are %v", steps)
	}
	other := compile(t, first(func(m *contracts.Machine) { m.Type = "pc" }))
	if steps := Withdraw(d, running(other), till); len(steps) != 0 {
		t.Errorf("what was made from another score goes: %v", steps)
	}
}
