package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DeviceSpec is what a person or Git says about a device.
type DeviceSpec struct {
	// approved lets the device take part in the fleet when it is true, and shuts it
	// out when it is false: it is disconnected at once. While it is not set nobody
	// has decided, and the device waits: it may connect, but is told nothing and
	// can say nothing.
	// +optional
	Approved *bool `json:"approved,omitempty"`

	// publicKey is the device's identity, the public half of an NKey of type user
	// (56 characters that begin with U). The agent makes the pair on the device
	// and prints the public half with `fleet-agent identity`. Empty until the
	// device's first accepted join, then pinned: a device that was set up anew is
	// refused until somebody takes the key out (`kubectl fleet device reset-key`).
	// https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/nkey_auth
	// +optional
	// +kubebuilder:validation:Pattern=`^U[A-Z2-7]{55}$`
	PublicKey string `json:"publicKey,omitempty"`

	// cordoned keeps anything new from the device, as on a cordoned node: what it
	// runs goes on, new revisions pass it by.
	// +optional
	Cordoned bool `json:"cordoned,omitempty"`
}

// DeviceInfo is what the device says about itself. It informs people; no
// decision of who may do what rests on it.
type DeviceInfo struct {
	// hostname is the device's own host name.
	// +optional
	Hostname string `json:"hostname,omitempty"`
	// os is the operating system and its version, as /etc/os-release names it.
	// +optional
	OS string `json:"os,omitempty"`
	// arch is the processor architecture in Go's words: amd64, arm64, arm.
	// +optional
	Arch string `json:"arch,omitempty"`
	// kernel is the version of the running kernel.
	// +optional
	Kernel string `json:"kernel,omitempty"`
	// agentVersion is the version of the fleet-agent that runs there.
	// +optional
	AgentVersion string `json:"agentVersion,omitempty"`
	// bootID changes with each boot of the device.
	// +optional
	BootID string `json:"bootID,omitempty"`
	// drivers are what the device can run, each with its version, by name:
	// podman, kubernetes, kvm.
	// +optional
	Drivers map[string]string `json:"drivers,omitempty"`
	// capacity is what the device has: cpu, memory, storage.
	// +optional
	Capacity map[string]resource.Quantity `json:"capacity,omitempty"`
	// addresses are the device's own IP addresses, loopback left out.
	// +optional
	// +listType=atomic
	Addresses []string `json:"addresses,omitempty"`
}

// DeviceDeployments counts the Deployments that a device has been told to run,
// by what the device says of them.
type DeviceDeployments struct {
	// total is how many Deployments the device has been told.
	Total int32 `json:"total"`
	// running is how many of them run at the revision it was told.
	Running int32 `json:"running"`
	// pending is how many are on their way.
	Pending int32 `json:"pending"`
	// failed is how many failed or are degraded.
	Failed int32 `json:"failed"`
}

// DeviceStatus is what the operator has seen of a device.
type DeviceStatus struct {
	// observedGeneration is the generation of the spec that this status answers.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions: Ready tells whether heartbeats arrive, Joined whether an agent
	// has registered as this device.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// info is what the device says about itself.
	// +optional
	Info *DeviceInfo `json:"info,omitempty"`

	// lastHeartbeatTime is coarse: written when Ready changes and at most every
	// ten minutes in between, in a fleet of more than 3,000 devices less often.
	// The Heartbeat of that name has it to the second.
	// +optional
	LastHeartbeatTime *metav1.Time `json:"lastHeartbeatTime,omitempty"`

	// deployments counts what the device has been told to run.
	// +optional
	Deployments *DeviceDeployments `json:"deployments,omitempty"`
}

// Device is a machine outside the data centre that runs a fleet-agent. Its name
// is its device ID, unique across the namespaces of one fleet. Its labels are
// what Deployments select; they come from Git, a person or the join token, never
// from the device.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=fleetdev,categories=fleet
// +kubebuilder:printcolumn:name="Ready",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].status"
// +kubebuilder:printcolumn:name="Status",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].message"
// +kubebuilder:printcolumn:name="Running",type="integer",JSONPath=".status.deployments.running"
// +kubebuilder:printcolumn:name="Failed",type="integer",JSONPath=".status.deployments.failed"
// +kubebuilder:printcolumn:name="Reason",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].reason",priority=1
// +kubebuilder:printcolumn:name="Approved",type="boolean",JSONPath=".spec.approved",priority=1
// +kubebuilder:printcolumn:name="Cordoned",type="boolean",JSONPath=".spec.cordoned",priority=1
// +kubebuilder:printcolumn:name="Last-Heartbeat",type="date",JSONPath=".status.lastHeartbeatTime",priority=1
// +kubebuilder:printcolumn:name="Agent",type="string",JSONPath=".status.info.agentVersion",priority=1
// +kubebuilder:printcolumn:name="OS",type="string",JSONPath=".status.info.os",priority=1
// +kubebuilder:printcolumn:name="Arch",type="string",JSONPath=".status.info.arch",priority=1
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="a Device's name is its device ID and must be a DNS label: lower-case letters, digits and '-', at most 63 characters, no dots"
type Device struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what a person or Git says about the device.
	// +optional
	Spec DeviceSpec `json:"spec,omitempty"`
	// status is what the operator has seen of the device.
	// +optional
	// +kubebuilder:default:={"observedGeneration":-1}
	Status DeviceStatus `json:"status,omitempty"`
}

// GetConditions returns the conditions of the device's status.
func (d *Device) GetConditions() []metav1.Condition { return d.Status.Conditions }

// SetConditions replaces the conditions of the device's status.
func (d *Device) SetConditions(conditions []metav1.Condition) { d.Status.Conditions = conditions }

// DeviceList is a list of Devices.
//
// +kubebuilder:object:root=true
type DeviceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Device `json:"items"`
}
