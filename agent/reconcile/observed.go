package reconcile

import (
	"fmt"
	"net"
	"strconv"
	"time"
)

// Observed is what the runtime has of one deployment.
type Observed struct {
	Pods []Pod
	// Strays carry the deployment's label and are in no pod.
	Strays []Container
	// Images tells which of the wanted images are on the device.
	Images map[string]bool
}

// Pod is a pod in the runtime.
type Pod struct {
	ID   string
	Name string
	Hash string
	// Infra is the container that holds the pod's network; nil for a pod on the
	// device's own.
	Infra      *Container
	Containers []Container
	// IP of the pod, empty when it has none of its own.
	IP string
}

// Container is a container in the runtime.
type Container struct {
	ID string
	// Name in the runtime, and Unit in the score.
	Name     string
	Unit     string
	Hash     string
	Init     bool
	Image    string
	State    State
	ExitCode int32
	// PID on the device, which tells one run from the next.
	PID int
	// Started and Finished are of the last run; zero when there was none.
	Started, Finished time.Time
}

// State is where a container stands.
type State string

// States. Created goes to Running, Running to Paused and back and to Exited,
// Exited to Running. Broken is whatever can only be removed.
const (
	StateCreated State = "created"
	StateRunning State = "running"
	StatePaused  State = "paused"
	StateExited  State = "exited"
	StateBroken  State = "broken"
)

// Address is where a pod's ports are reached from the device.
type Address struct {
	// Host has every port, under its own number. It is empty for a pod whose network
	// nobody outside of it reaches.
	Host string
	// Mapped are the host:port of those that are mapped to the device.
	Mapped map[int32]string
}

// Of is the host:port of one port.
func (a Address) Of(port int32) (string, error) {
	if a.Host != "" {
		return net.JoinHostPort(a.Host, strconv.Itoa(int(port))), nil
	}
	if at, ok := a.Mapped[port]; ok {
		return at, nil
	}
	return "", fmt.Errorf("port %d of the pod is not mapped to the device, and rootless podman has no other way to it", port)
}

// Current is the pod that is the wanted one and whole, or nil.
func (o Observed) Current(d *Desired) *Pod {
	for i := range o.Pods {
		p := &o.Pods[i]
		if p.Name == d.PodName && p.Hash == d.PodHash && p.whole(d.HostNetwork) {
			return p
		}
	}
	return nil
}

// whole reports whether the pod's network is there or can still come. When the
// infra container has ended, its network namespace is gone, and what runs in the
// pod is cut off: then only a new pod helps, as in Kubernetes.
func (p *Pod) whole(hostNetwork bool) bool {
	if hostNetwork {
		return p.Infra == nil
	}
	return p.Infra != nil && (p.Infra.State == StateCreated || p.Infra.State == StateRunning)
}

// Find returns the container that is the unit as it is wanted, or nil.
func (p *Pod) Find(u Unit) *Container {
	for i := range p.Containers {
		if c := &p.Containers[i]; c.Name == u.ContainerName && c.Hash == u.Hash && c.State != StateBroken {
			return c
		}
	}
	return nil
}

// begun reports whether a container of the pod, not an init container, has ever
// run: then the init containers have done their work.
func (p *Pod) begun(d *Desired) bool {
	for _, c := range p.Containers {
		if u := d.Find(c.Unit); u != nil && u.Init {
			continue
		}
		if c.State == StateRunning || c.State == StatePaused || c.State == StateExited {
			return true
		}
	}
	return false
}
