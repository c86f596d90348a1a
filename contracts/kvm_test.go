package contracts

import (
	"encoding/json"
	"strings"
	"testing"
)

func someMachines() DesiredState {
	d := someDesiredState()
	d.Score = ReconcileScore{KVM: &KVMScore{
		Networks: []MachineNetwork{{Name: "inside", Mode: NetworkNAT, CIDR: "10.20.0.0/24", DHCP: true}, {Name: "lan", Mode: NetworkBridge, Bridge: "br0"}},
		Volumes:  []MachineVolume{{Name: "data", SizeBytes: 1 << 30}},
		Machines: []Machine{{
			Name: "till", CPUs: 2, MaxCPUs: 4, MemoryBytes: 1 << 30, Arch: "x86_64", Type: "q35", Console: true, StopSeconds: 60,
			Disks:      []Disk{{Name: "root", Image: "debian-12.qcow2", SizeBytes: 20 << 30}, {Name: "data", Volume: "data"}},
			Interfaces: []MachineInterface{{Name: "net", Network: "inside", MAC: "52:54:00:00:00:01"}, {Name: "lan", Bridge: "br0"}},
			CloudInit:  &CloudInit{UserData: "#cloud-config\n", NetworkConfig: "version: 2\n"},
			Readiness:  &MachineProbe{TCP: &TCPProbe{Port: 22}, Timeout: 1, Period: 10, FailureThreshold: 3},
		}},
	}}
	d.Digest = d.Score.Digest()
	return d
}

func TestMachinesAreDecodedAsTheyWereEncoded(t *testing.T) {
	roundTrip(t, someMachines(), DecodeDesiredState)
	if driver := someMachines().Score.Driver(); driver != "kvm" {
		t.Errorf("the driver is %q", driver)
	}
}

func TestMachinesAreRefusedWithAClearError(t *testing.T) {
	first := func(change func(*Machine)) func(*KVMScore) {
		return func(k *KVMScore) { change(&k.Machines[0]) }
	}
	for name, tt := range map[string]struct {
		change func(*KVMScore)
		want   string
	}{
		"no machine":                         {func(k *KVMScore) { k.Machines = nil }, "score.kvm.machines is empty"},
		"more machines than there may be":    {func(k *KVMScore) { k.Machines = make([]Machine, 9) }, "9 entries"},
		"two machines of one name":           {func(k *KVMScore) { k.Machines = append(k.Machines, k.Machines[0]) }, `machine "till": it is there twice`},
		"a name that is none":                {first(func(m *Machine) { m.Name = "../x" }), "not a DNS label"},
		"no processor":                       {first(func(m *Machine) { m.CPUs = 0 }), "cpus and maxCPUs"},
		"fewer processors at most":           {first(func(m *Machine) { m.MaxCPUs = 1 }), "cpus and maxCPUs"},
		"no memory":                          {first(func(m *Machine) { m.MemoryBytes = 0 }), "memoryBytes"},
		"memory beyond every machine":        {first(func(m *Machine) { m.MemoryBytes = 1 << 62 }), "memoryBytes"},
		"an architecture that there is not":  {first(func(m *Machine) { m.Arch = "sparc" }), `field arch is "sparc"`},
		"a machine type with XML in it":      {first(func(m *Machine) { m.Type = "q35'/>" }), "field type"},
		"an image that leads out of a pool":  {first(func(m *Machine) { m.Disks[0].Image = "../../etc/shadow" }), "field image"},
		"an image and a volume":              {first(func(m *Machine) { m.Disks[0].Volume = "data" }), "exactly one of image and volume"},
		"a volume that there is not":         {first(func(m *Machine) { m.Disks[1].Volume = "other" }), `there is no volume "other"`},
		"a volume twice":                     {first(func(m *Machine) { m.Disks = append(m.Disks, Disk{Name: "again", Volume: "data"}) }), "another disk already"},
		"a volume of no size":                {func(k *KVMScore) { k.Volumes[0].SizeBytes = 0 }, "sizeBytes"},
		"a network that there is not":        {first(func(m *Machine) { m.Interfaces[0].Network = "other" }), `there is no network "other"`},
		"a network and a bridge":             {first(func(m *Machine) { m.Interfaces[0].Bridge = "br0" }), "exactly one of network and bridge"},
		"a MAC address of many":              {first(func(m *Machine) { m.Interfaces[0].MAC = "01:00:5e:00:00:01" }), "field mac"},
		"a bridge that is a path":            {first(func(m *Machine) { m.Interfaces[1].Bridge = "../br0" }), "field bridge"},
		"a range that is none":               {func(k *KVMScore) { k.Networks[0].CIDR = "10.20.0.0" }, "not a range of addresses"},
		"NAT without a range":                {func(k *KVMScore) { k.Networks[0].CIDR = "" }, "field cidr is missing"},
		"a mode that there is not":           {func(k *KVMScore) { k.Networks[0].Mode = "Routed" }, "field mode"},
		"addresses on a bridge":              {func(k *KVMScore) { k.Networks[1].CIDR = "10.0.0.0/8" }, "not of a network of mode Bridge"},
		"a probe of no kind":                 {first(func(m *Machine) { m.Readiness.TCP = nil }), "exactly one must be"},
		"user data that is secret and isn't": {first(func(m *Machine) { m.CloudInit.SecretUserData = &Secret{} }), "both set"},
	} {
		t.Run(name, func(t *testing.T) {
			d := someMachines()
			tt.change(d.Score.KVM)
			data, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := DecodeDesiredState(data); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want it to contain %q", err, tt.want)
			}
		})
	}
}

func TestSecretUserDataHasToBeSealed(t *testing.T) {
	d := someMachines()
	d.Score.KVM.Machines[0].CloudInit = &CloudInit{SecretUserData: &Secret{Name: "s/user-data", Digest: strings.Repeat("0", 32)}}
	if got := d.Score.Secrets(); len(got) != 1 || got[0].Name != "s/user-data" {
		t.Fatalf("the score needs %v", got)
	}
	if _, err := Encode(d); err == nil || !strings.Contains(err.Error(), "none are sealed") {
		t.Errorf("error = %v", err)
	}
}
