package contracts

import (
	"encoding/json"
	"time"
)

// Version is the version of every value that this package writes.
const Version = 1

// Sizes, in bytes, above which a value is refused by the stream and by Decode.
const (
	MaxDesiredStateSize = 512 << 10
	MaxDeviceStateSize  = 32 << 10
	MaxDeviceInfoSize   = 16 << 10
	MaxHeartbeatSize    = 96
)

// DesiredState is what one device is told to do for one Deployment: the value of
// DesiredStateKey.
type DesiredState struct {
	V          int            `json:"v"`
	Deployment DeploymentName `json:"deployment"`
	// Namespace of the Deployment, for people.
	Namespace string `json:"namespace"`
	// Revision is the Deployment's revision that the score belongs to.
	Revision string `json:"revision"`
	// Digest identifies the resolved score. It differs from device to device where
	// the score refers to fields of the device.
	Digest string `json:"digest"`
	// Generation of the Deployment when this was written.
	Generation int64 `json:"generation"`
	// Commit is the Git commit that the spec came from, when it is known.
	Commit string `json:"commit,omitempty"`
	// Score with every reference resolved.
	Score ReconcileScore `json:"score"`
	// Sealed are the secrets that the score needs; nil where it needs none.
	Sealed *Sealed `json:"sealed,omitempty"`
	// DeadlineSeconds is how long the device may take to get healthy before it
	// undoes the revision, or reports it as failed when there is nothing to go back
	// to.
	DeadlineSeconds int64 `json:"deadlineSeconds,omitempty"`
	// Wave is the wave of the rollout in which the device was told, and
	// FailedBefore whether it was failing before. Devices need neither, nor Number:
	// they are the operator's own memory, which lies where it is true.
	Wave         string `json:"wave,omitempty"`
	FailedBefore bool   `json:"failedBefore,omitempty"`
	// Number of the revision, which is a new one each time that it is wanted anew.
	Number int64 `json:"number,omitempty"`
	// Issued is the number of this order. It grows with each that a device is given for
	// the Deployment, so that an older one is known as such whoever shows it.
	Issued int64 `json:"issued"`
	// Time of writing, by the operator's clock.
	Time time.Time `json:"time"`
}

// ReconcileScore is what a device reconciles; exactly one field is set.
type ReconcileScore struct {
	Podman     *PodmanScore     `json:"podman,omitempty"`
	Kubernetes *KubernetesScore `json:"kubernetes,omitempty"`
	KVM        *KVMScore        `json:"kvm,omitempty"`
}

// Names of drivers.
const (
	DriverPodman     = "podman"
	DriverKubernetes = "kubernetes"
	DriverKVM        = "kvm"
)

// Driver is the name of the driver that the score needs.
func (s ReconcileScore) Driver() string {
	switch {
	case s.Podman != nil:
		return DriverPodman
	case s.Kubernetes != nil:
		return DriverKubernetes
	case s.KVM != nil:
		return DriverKVM
	}
	return ""
}

// KubernetesScore are objects for the device's own cluster.
type KubernetesScore struct {
	Manifests []json.RawMessage `json:"manifests"`
}

// Phase is where a deployment stands on a device.
type Phase string

// Phases. A deployment begins as Pending, goes through Pulling and Applying to
// Running, from there to Degraded and back as its probes say, and to Failed when
// it can't be carried out; from each of them to Applying when the desired state
// changes, and to Removed, the last, when it is gone.
const (
	PhasePending    Phase = "Pending"
	PhasePulling    Phase = "Pulling"
	PhaseApplying   Phase = "Applying"
	PhaseRunning    Phase = "Running"
	PhaseDegraded   Phase = "Degraded"
	PhaseFailed     Phase = "Failed"
	PhaseRolledBack Phase = "RolledBack"
	PhaseRemoved    Phase = "Removed"
)

// DeploymentState is what a device says of one Deployment: the value of
// DeviceStateKey.
type DeploymentState struct {
	V          int            `json:"v"`
	Deployment DeploymentName `json:"deployment"`
	// Revision and Digest are of the desired state that this speaks of.
	Revision string `json:"revision"`
	Digest   string `json:"digest"`
	Phase    Phase  `json:"phase"`
	// Reason is one word, such as ImagePullFailed; Message a sentence.
	Reason     string           `json:"reason,omitempty"`
	Message    string           `json:"message,omitempty"`
	Containers []ContainerState `json:"containers,omitempty"`
	// Restarts of all containers since this deployment came to the device.
	Restarts int64 `json:"restarts,omitempty"`
	// Drifts counts how often something changed by hand was put right.
	Drifts int64 `json:"drifts,omitempty"`
	// Log is the end of the failing container's log.
	Log string `json:"log,omitempty"`
	// Seq grows with each transition.
	Seq uint64 `json:"seq"`
	// Issued is the number of the newest order that the device has taken for the
	// Deployment; 0 when it does not say.
	Issued int64 `json:"issued,omitempty"`
	// Time of sending, by the device's clock. Since is when the phase began, by the
	// same clock: what counts is the difference, so the clock may be wrong.
	Time  time.Time `json:"time"`
	Since time.Time `json:"since,omitzero"`
}

// InPhase is how long the phase had lasted when the state was sent; zero where the
// device does not say, or says nonsense.
func (s *DeploymentState) InPhase() time.Duration {
	if s.Since.IsZero() {
		return 0
	}
	return max(0, s.Time.Sub(s.Since))
}

// ContainerState is what a device says of one container, or of one machine: then ID is
// libvirt's UUID and Image that of its first disk.
type ContainerState struct {
	Name  string `json:"name"`
	ID    string `json:"id,omitempty"`
	Image string `json:"image,omitempty"`
	// State in the runtime's words: running, exited, created, shut off.
	State    string `json:"state"`
	Ready    bool   `json:"ready"`
	Restarts int64  `json:"restarts,omitempty"`
	ExitCode int32  `json:"exitCode,omitempty"`
	Message  string `json:"message,omitempty"`
}

// DeviceInfo is what a device says about itself: the value of DeviceInfoKey.
type DeviceInfo struct {
	V            int               `json:"v"`
	Device       DeviceID          `json:"device"`
	Hostname     string            `json:"hostname,omitempty"`
	OS           string            `json:"os,omitempty"`
	Arch         string            `json:"arch,omitempty"`
	Kernel       string            `json:"kernel,omitempty"`
	AgentVersion string            `json:"agentVersion,omitempty"`
	BootID       string            `json:"bootID,omitempty"`
	Drivers      map[string]string `json:"drivers,omitempty"`
	Capacity     Capacity          `json:"capacity"`
	Addresses    []string          `json:"addresses,omitempty"`
	// PublicKey is the public half of the device's NKey.
	PublicKey string `json:"publicKey,omitempty"`
	// Curve is what secrets are sealed to for the device.
	Curve *CurveKey `json:"curve,omitempty"`
	// Refused counts the orders that did not count since the agent started, because the
	// operator has not signed them for this device; RefusedReason is of the last one.
	Refused       int64     `json:"refused,omitempty"`
	RefusedReason string    `json:"refusedReason,omitempty"`
	Time          time.Time `json:"time"`
}

// Capacity is what a device has.
type Capacity struct {
	CPUs         int   `json:"cpus,omitempty"`
	MemoryBytes  int64 `json:"memoryBytes,omitempty"`
	StorageBytes int64 `json:"storageBytes,omitempty"`
}

// HeartbeatPayload is a sign of life: the value of HeartbeatKey. Its names are
// short because a fleet sends thousands a second; it stays under MaxHeartbeatSize.
type HeartbeatPayload struct {
	V int `json:"v"`
	// Seq counts heartbeats since the agent started, so that gaps show.
	Seq uint64 `json:"n"`
	// Time is the device's clock in Unix milliseconds.
	Time int64 `json:"t"`
	// Interval to the next heartbeat, in seconds.
	Interval int `json:"i"`
	// Uptime of the agent, in seconds.
	Uptime int64 `json:"up"`
}

// SnapshotRequest asks for a snapshot, or for its next page.
type SnapshotRequest struct {
	V int `json:"v"`
	// After is the last deployment of the page before; empty for the first page.
	After DeploymentName `json:"after,omitempty"`
}

// Snapshot is the answer to SnapshotSubject: all that a device should run.
type Snapshot struct {
	V int `json:"v"`
	// Entries by deployment. What is not among them was never told through this
	// stream: what the device knows of it from before stays.
	Entries []SnapshotEntry `json:"entries"`
	// Handovers lead from keys that the operator had before to the one that it has. A
	// device follows the one from the key that it trusts.
	Handovers []Handover `json:"handovers,omitempty"`
	// More tells that another page follows, which is asked for with After.
	More bool `json:"more,omitempty"`
}

// SnapshotEntry is one key of a snapshot.
type SnapshotEntry struct {
	Deployment DeploymentName `json:"deployment"`
	// Value is an Envelope as it was stored.
	Value json.RawMessage `json:"value"`
}
