package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Heartbeat is the last sign of life of a Device. It has the Device's name and
// labels; fields that select are spec.device and status.ready.
//
// +kubebuilder:object:root=true
type Heartbeat struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says which Device it is of.
	Spec HeartbeatSpec `json:"spec"`
	// status is what has been heard of it.
	Status HeartbeatStatus `json:"status"`
}

// HeartbeatSpec says which Device a Heartbeat is of.
type HeartbeatSpec struct {
	// device is the Device's name.
	Device string `json:"device"`
}

// HeartbeatStatus is what has been heard of a Device.
type HeartbeatStatus struct {
	// ready tells that heartbeats arrive: fewer than three in a row are missing.
	Ready bool `json:"ready"`
	// lastHeartbeatTime is when the last one reached the server; null before the
	// first.
	// +optional
	LastHeartbeatTime *metav1.MicroTime `json:"lastHeartbeatTime,omitempty"`
	// intervalSeconds to the next one, as the device says.
	// +optional
	IntervalSeconds int32 `json:"intervalSeconds,omitempty"`
	// sequence counts heartbeats since the agent started.
	// +optional
	Sequence int64 `json:"sequence,omitempty"`
	// missed is how many heartbeats in its sequence never arrived since the operator
	// has watched.
	// +optional
	Missed int64 `json:"missed,omitempty"`
	// latencyMillis is how much later than it was sent the last one reached the
	// server, as far as the device's clock is right.
	// +optional
	LatencyMillis int64 `json:"latencyMillis,omitempty"`
	// uptimeSeconds of the agent.
	// +optional
	UptimeSeconds int64 `json:"uptimeSeconds,omitempty"`
	// agentVersion that the device runs.
	// +optional
	AgentVersion string `json:"agentVersion,omitempty"`
	// hostname of the device.
	// +optional
	Hostname string `json:"hostname,omitempty"`
}

// HeartbeatList is a list of Heartbeats.
//
// +kubebuilder:object:root=true
type HeartbeatList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	// items of the list.
	Items []Heartbeat `json:"items"`
}

// Placement is one Deployment on one Device: what the Device was told and what it
// says. Its name is <device>.<deployment>, its labels are the Device's; fields that
// select are spec.device, spec.deployment, status.phase, status.revision and
// status.ready.
//
// +kubebuilder:object:root=true
type Placement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says what was told to whom.
	Spec PlacementSpec `json:"spec"`
	// status is what the Device says.
	Status PlacementStatus `json:"status"`
}

// PlacementSpec is what a Device was told for a Deployment.
type PlacementSpec struct {
	// device is the Device's name.
	Device string `json:"device"`
	// deployment is the Deployment's name.
	Deployment string `json:"deployment"`
	// revision that the Device was told; empty when it was told to remove it.
	// +optional
	Revision string `json:"revision,omitempty"`
	// wave of the rollout in which it was told.
	// +optional
	Wave string `json:"wave,omitempty"`
	// toldTime is when it was told.
	// +optional
	ToldTime *metav1.MicroTime `json:"toldTime,omitempty"`
}

// PlacementStatus is what a Device says of a Deployment.
type PlacementStatus struct {
	// ready tells that the Device is reachable, runs the revision that it was told,
	// and is well.
	Ready bool `json:"ready"`
	// revision that the Device speaks of.
	// +optional
	Revision string `json:"revision,omitempty"`
	// phase is where it stands: Pending, Pulling, Applying, Running, Degraded, Failed,
	// RolledBack or Removed. It is Pending until the Device has said something.
	Phase string `json:"phase"`
	// reason is one word for it, such as ImagePullFailed.
	// +optional
	Reason string `json:"reason,omitempty"`
	// message is a sentence for it.
	// +optional
	Message string `json:"message,omitempty"`
	// restarts of all containers since the Deployment came to the Device.
	// +optional
	Restarts int64 `json:"restarts,omitempty"`
	// drifts is how often something that was changed by hand was put right.
	// +optional
	Drifts int64 `json:"drifts,omitempty"`
	// sinceTime is since when it has been in this phase.
	// +optional
	SinceTime *metav1.MicroTime `json:"sinceTime,omitempty"`
	// online tells that the Device's heartbeats arrive; what is said of one that is
	// not is what it said last.
	Online bool `json:"online"`
}

// PlacementList is a list of Placements.
//
// +kubebuilder:object:root=true
type PlacementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	// items of the list.
	Items []Placement `json:"items"`
}

// FleetHealth counts the Devices of a namespace by their health, and names a few of those
// that are not well. There is one for each namespace that has Devices; its name is fleet.
//
// It has no labels of its own: a label selector selects the Devices that are counted, and
// not FleetHealths. "kubectl get fleethealths -l site=mtl" counts the Devices with the
// label site=mtl; a namespace that has none is left out. There is nothing to watch: who
// wants it kept up to date gets it again.
//
// +kubebuilder:object:root=true
type FleetHealth struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// status is how the Devices are.
	Status FleetHealthStatus `json:"status"`
}

// FleetHealthName is the name of the FleetHealth of every namespace.
const FleetHealthName = "fleet"

// FleetHealthStatus is how the Devices of a namespace are. Each is counted in exactly one
// of ready, notReady, neverSeen, pending, shutOut and duplicate, by the reason of its
// condition Ready.
type FleetHealthStatus struct {
	// total is how many Devices there are.
	Total int32 `json:"total"`
	// ready are those whose heartbeats arrive: HeartbeatReceived.
	Ready int32 `json:"ready"`
	// notReady are those whose heartbeats came and come no more, HeartbeatMissed, or come
	// from an agent with another key than spec.publicKey, PublicKeyMismatch.
	NotReady int32 `json:"notReady"`
	// neverSeen are those that are approved and have sent no heartbeat yet: NeverSeen.
	NeverSeen int32 `json:"neverSeen"`
	// pending are those that wait for somebody to approve them: NotApproved.
	Pending int32 `json:"pending"`
	// shutOut are those that may not connect, since spec.approved is false: ShutOut.
	ShutOut int32 `json:"shutOut"`
	// duplicate are those whose ID an older Device of another namespace has: DuplicateID.
	Duplicate int32 `json:"duplicate"`
	// mismatched are those of notReady with PublicKeyMismatch.
	Mismatched int32 `json:"mismatched"`
	// cordoned are those with spec.cordoned, whatever else they are.
	Cordoned int32 `json:"cordoned"`

	// gone are the Devices whose heartbeats stopped last, the last first; at most 10.
	// +optional
	Gone []GoneDevice `json:"gone,omitempty"`
	// waiting are the first by name of neverSeen; at most 3.
	// +optional
	Waiting []string `json:"waiting,omitempty"`
	// applicants are the first by name of pending; at most 3.
	// +optional
	Applicants []string `json:"applicants,omitempty"`
	// duplicates are the first by name of duplicate; at most 3.
	// +optional
	Duplicates []string `json:"duplicates,omitempty"`
	// mismatches are the first by name of mismatched; at most 3.
	// +optional
	Mismatches []string `json:"mismatches,omitempty"`
}

// How many devices a FleetHealth names, however many there are.
const (
	MaxGone  = 10
	MaxNames = 3
)

// GoneDevice is a Device whose heartbeats stopped.
type GoneDevice struct {
	// name of the Device.
	Name string `json:"name"`
	// reason of its condition Ready.
	Reason string `json:"reason"`
	// message of its condition Ready.
	Message string `json:"message"`
	// lastHeartbeatTime is when the last one reached the server.
	LastHeartbeatTime metav1.Time `json:"lastHeartbeatTime"`
}

// FleetHealthList is a list of FleetHealths.
//
// +kubebuilder:object:root=true
type FleetHealthList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	// items of the list, by namespace.
	Items []FleetHealth `json:"items"`
}
