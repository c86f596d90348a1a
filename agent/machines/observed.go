package machines

// Observed is what libvirt has of one deployment.
type Observed struct {
	// Domains are the deployment's, and others that have the name of one that is wanted.
	Domains []Domain
	// Networks by their name in libvirt.
	Networks map[string]NetworkState
	// Volumes are the deployment's in the pool and how many bytes each can hold.
	Volumes map[string]int64
	// Images are the volumes of the pool that are wanted and there.
	Images map[string]bool
}

// Domain is a machine in libvirt.
type Domain struct {
	// Name in libvirt, Machine in the score.
	Name    string
	Machine string
	UUID    string
	// Ours tells that it is this deployment's on this device.
	Ours bool
	// Made is what it was made from, as it was written.
	Made  string
	State State
	// Ended is how it came to be off. A machine that libvirt has paused because of a disk
	// has crashed, as far as that goes.
	Ended End
	// Detail is libvirt's word for why it is in its state.
	Detail string
	CPUs   int
	Memory int64
	// Run is another number for each run; negative when it is off.
	Run int32
	// Persistent tells that libvirt knows it when it does not run.
	Persistent bool
}

// NetworkState is how a network stands in libvirt.
type NetworkState struct {
	Active bool
	// Ours tells that it is this deployment's on this device.
	Ours bool
}

// State is where a machine stands.
type State string

// States. Off goes to Running, Running to Paused and back, to Stopping, and to Off.
const (
	StateOff      State = "shut off"
	StateRunning  State = "running"
	StatePaused   State = "paused"
	StateStopping State = "in shutdown"
	StateCrashed  State = "crashed"
	// StateOther is whatever passes by itself, such as a guest that sleeps.
	StateOther State = "other"
)

// End is how a machine came to be off.
type End string

// Ends.
const (
	// EndUnknown is also that of a machine that has never run, and of one that a reboot
	// of the device ended.
	EndUnknown   End = ""
	EndDestroyed End = "destroyed"
	// EndShutdown is that the guest has shut down, on its own account or because
	// somebody asked it to: libvirt does not tell these apart.
	EndShutdown End = "shutdown"
	EndCrashed  End = "crashed"
)

// Find returns the domain of that name in libvirt, or nil.
func (o Observed) Find(name string) *Domain {
	for i := range o.Domains {
		if o.Domains[i].Name == name {
			return &o.Domains[i]
		}
	}
	return nil
}

// Up reports whether the machine has power.
func (d *Domain) Up() bool { return d.State != StateOff && d.State != StateCrashed }

// made is what it was made from; nothing for one that does not say.
func (d *Domain) made() Made {
	m, err := ParseMade(d.Made)
	if err != nil {
		return Made{}
	}
	return m
}
