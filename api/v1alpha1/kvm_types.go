package v1alpha1

import "k8s.io/apimachinery/pkg/api/resource"

// The types below are in the words of a Pod where a Pod has one for it, and in those of
// libvirt where it has none. Every list and every name in a rule is bounded: the API
// server allots rules a budget by what they could cost at worst.

// KVMScore are virtual machines that a device runs with libvirt.
//
// +kubebuilder:validation:XValidation:rule="self.machines.all(m, !has(m.disks) || m.disks.all(d, !has(d.volume) || has(self.volumes) && self.volumes.exists(v, v.name == d.volume)))",message="a disk's volume must be one of volumes"
// +kubebuilder:validation:XValidation:rule="!has(self.volumes) || self.volumes.all(v, self.machines.map(m, has(m.disks) ? m.disks.filter(d, has(d.volume) && d.volume == v.name).size() : 0).sum() <= 1)",message="a volume must not be the disk of more than one machine, nor two disks of one"
// +kubebuilder:validation:XValidation:rule="self.machines.all(m, !has(m.interfaces) || m.interfaces.all(i, !has(i.network) || has(self.networks) && self.networks.exists(n, n.name == i.network)))",message="an interface's network must be one of networks"
type KVMScore struct {
	// machines that run, each looked after on its own.
	// +required
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	// +patchMergeKey=name
	// +patchStrategy=merge
	Machines []Machine `json:"machines" patchStrategy:"merge" patchMergeKey:"name"`

	// networks that interfaces can be in. They are this Deployment's own, and go with
	// it.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	// +patchMergeKey=name
	// +patchStrategy=merge
	Networks []MachineNetwork `json:"networks,omitempty" patchStrategy:"merge" patchMergeKey:"name"`

	// volumes are disks for data. They outlive the machines and the Deployment: the
	// agent makes one when it is missing and never removes it.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	// +patchMergeKey=name
	// +patchStrategy=merge
	Volumes []MachineVolume `json:"volumes,omitempty" patchStrategy:"merge" patchMergeKey:"name"`
}

// Machine is one virtual machine.
//
// +kubebuilder:validation:XValidation:rule="!has(self.maxCPUs) || self.maxCPUs >= self.cpus",message="maxCPUs must not be below cpus"
type Machine struct {
	// name of the machine, unique in the score.
	// +required
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// cpus is how many processors the machine has. More, up to maxCPUs, are given while
	// it runs; fewer, or more than that, need a restart.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=128
	CPUs int32 `json:"cpus"`

	// maxCPUs is what cpus can be raised to while the machine runs. Default: cpus.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=128
	MaxCPUs int32 `json:"maxCPUs,omitempty"`

	// memory of the machine, such as 1Gi. It is changed while the machine runs, up to
	// maxMemory, by its balloon, which the guest's kernel has to know; more than that
	// needs a restart.
	// +required
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^[0-9]{1,15}(\.[0-9]{1,9})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$`
	Memory resource.Quantity `json:"memory"`

	// maxMemory is what memory can be raised to while the machine runs. Default: memory.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^[0-9]{1,15}(\.[0-9]{1,9})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$`
	MaxMemory *resource.Quantity `json:"maxMemory,omitempty"`

	// arch is the processor's architecture. Another than the device's own is emulated,
	// which is slow. Default: the device's.
	// +optional
	// +kubebuilder:validation:Enum=x86_64;aarch64
	Arch string `json:"arch,omitempty"`

	// machineType is q35, pc or virt, or a versioned name of one of them that the
	// device's emulator has, such as pc-q35-7.2. Default: q35 for x86_64, virt for
	// aarch64.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^(q35|pc|virt|pc-q35-[0-9][-.a-z0-9]*|pc-i440fx-[0-9][-.a-z0-9]*|virt-[0-9][-.a-z0-9]*)$`
	MachineType string `json:"machineType,omitempty"`

	// disks of the machine in their order. It starts from the first, which is vda.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	// +patchMergeKey=name
	// +patchStrategy=merge
	Disks []Disk `json:"disks,omitempty" patchStrategy:"merge" patchMergeKey:"name"`

	// interfaces of the machine in their order.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	// +patchMergeKey=name
	// +patchStrategy=merge
	Interfaces []MachineInterface `json:"interfaces,omitempty" patchStrategy:"merge" patchMergeKey:"name"`

	// cloudInit sets the guest up when it starts a first time, by cloud-init's NoCloud
	// data source. Its metadata has the device, the Deployment and the machine, so that
	// one definition differs from device to device.
	// +optional
	CloudInit *CloudInit `json:"cloudInit,omitempty"`

	// console keeps what the guest writes to its serial console, for
	// `kubectl fleet logs`.
	// +optional
	// +kubebuilder:default=true
	Console *bool `json:"console,omitempty"`

	// readinessProbe decides whether the machine counts as ready. Without one it does
	// once it has run for a moment.
	// +optional
	ReadinessProbe *MachineProbe `json:"readinessProbe,omitempty"`

	// terminationGracePeriodSeconds is how long the guest may take to shut down before
	// its power is cut.
	// +optional
	// +kubebuilder:default=60
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=3600
	TerminationGracePeriodSeconds *int64 `json:"terminationGracePeriodSeconds,omitempty"`
}

// Disk is a disk of a machine.
//
// +kubebuilder:validation:XValidation:rule="has(self.image) != has(self.volume)",message="exactly one of image and volume must be set"
// +kubebuilder:validation:XValidation:rule="!has(self.size) || has(self.image)",message="size is of a disk with an image; a volume has its own"
type Disk struct {
	// name of the disk, unique in the machine.
	// +required
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// image is the name of a volume in the device's pool that the disk begins as. The
	// machine writes to a copy of its own, which goes with the machine, and when the
	// image becomes another.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9][-._A-Za-z0-9]*$`
	Image string `json:"image,omitempty"`

	// size of the disk, such as 20Gi. It can grow. Default: the image's.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^[0-9]{1,15}(\.[0-9]{1,9})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$`
	Size *resource.Quantity `json:"size,omitempty"`

	// volume is the name of one of the score's volumes, which no other disk uses.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Volume string `json:"volume,omitempty"`

	// readOnly keeps the machine from writing to the disk.
	// +optional
	ReadOnly bool `json:"readOnly,omitempty"`
}

// MachineInterface is a network interface of a machine.
//
// +kubebuilder:validation:XValidation:rule="has(self.network) != has(self.bridge)",message="exactly one of network and bridge must be set"
type MachineInterface struct {
	// name of the interface, unique in the machine. The guest does not learn it.
	// +required
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// network is the name of one of the score's networks.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Network string `json:"network,omitempty"`

	// bridge is a bridge of the device. The device has to allow it in its agent's
	// configuration.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9][-._A-Za-z0-9]*$`
	Bridge string `json:"bridge,omitempty"`

	// macAddress of the interface. Default: one that follows from the device, the
	// Deployment, the machine and the interface, and stays.
	// +optional
	// +kubebuilder:validation:MaxLength=17
	// +kubebuilder:validation:Pattern=`^[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}$`
	MACAddress string `json:"macAddress,omitempty"`
}

// CloudInit is what cloud-init sets the guest up with. Together it may have up to 1 MiB.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.userData) && has(self.userDataFrom))",message="userData and userDataFrom must not both be set"
type CloudInit struct {
	// userData is cloud-init's user data, which mostly begins with #cloud-config. With
	// `## template: jinja` as its first line {{ ds.meta_data.device }} is the device.
	// +optional
	// +kubebuilder:validation:MaxLength=131072
	UserData string `json:"userData,omitempty"`
	// userDataFrom takes the user data from elsewhere.
	// +optional
	UserDataFrom *UserDataSource `json:"userDataFrom,omitempty"`
	// networkConfig is cloud-init's network configuration, version 1 or 2. Without it the
	// guest takes addresses by DHCP.
	// +optional
	// +kubebuilder:validation:MaxLength=32768
	NetworkConfig string `json:"networkConfig,omitempty"`
}

// UserDataSource is where user data comes from.
//
// +kubebuilder:validation:XValidation:rule="has(self.configMapKeyRef) != has(self.secretKeyRef)",message="exactly one of configMapKeyRef and secretKeyRef must be set"
type UserDataSource struct {
	// configMapKeyRef takes a key of a ConfigMap in the Deployment's namespace.
	// +optional
	ConfigMapKeyRef *ConfigMapKeyRef `json:"configMapKeyRef,omitempty"`
	// secretKeyRef takes a key of a Secret in the Deployment's namespace. It is sealed
	// to each device.
	// +optional
	SecretKeyRef *SecretKeyRef `json:"secretKeyRef,omitempty"`
}

// MachineProbe looks whether a machine is well.
//
// +kubebuilder:validation:XValidation:rule="(has(self.httpGet) ? 1 : 0) + (has(self.tcpSocket) ? 1 : 0) + (has(self.guestAgent) ? 1 : 0) == 1",message="exactly one of httpGet, tcpSocket and guestAgent must be set"
type MachineProbe struct {
	// httpGet succeeds on a status from 200 to 399, at the machine's first address.
	// +optional
	HTTPGet *MachineHTTPGet `json:"httpGet,omitempty"`
	// tcpSocket succeeds when the port accepts a connection, at the machine's first
	// address.
	// +optional
	TCPSocket *MachineTCPSocket `json:"tcpSocket,omitempty"`
	// guestAgent succeeds when the QEMU guest agent in the machine answers.
	// +optional
	GuestAgent *GuestAgentProbe `json:"guestAgent,omitempty"`
	// initialDelaySeconds is how long after the machine's start the first look is taken.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	InitialDelaySeconds int32 `json:"initialDelaySeconds,omitempty"`
	// timeoutSeconds is how long one look may take.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=3600
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`
	// periodSeconds is the time from one look to the next.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=86400
	PeriodSeconds int32 `json:"periodSeconds,omitempty"`
	// failureThreshold is how many looks in a row must fail for the probe to fail.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	FailureThreshold int32 `json:"failureThreshold,omitempty"`
}

// MachineHTTPGet is an HTTP request to the machine.
type MachineHTTPGet struct {
	// path of the request. Default: /.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	Path string `json:"path,omitempty"`
	// port of the request.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
	// scheme is HTTP or HTTPS; a certificate is not checked.
	// +optional
	// +kubebuilder:default=HTTP
	// +kubebuilder:validation:Enum=HTTP;HTTPS
	Scheme string `json:"scheme,omitempty"`
}

// MachineTCPSocket is a TCP connection to the machine.
type MachineTCPSocket struct {
	// port to connect to.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
}

// GuestAgentProbe asks the QEMU guest agent.
type GuestAgentProbe struct{}

// MachineNetwork is a network that machines of a score share on a device.
//
// +kubebuilder:validation:XValidation:rule="self.mode != 'NAT' || has(self.cidr)",message="mode NAT needs a cidr"
// +kubebuilder:validation:XValidation:rule="!has(self.dhcp) || !self.dhcp || has(self.cidr)",message="dhcp needs a cidr"
// +kubebuilder:validation:XValidation:rule="(self.mode == 'Bridge') == has(self.bridge)",message="bridge must be set with mode Bridge, and only with it"
// +kubebuilder:validation:XValidation:rule="self.mode != 'Bridge' || !has(self.cidr) && !has(self.dhcp)",message="with mode Bridge addresses are given by what is on the bridge: cidr and dhcp must not be set"
type MachineNetwork struct {
	// name of the network, unique in the score.
	// +required
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
	// mode is NAT for a network from which machines reach what the device reaches,
	// Isolated for one that leads nowhere else, and Bridge for a bridge of the device.
	// +optional
	// +kubebuilder:default=NAT
	Mode NetworkMode `json:"mode,omitempty"`
	// cidr is the range of addresses, such as 10.20.0.0/24. The device has the first of
	// it. It must be free on the device.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=43
	// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="must be a range of addresses such as 10.20.0.0/24"
	CIDR string `json:"cidr,omitempty"`
	// dhcp gives machines addresses of the range. Default: true where there is a cidr.
	// +optional
	DHCP *bool `json:"dhcp,omitempty"`
	// bridge of the device, for mode Bridge. The device has to allow it in its agent's
	// configuration.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9][-._A-Za-z0-9]*$`
	Bridge string `json:"bridge,omitempty"`
}

// NetworkMode says what a network leads to.
//
// +kubebuilder:validation:Enum=NAT;Isolated;Bridge
type NetworkMode string

// Modes of a network.
const (
	NetworkNAT      NetworkMode = "NAT"
	NetworkIsolated NetworkMode = "Isolated"
	NetworkBridge   NetworkMode = "Bridge"
)

// MachineVolume is a disk for data that outlives the machine.
type MachineVolume struct {
	// name of the volume, unique in the score.
	// +required
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
	// size of the volume, such as 100Gi. It can grow.
	// +required
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^[0-9]{1,15}(\.[0-9]{1,9})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$`
	Size resource.Quantity `json:"size"`
}
