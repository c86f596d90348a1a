package machines

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// Desired are machines as this device shall run them.
type Desired struct {
	Device     contracts.DeviceID
	Deployment contracts.DeploymentName
	Revision   string
	Digest     string
	// Deadline is how long the machines may take to get healthy; 0 is for ever.
	Deadline time.Duration
	Machines []Machine
	Networks []Network
	Volumes  []Volume
	// Sealed are the secrets, as they came; nil for none.
	Sealed *contracts.Sealed
}

// Machine is one wanted machine.
type Machine struct {
	Spec contracts.Machine
	// Domain is its name in libvirt.
	Domain string
	// Made is what it is made from.
	Made  Made
	Disks []Disk
	// Seed is the volume of what cloud-init reads, SeedHash of its content; empty for a
	// machine without.
	Seed, SeedHash string
	Interfaces     []Interface
	// Stop is the time from the request to shut down to the cut of its power.
	Stop time.Duration
}

// Disk is a disk of a machine.
type Disk struct {
	Name string
	// Volume is its name in the pool.
	Volume string
	// Image is the volume that it begins as; empty for one that outlives the machine.
	Image string
	// Bytes is 0 for the image's size.
	Bytes    int64
	ReadOnly bool
}

// Interface is an interface of a machine. One of Network, by its name in libvirt, and
// Bridge is set; MAC may be empty.
type Interface struct {
	Name, Network, Bridge, MAC string
}

// Network is a network that machines share.
type Network struct {
	Spec contracts.MachineNetwork
	// LibvirtName is its name in libvirt, and Hash of all that it is made from.
	LibvirtName string
	Hash        string
}

// Volume is a disk for data.
type Volume struct {
	Name string
	// Volume is its name in the pool.
	Volume string
	Bytes  int64
}

// hashFormat is part of every hash. Raising it restarts every machine of the fleet once,
// so it changes only when the same score has to become another machine.
const hashFormat = "1"

// Compile turns a score into what this device shall run.
func Compile(ds contracts.DesiredState, device contracts.DeviceID) (*Desired, error) {
	score := ds.Score.KVM
	if score == nil {
		return nil, fmt.Errorf("deployment %s, driver %q: %w", ds.Deployment, ds.Score.Driver(), reconcile.ErrNoDriver)
	}
	d := &Desired{
		Device: device, Deployment: ds.Deployment, Revision: ds.Revision, Digest: ds.Digest,
		Deadline: time.Duration(ds.DeadlineSeconds) * time.Second, Sealed: ds.Sealed,
	}
	prefix := Prefix(device, ds.Deployment)
	networks := map[string]Network{}
	for _, n := range score.Networks {
		network := Network{Spec: n, LibvirtName: name(prefix, n.Name, ""), Hash: hash("network", n)}
		networks[n.Name] = network
		if n.Mode != contracts.NetworkBridge { // which is there already
			d.Networks = append(d.Networks, network)
		}
	}
	volumes := map[string]Volume{}
	for _, v := range score.Volumes {
		volume := Volume{Name: v.Name, Volume: name(prefix, v.Name, ".qcow2"), Bytes: v.SizeBytes}
		volumes[v.Name] = volume
		d.Volumes = append(d.Volumes, volume)
	}
	for _, m := range score.Machines {
		d.Machines = append(d.Machines, machine(m, prefix, networks, volumes))
	}
	return d, nil
}

func machine(spec contracts.Machine, prefix string, networks map[string]Network, volumes map[string]Volume) Machine {
	m := Machine{Spec: spec, Domain: name(prefix, spec.Name, ""), Stop: time.Duration(spec.StopSeconds) * time.Second}
	for _, s := range spec.Disks {
		disk := Disk{Name: s.Name, Image: s.Image, Bytes: s.SizeBytes, ReadOnly: s.ReadOnly}
		if s.Volume != "" {
			disk.Volume, disk.Bytes = volumes[s.Volume].Volume, volumes[s.Volume].Bytes
		} else {
			// With the image in its name the disk of another image can be made while the
			// machine still runs with the old one, and go back to that.
			disk.Volume = partName(prefix, spec.Name, s.Name, hash("image", s.Image)[:8]+".qcow2")
		}
		m.Disks = append(m.Disks, disk)
	}
	var linked []any
	for _, s := range spec.Interfaces {
		i := Interface{Name: s.Name, Bridge: s.Bridge, MAC: s.MAC}
		if n, ok := networks[s.Network]; ok && s.Network != "" {
			linked = append(linked, n.Hash)
			if n.Spec.Mode == contracts.NetworkBridge {
				i.Bridge = n.Spec.Bridge
			} else {
				i.Network = n.LibvirtName
			}
		}
		m.Interfaces = append(m.Interfaces, i)
	}
	if c := spec.CloudInit; c != nil {
		// The first image is in it so that the guest of another one is set up too.
		m.SeedHash = hash("seed", c, firstImage(spec))[:10]
		m.Seed = partName(prefix, spec.Name, "seed", m.SeedHash+".iso")
	}
	m.Made = Made{
		Format: hashFormat, Stop: spec.StopSeconds,
		MaxCPUs: cmp.Or(spec.MaxCPUs, spec.CPUs), MaxMemory: cmp.Or(spec.MaxMemoryBytes, spec.MemoryBytes),
		Arch: spec.Arch, Type: spec.Type, Console: spec.Console, Seed: m.SeedHash,
		Disks: short(made(m.Disks)), Interfaces: short(m.Interfaces, linked),
	}
	return m
}

// made are disks without their size, which can be changed in place.
func made(disks []Disk) []Disk {
	var out []Disk
	for _, d := range disks {
		d.Bytes = 0
		out = append(out, d)
	}
	return out
}

func firstImage(spec contracts.Machine) string {
	for _, d := range spec.Disks {
		if d.Image != "" {
			return d.Image
		}
	}
	return ""
}

// Find returns the machine of that name in the score, or nil.
func (d *Desired) Find(name string) *Machine {
	for i := range d.Machines {
		if d.Machines[i].Spec.Name == name {
			return &d.Machines[i]
		}
	}
	return nil
}

// Network returns the network of that name in libvirt, or nil.
func (d *Desired) Network(libvirtName string) *Network {
	for i := range d.Networks {
		if d.Networks[i].LibvirtName == libvirtName {
			return &d.Networks[i]
		}
	}
	return nil
}

// images are the volumes of the pool that the machine needs, and that nobody here makes.
func (m *Machine) images() []string {
	var all []string
	for _, d := range m.Disks {
		if d.Image != "" {
			all = append(all, d.Image)
		}
	}
	return all
}

// Images are the volumes of the pool that the machines need, and that nobody here makes.
func (d *Desired) Images() []string {
	var all []string
	for i := range d.Machines {
		all = append(all, d.Machines[i].images()...)
	}
	return all
}

// short is enough of a hash to tell parts of one machine apart.
func short(parts ...any) string { return hash(parts...)[:10] }

// hash is over the JSON of its arguments, which has one form for one value: the types in
// it are structs.
func hash(parts ...any) string {
	h := sha256.New()
	h.Write([]byte(hashFormat))
	enc := json.NewEncoder(h)
	for _, p := range parts {
		if err := enc.Encode(p); err != nil {
			// Structs of strings and numbers are always encodable.
			panic(err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
