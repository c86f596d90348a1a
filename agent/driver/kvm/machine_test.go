package kvm_test

import (
	"slices"
	"strings"
	"testing"

	rpc "github.com/digitalocean/go-libvirt"

	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/test/guest/tiny"
)

// Names in libvirt of what the scores below make.
const (
	domain = "fleet_till-1_shop_till"
	data   = "fleet_till-1_shop_data.qcow2"
)

// till is a score of one machine in a network of its own.
func till(cidr string, change ...func(*contracts.Machine)) contracts.KVMScore {
	m := contracts.Machine{
		Name: "till", CPUs: 1, MaxCPUs: 2, MemoryBytes: 128 * mib, MaxMemoryBytes: 256 * mib, Console: true, StopSeconds: 30,
		Disks:      []contracts.Disk{{Name: "root", Image: image}, {Name: "data", Volume: "data"}},
		Interfaces: []contracts.MachineInterface{{Name: "net", Network: "inside"}},
		CloudInit:  &contracts.CloudInit{UserData: "#cloud-config\nhello: there\n"},
		Readiness:  &contracts.MachineProbe{HTTP: &contracts.HTTPProbe{Path: "/", Port: tiny.Port}, Timeout: 2, Period: 1, FailureThreshold: 3},
	}
	for _, c := range change {
		c(&m)
	}
	return contracts.KVMScore{
		Machines: []contracts.Machine{m},
		Networks: []contracts.MachineNetwork{{Name: "inside", Mode: contracts.NetworkNAT, CIDR: cidr, DHCP: true}},
		Volumes:  []contracts.MachineVolume{{Name: "data", SizeBytes: 64 * mib}},
	}
}

// bare is a score of machines without disks, which get no further than their firmware.
func bare(names ...string) contracts.KVMScore {
	var k contracts.KVMScore
	for _, n := range names {
		k.Machines = append(k.Machines, contracts.Machine{Name: n, CPUs: 1, MemoryBytes: 64 * mib})
	}
	return k
}

func TestAMachineIsLookedAfter(t *testing.T) {
	w := newWorld(t, "")
	w.upload(image)
	w.foreign("somebody")
	const cidr = "10.248.1.0/24"
	revision := w.tell(till(cidr))
	s := w.running(revision)
	if len(s.Containers) != 1 || s.Containers[0].Name != "till" || !s.Containers[0].Ready || s.Containers[0].Image != image || s.Drifts != 0 {
		t.Errorf("the report is %+v", s)
	}
	said := w.hello(domain)
	if !strings.HasPrefix(said.InstanceID, "fleet-till-1-shop-till-") || !strings.Contains(said.UserData, "hello: there") || said.Boots["vdb"] != 1 {
		t.Errorf("the guest was set up as %+v", said)
	}
	first := w.machine(domain)

	t.Run("destroyed by hand it starts again and counts as drift", func(t *testing.T) {
		w := w.in(t)
		w.byHand(domain, func(c *rpc.Libvirt, d rpc.Domain) error { return c.DomainDestroy(d) })
		s := w.await("drift", func(s contracts.DeploymentState) bool { return s.Drifts == 1 && s.Phase == contracts.PhaseRunning })
		if now := w.machine(domain); now.ID == first.ID || now.UUID != first.UUID || s.Restarts != 0 {
			t.Errorf("it was %+v and is %+v, after %d restarts", first, now, s.Restarts)
		}
		if boots := w.hello(domain).Boots["vdb"]; boots != 2 {
			t.Errorf("its data has seen %d boots, want 2", boots)
		}
	})
	t.Run("memory and processors within their most change while it runs", func(t *testing.T) {
		w := w.in(t)
		before := w.machine(domain)
		w.running(w.tell(till(cidr, func(m *contracts.Machine) { m.MemoryBytes, m.CPUs = 192*mib, 2 })))
		w.eventually("memory and processors", func() bool {
			now := w.machine(domain)
			return now.MemoryBytes == 192*mib && now.CPUs == 2
		})
		if now := w.machine(domain); now.ID != before.ID {
			t.Error("it was restarted")
		}
	})
	t.Run("what it can't take while it runs restarts it and says why", func(t *testing.T) {
		w := w.in(t)
		before, boots := w.machine(domain), w.hello(domain).Boots["vdb"]
		revision := w.tell(till(cidr, func(m *contracts.Machine) { m.MemoryBytes, m.MaxMemoryBytes = 320*mib, 320*mib }))
		w.running(revision)
		if now := w.machine(domain); now.ID == before.ID || now.MemoryBytes != 320*mib || now.CPUs != 1 {
			t.Errorf("it was %+v and is %+v", before, now)
		}
		if said := w.hello(domain); said.Boots["vdb"] != boots+1 || said.MemoryKiB < 256<<10 {
			t.Errorf("the guest is %+v", said)
		}
		s, ok := w.saw(revision, contracts.PhaseApplying, "Restarting")
		if want := "machine till restarts to change: maxMemory 256Mi → 320Mi, cpus 2 → 1"; !ok || s.Message != want {
			t.Errorf("it was said that %q, want %q", s.Message, want)
		}
	})
	t.Run("a restart on command is no drift", func(t *testing.T) {
		w := w.in(t)
		before, boots := w.now().Drifts, w.hello(domain).Boots["vdb"]
		names, err := w.worker.Restart(t.Context(), "till")
		must(t, err)
		w.await("restarted", func(s contracts.DeploymentState) bool { return s.Phase == contracts.PhaseRunning })
		if !slices.Equal(names, []string{"till"}) || w.hello(domain).Boots["vdb"] != boots+1 || w.now().Drifts != before {
			t.Errorf("restarted %v, with %d boots and %d drifts", names, w.hello(domain).Boots["vdb"], w.now().Drifts)
		}
	})
	t.Run("its console can be read", func(t *testing.T) {
		w := w.in(t)
		all, err := w.driver.Machines(t.Context(), name)
		must(t, err)
		var out strings.Builder
		lines := int64(5)
		must(t, w.driver.StreamConsole(t.Context(), all["till"], &lines, false, &out))
		if n := strings.Count(strings.TrimSuffix(out.String(), "\n"), "\n"); strings.TrimSpace(out.String()) == "" || n > 4 {
			t.Errorf("the last lines are %q", out.String())
		}
	})
	t.Run("undefined while it runs it is defined and runs on", func(t *testing.T) {
		w := w.in(t)
		before := w.machine(domain)
		w.byHand(domain, func(c *rpc.Libvirt, d rpc.Domain) error { return c.DomainUndefine(d) })
		w.eventually("it is defined", func() bool { return w.machine(domain).Persistent })
		if now := w.machine(domain); now.ID != before.ID {
			t.Error("it was restarted")
		}
	})
	t.Run("its network gone, that is made and the machine put into it", func(t *testing.T) {
		w := w.in(t)
		stranger := w.daemon.Stranger(t)
		n, err := stranger.NetworkLookupByName("fleet_till-1_shop_inside")
		must(t, err)
		must(t, stranger.NetworkDestroy(n))
		w.worker.Look() // of networks libvirt tells nobody of machines
		w.eventually("its network is there", func() bool {
			list, err := w.conn.Networks(t.Context())
			return err == nil && slices.ContainsFunc(list, func(s libvirt.NetworkStatus) bool { return s.Name == n.Name && s.Active })
		})
		w.await("running", func(s contracts.DeploymentState) bool { return s.Phase == contracts.PhaseRunning })
		w.eventually("it answers", func() bool { _, err := w.ask(domain); return err == nil })
	})

	w.removed()
	if all := w.domains(); !slices.Equal(all, []string{"somebody"}) {
		t.Errorf("the machines %v are left, want somebody's alone", all)
	}
	all := w.volumes()
	slices.Sort(all)
	if !slices.Equal(all, []string{data, image}) {
		t.Errorf("the volumes %v are left, want data and image", all)
	}
	networks, err := w.conn.Networks(t.Context())
	must(t, err)
	if slices.ContainsFunc(networks, func(s libvirt.NetworkStatus) bool { return strings.HasPrefix(s.Name, "fleet_") }) {
		t.Errorf("the networks %v are left", networks)
	}
}

func TestLibvirtdIsRestartedInTheMiddle(t *testing.T) {
	w := newWorld(t, "")
	w.upload(image)
	score := till("10.248.2.0/24")
	revision := w.tell(score)
	w.running(revision)
	before, boot := w.machine(domain), w.hello(domain).BootID
	at, err := w.driver.Address(t.Context(), domain)
	must(t, err)

	w.daemon.Kill(t)
	s := w.failed(revision, "DriverNotAvailable")
	if !strings.Contains(s.Message, "libvirt does not answer at "+w.daemon.URI().String()) {
		t.Errorf("it is said that %q", s.Message)
	}
	w.eventually("the machine answers without libvirtd", func() bool { said, err := askAt(t.Context(), at.Host); return err == nil && said.BootID == boot })

	w.daemon.Restart(t)
	w.conn = w.daemon.Dial(t)
	w.running(revision)
	if now := w.machine(domain); now.ID != before.ID || w.hello(domain).BootID != boot || w.now().Drifts != 0 {
		t.Errorf("it was %+v and is %+v, with %d drifts", before, now, w.now().Drifts)
	}

	// Neither does another agent restart it, nor a revision that leaves it alone.
	w.stop()
	w.run()
	score.Machines[0].Readiness.Period = 2
	w.running(w.tell(score))
	if now := w.machine(domain); now.ID != before.ID || w.hello(domain).BootID != boot {
		t.Errorf("it was %+v and is %+v", before, now)
	}
}

func TestMachinesChange(t *testing.T) {
	w := newWorld(t, "")
	w.running(w.tell(bare("a", "b")))
	b := w.machine("fleet_till-1_shop_b")
	w.running(w.tell(bare("b", "c")))
	w.eventually("the machine that is wanted no more is gone", func() bool { return !slices.Contains(w.domains(), "fleet_till-1_shop_a") })
	if now := w.machine("fleet_till-1_shop_b"); now.ID != b.ID {
		t.Errorf("a machine that stays was restarted: %+v", now)
	}
	// A guest without an operating system hears nothing: after its grace its power is cut.
	w.removed()
	if all := w.domains(); len(all) != 0 {
		t.Errorf("the machines %v are left", all)
	}
}
