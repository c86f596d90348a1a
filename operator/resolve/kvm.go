package resolve

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
)

// defaultMachineStopSeconds is longer than a container's: a guest shuts down as a whole
// system does.
const defaultMachineStopSeconds = 60

// What is counted in: libvirt takes memory in KiB, and a disk in sectors.
const (
	kibibyte = 1 << 10
	// leastMemory is what no guest starts with less than.
	leastMemory = 1 << 20
)

func (t *Template) kvm(k *v1alpha1.KVMScore) (*contracts.KVMScore, error) {
	out := &contracts.KVMScore{}
	for i := range k.Volumes {
		v := &k.Volumes[i]
		size, err := bytesOf(fmt.Sprintf("volume %s", v.Name), "size", &v.Size, kibibyte)
		if err != nil {
			return nil, err
		}
		out.Volumes = append(out.Volumes, contracts.MachineVolume{Name: v.Name, SizeBytes: size})
	}
	for i := range k.Networks {
		n := &k.Networks[i]
		network := contracts.MachineNetwork{
			Name: n.Name, Mode: or(string(n.Mode), string(v1alpha1.NetworkNAT)), CIDR: n.CIDR, DHCP: n.CIDR != "", Bridge: n.Bridge,
		}
		if n.DHCP != nil {
			network.DHCP = *n.DHCP
		}
		out.Networks = append(out.Networks, network)
	}
	for i := range k.Machines {
		m, err := t.machine(&k.Machines[i])
		if err != nil {
			return nil, err
		}
		out.Machines = append(out.Machines, m)
	}
	return out, nil
}

func (t *Template) machine(m *v1alpha1.Machine) (contracts.Machine, error) {
	by := fmt.Sprintf("machine %s", m.Name)
	out := contracts.Machine{
		Name: m.Name, CPUs: int(m.CPUs), MaxCPUs: int(m.MaxCPUs), Arch: m.Arch, Type: m.MachineType,
		Console: m.Console == nil || *m.Console, StopSeconds: defaultMachineStopSeconds,
	}
	if m.TerminationGracePeriodSeconds != nil {
		out.StopSeconds = *m.TerminationGracePeriodSeconds
	}
	var err error
	if out.MemoryBytes, err = bytesOf(by, "memory", &m.Memory, leastMemory); err != nil {
		return out, err
	}
	if m.MaxMemory != nil {
		if out.MaxMemoryBytes, err = bytesOf(by, "maxMemory", m.MaxMemory, leastMemory); err != nil {
			return out, err
		}
		if out.MaxMemoryBytes < out.MemoryBytes {
			return out, invalid("%s: maxMemory %s must not be below memory %s", by, m.MaxMemory, &m.Memory)
		}
	}
	for i := range m.Disks {
		d := &m.Disks[i]
		disk := contracts.Disk{Name: d.Name, Image: d.Image, Volume: d.Volume, ReadOnly: d.ReadOnly}
		if d.Size != nil {
			if disk.SizeBytes, err = bytesOf(fmt.Sprintf("%s, disk %s", by, d.Name), "size", d.Size, kibibyte); err != nil {
				return out, err
			}
		}
		out.Disks = append(out.Disks, disk)
	}
	for _, i := range m.Interfaces {
		out.Interfaces = append(out.Interfaces, contracts.MachineInterface{Name: i.Name, Network: i.Network, Bridge: i.Bridge, MAC: i.MACAddress})
	}
	if out.CloudInit, err = t.cloudInit(by, m.CloudInit); err != nil {
		return out, err
	}
	out.Readiness, err = machineProbe(by, m.ReadinessProbe)
	return out, err
}

// bytesOf is a quantity as a number, rounded up to what libvirt counts in.
func bytesOf(by, field string, q *resource.Quantity, least int64) (int64, error) {
	bytes := q.Value()
	if bytes < least {
		return 0, invalid("%s: %s must be at least %s, and is %s", by, field, resource.NewQuantity(least, resource.BinarySI), q)
	}
	if over := bytes % kibibyte; over != 0 {
		bytes += kibibyte - over
	}
	return bytes, nil
}

func (t *Template) cloudInit(by string, c *v1alpha1.CloudInit) (*contracts.CloudInit, error) {
	if c == nil {
		return nil, nil
	}
	by += ", cloudInit.userDataFrom"
	out := &contracts.CloudInit{UserData: c.UserData, NetworkConfig: c.NetworkConfig}
	switch from := c.UserDataFrom; {
	case from == nil:
	case from.ConfigMapKeyRef != nil:
		key := from.ConfigMapKeyRef
		m, err := t.configMap(key.Name, key.Optional, by)
		if err != nil {
			return nil, err
		}
		data, ok := content(m, key.Key)
		if !ok && !key.Optional {
			return nil, &NotFoundError{Kind: KindConfigMap, Namespace: t.namespace, Name: key.Name, Key: key.Key, By: by}
		}
		out.UserData = string(data)
	case from.SecretKeyRef != nil:
		key := from.SecretKeyRef
		s, err := t.secret(key.Name, key.Optional, by)
		if err != nil {
			return nil, err
		}
		if _, ok := s.Digests[key.Key]; ok {
			secret := t.use(key.Name, key.Key, s)
			out.SecretUserData = &secret
		} else if !key.Optional {
			return nil, &NotFoundError{Kind: KindSecret, Namespace: t.namespace, Name: key.Name, Key: key.Key, By: by}
		}
	}
	return out, nil
}

func machineProbe(by string, p *v1alpha1.MachineProbe) (*contracts.MachineProbe, error) {
	if p == nil {
		return nil, nil
	}
	out := &contracts.MachineProbe{
		InitialDelay: p.InitialDelaySeconds, Timeout: or(p.TimeoutSeconds, defaultTimeout),
		Period: or(p.PeriodSeconds, defaultPeriod), FailureThreshold: or(p.FailureThreshold, defaultFailureThreshold),
	}
	switch {
	case p.HTTPGet != nil:
		out.HTTP = &contracts.HTTPProbe{Path: or(p.HTTPGet.Path, "/"), Port: p.HTTPGet.Port, HTTPS: p.HTTPGet.Scheme == "HTTPS"}
	case p.TCPSocket != nil:
		out.TCP = &contracts.TCPProbe{Port: p.TCPSocket.Port}
	case p.GuestAgent != nil:
		out.GuestAgent = true
	default:
		return nil, invalid("%s, readinessProbe: exactly one of httpGet, tcpSocket and guestAgent must be set", by)
	}
	return out, nil
}

// userDataOf are the sources of user data of a score.
func userDataOf(k *v1alpha1.KVMScore) func(yield func(*v1alpha1.UserDataSource) bool) {
	return func(yield func(*v1alpha1.UserDataSource) bool) {
		if k == nil {
			return
		}
		for i := range k.Machines {
			if c := k.Machines[i].CloudInit; c != nil && c.UserDataFrom != nil && !yield(c.UserDataFrom) {
				return
			}
		}
	}
}
