package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// DeploymentSpec says which devices run what, and how a change reaches them.
type DeploymentSpec struct {
	// suspend keeps the operator from acting on this Deployment at all. What the
	// devices were told stays as it is.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// paused holds a rollout where it is: nobody is told anything new, the status
	// goes on being kept.
	// +optional
	Paused bool `json:"paused,omitempty"`

	// targetSelector selects the Devices of the Deployment's own namespace that
	// run the score. An empty selector selects nothing.
	// +required
	TargetSelector metav1.LabelSelector `json:"targetSelector"`

	// score is what each selected device reconciles.
	// +required
	Score Score `json:"score"`

	// rollout says how a change reaches the devices.
	// +optional
	// +kubebuilder:default:={}
	Rollout Rollout `json:"rollout,omitempty"`

	// revisionHistoryLimit is how many old revisions are kept to go back to.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	RevisionHistoryLimit *int32 `json:"revisionHistoryLimit,omitempty"`
}

// Score is what a device reconciles; exactly one of its fields is set.
//
// +kubebuilder:validation:XValidation:rule="(has(self.podman) ? 1 : 0) + (has(self.kubernetes) ? 1 : 0) + (has(self.kvm) ? 1 : 0) == 1",message="exactly one of podman, kubernetes and kvm must be set"
type Score struct {
	// podman is a pod that the device runs with podman.
	// +optional
	Podman *PodmanScore `json:"podman,omitempty"`
	// kubernetes are manifests for the device's own cluster. A device without a
	// kubernetes driver says so in its report.
	// +optional
	Kubernetes *KubernetesScore `json:"kubernetes,omitempty"`
	// kvm are virtual machines that the device runs with libvirt.
	// +optional
	KVM *KVMScore `json:"kvm,omitempty"`
}

// Rollout says how a change reaches the devices.
type Rollout struct {
	// waves are the parts of the fleet that get a revision one after the other. A
	// device is in the first wave whose selector matches it and whose limit has
	// room, in an order that is the same for every revision; it stays there while
	// the revision is rolled out. A wave begins when the one before has met its
	// success threshold and has soaked. What no wave takes gets the revision last,
	// in a wave that is called rest. Without waves that is every device.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	// +patchMergeKey=name
	// +patchStrategy=merge
	// +kubebuilder:validation:XValidation:rule="self.all(w, has(w.selector) || has(w.limit) || w.name == self[size(self)-1].name)",message="a wave without selector and limit takes every device that is left, so it must be the last"
	Waves []Wave `json:"waves,omitempty" patchStrategy:"merge" patchMergeKey:"name"`

	// maxUnavailable is how many of the selected devices may be between revisions
	// or failing at any time, as a number or a percentage (rounded up, at least
	// one). Devices that were broken before the rollout count; devices that are
	// offline don't.
	// +optional
	// +kubebuilder:default="25%"
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 1 && self <= 1000000000 : self.matches('^([1-9][0-9]?|100)%$')",message="must be a number from 1 to 1000000000 or a percentage from 1% to 100%"
	MaxUnavailable *intstr.IntOrString `json:"maxUnavailable,omitempty"`

	// progressDeadline is how long the rollout may go without any device making
	// progress before it counts as stalled.
	// +optional
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="must be a duration of at least 1s, such as 90s or 10m"
	ProgressDeadline *metav1.Duration `json:"progressDeadline,omitempty"`

	// successThreshold is how many of the reachable devices of a wave have to run
	// the revision and be healthy before the next wave begins, and of all reachable
	// devices for the rollout to be complete: as a percentage (rounded up), or as a
	// number, of which a smaller wave needs all. What is above it may fail.
	// +optional
	// +kubebuilder:default="100%"
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 1 && self <= 1000000000 : self.matches('^([1-9][0-9]?|100)%$')",message="must be a number from 1 to 1000000000 or a percentage from 1% to 100%"
	SuccessThreshold *intstr.IntOrString `json:"successThreshold,omitempty"`

	// onFailure says what happens when so many devices of a wave fail that its
	// success threshold can't be met. Halt tells nobody else while that is so; the
	// rollout goes on by itself when the devices recover or a fix is pushed.
	// Rollback halts too, and when those devices have given up, has every device
	// that was told the revision run the current revision again; the revision is not
	// tried again until another was. Continue goes on, within maxUnavailable.
	// +optional
	// +kubebuilder:default=Halt
	OnFailure OnFailure `json:"onFailure,omitempty"`

	// approvals let waves begin whose approval is Manual. They are written by
	// `kubectl fleet rollout approve`, or by hand. One of a wave that does not exist,
	// or of another revision, has no effect.
	// +optional
	// +kubebuilder:validation:MaxItems=17
	// +listType=map
	// +listMapKey=wave
	Approvals []Approval `json:"approvals,omitempty"`
}

// Wave is a part of the fleet that gets a revision together.
type Wave struct {
	// name of the wave, unique in the rollout. The name rest is of the wave of
	// everything that no other takes.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:XValidation:rule="self != 'rest'",message="the name rest is taken: it is of the wave of everything that no other takes"
	Name string `json:"name"`

	// selector picks, among the devices that the Deployment selects, those of this
	// wave; without one it takes any.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`

	// limit is how many devices the wave takes at most: a number, or a percentage
	// of the reachable devices that its selector matches (rounded up). A device that
	// is offline or cordoned takes no place.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^([1-9][0-9]?|100)%$`
	// +kubebuilder:validation:XValidation:rule="type(self) != int || self >= 1 && self <= 1000000000",message="must be a number from 1 to 1000000000 or a percentage from 1% to 100%"
	Limit *intstr.IntOrString `json:"limit,omitempty"`

	// soak is how long the devices that meet the success threshold must have been
	// healthy before the next wave begins. A device that recovers begins anew.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="must be a duration such as 90s, 10m or 24h"
	Soak *metav1.Duration `json:"soak,omitempty"`

	// approval is Manual when somebody has to approve the wave, for each revision,
	// before it begins.
	// +optional
	// +kubebuilder:default=Automatic
	Approval ApprovalPolicy `json:"approval,omitempty"`
}

// ApprovalPolicy says whether somebody has to approve a wave.
//
// +kubebuilder:validation:Enum=Automatic;Manual
type ApprovalPolicy string

// Approval policies.
const (
	ApprovalAutomatic ApprovalPolicy = "Automatic"
	ApprovalManual    ApprovalPolicy = "Manual"
)

// Approval lets a wave begin.
type Approval struct {
	// wave is the name of the wave.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Wave string `json:"wave"`
	// revision is the one that the wave may get. Another needs an approval of its
	// own.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Revision string `json:"revision"`
}

// OnFailure says what happens when a wave fails.
//
// +kubebuilder:validation:Enum=Halt;Rollback;Continue
type OnFailure string

// What happens when a wave fails.
const (
	OnFailureHalt     OnFailure = "Halt"
	OnFailureRollback OnFailure = "Rollback"
	OnFailureContinue OnFailure = "Continue"
)

// RestWave is the name of the wave of everything that no other takes.
const RestWave = "rest"

// Aggregate counts the devices that a Deployment selects. Every selected device
// is in exactly one of succeeded, failed, pending and offline.
type Aggregate struct {
	// matched is how many devices the Deployment selects.
	Matched int32 `json:"matched"`
	// updated is how many of them have been told the update revision.
	Updated int32 `json:"updated"`
	// succeeded is how many run the update revision and are healthy.
	Succeeded int32 `json:"succeeded"`
	// failed is how many are reachable and say that they failed or are degraded.
	Failed int32 `json:"failed"`
	// pending is how many are reachable and neither succeeded nor failed.
	Pending int32 `json:"pending"`
	// offline is how many send no heartbeats. They get the revision when they
	// return.
	Offline int32 `json:"offline"`
	// drifted is how many have put right something that was changed by hand.
	Drifted int32 `json:"drifted"`
}

// WavePhase is where a wave of a rollout stands.
//
// +kubebuilder:validation:Enum=Pending;AwaitingApproval;Progressing;Soaking;Complete;Paused;Halted;RollingBack;RolledBack;Stalled
type WavePhase string

// Phases of a wave. It begins as Pending, until the wave before is over; it may
// have to wait as AwaitingApproval; it is Progressing until its success threshold
// is met, Soaking until it has held for long enough, and then Complete.
// Progressing and Soaking become Halted when too many of its devices fail, and
// Stalled when nothing moves any more; both go back when something does. Halted
// may become RollingBack and then RolledBack, which only another revision ends.
// Paused is what Progressing, Soaking and AwaitingApproval are while the
// Deployment is paused.
const (
	WavePending          WavePhase = "Pending"
	WaveAwaitingApproval WavePhase = "AwaitingApproval"
	WaveProgressing      WavePhase = "Progressing"
	WaveSoaking          WavePhase = "Soaking"
	WaveComplete         WavePhase = "Complete"
	WavePaused           WavePhase = "Paused"
	WaveHalted           WavePhase = "Halted"
	WaveRollingBack      WavePhase = "RollingBack"
	WaveRolledBack       WavePhase = "RolledBack"
	WaveStalled          WavePhase = "Stalled"
)

// WaveStatus is the wave that a rollout is in.
type WaveStatus struct {
	// name of the wave.
	Name string `json:"name"`
	// index of the wave, from 1.
	Index int32 `json:"index"`
	// of is the number of waves.
	Of int32 `json:"of"`
	// phase of the wave.
	Phase WavePhase `json:"phase"`
	// since when the wave has been in this phase.
	// +optional
	Since metav1.Time `json:"since,omitempty"`
	// until is when a wave that is Soaking has soaked, unless something changes.
	// +optional
	Until *metav1.Time `json:"until,omitempty"`
}

// WaveProgress is how far one wave has come.
type WaveProgress struct {
	// name of the wave.
	Name string `json:"name"`
	// phase of the wave.
	Phase WavePhase `json:"phase"`
	// matched is how many devices are in the wave.
	Matched int32 `json:"matched"`
	// updated is how many of them have been told the update revision.
	Updated int32 `json:"updated"`
	// succeeded is how many run the update revision and are healthy.
	Succeeded int32 `json:"succeeded"`
	// failed is how many are reachable and say that they failed or are degraded.
	Failed int32 `json:"failed"`
	// pending is how many are reachable and neither succeeded nor failed.
	Pending int32 `json:"pending"`
	// offline is how many send no heartbeats.
	Offline int32 `json:"offline"`
}

// Failure is one device on which the Deployment fails.
type Failure struct {
	// device is the Device's name.
	Device string `json:"device"`
	// reason is one word for what is wrong, such as ImagePullFailed.
	Reason string `json:"reason"`
	// message says what is wrong, in the device's words.
	// +optional
	Message string `json:"message,omitempty"`
	// log is the end of the failing container's log, when the device sent it.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	Log string `json:"log,omitempty"`
}

// Source names where a spec came from.
type Source struct {
	// kustomization is the Flux Kustomization that applied the spec, as
	// namespace/name.
	// +optional
	Kustomization string `json:"kustomization,omitempty"`
	// revision is the source revision in Flux's words, such as
	// main@sha1:4ddd4d9….
	// +optional
	Revision string `json:"revision,omitempty"`
	// commit is the Git commit of that revision.
	// +optional
	Commit string `json:"commit,omitempty"`
}

// DeploymentStatus is what the operator has seen of a Deployment.
type DeploymentStatus struct {
	// observedGeneration is the generation of the spec that this status answers.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// lastHandledReconcileAt is the last value of the annotation
	// reconcile.fluxcd.io/requestedAt that was acted on.
	// +optional
	LastHandledReconcileAt string `json:"lastHandledReconcileAt,omitempty"`

	// conditions: Ready, and while they are true Reconciling or Stalled.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// currentRevision is the last revision that every reachable device ran.
	// +optional
	CurrentRevision string `json:"currentRevision,omitempty"`
	// updateRevision is the revision of the spec. The rollout is over when it is
	// the current revision.
	// +optional
	UpdateRevision string `json:"updateRevision,omitempty"`

	// aggregate counts the selected devices.
	// +optional
	Aggregate *Aggregate `json:"aggregate,omitempty"`

	// progress is succeeded of matched, for people.
	// +optional
	Progress string `json:"progress,omitempty"`

	// wave is the wave that the rollout is in.
	// +optional
	Wave *WaveStatus `json:"wave,omitempty"`

	// waves are all waves of the rollout, in their order.
	// +optional
	// +listType=map
	// +listMapKey=name
	Waves []WaveProgress `json:"waves,omitempty"`

	// failures are devices on which the Deployment fails, at most ten.
	// +optional
	// +listType=map
	// +listMapKey=device
	// +kubebuilder:validation:MaxItems=10
	Failures []Failure `json:"failures,omitempty"`

	// source names where the spec came from.
	// +optional
	Source *Source `json:"source,omitempty"`
}

// Deployment runs a score on every Device of its namespace that its selector
// matches. It is not the Deployment of the group apps: it has no template and no
// replicas, and the word fleetdep always means this one.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=fleetdep,categories=fleet
// +kubebuilder:printcolumn:name="Ready",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].status"
// +kubebuilder:printcolumn:name="Devices",type="string",JSONPath=".status.progress"
// +kubebuilder:printcolumn:name="Wave",type="string",JSONPath=".status.wave.name"
// +kubebuilder:printcolumn:name="Phase",type="string",JSONPath=".status.wave.phase"
// +kubebuilder:printcolumn:name="Failed",type="integer",JSONPath=".status.aggregate.failed"
// +kubebuilder:printcolumn:name="Offline",type="integer",JSONPath=".status.aggregate.offline"
// +kubebuilder:printcolumn:name="Status",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].message"
// +kubebuilder:printcolumn:name="Revision",type="string",JSONPath=".status.updateRevision",priority=1
// +kubebuilder:printcolumn:name="Commit",type="string",JSONPath=".status.source.commit",priority=1
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 52 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="a Deployment's name must be a DNS label of at most 52 characters: lower-case letters, digits and '-', no dots"
type Deployment struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says which devices run what, and how a change reaches them.
	// +required
	Spec DeploymentSpec `json:"spec"`
	// status is what the operator has seen of the Deployment.
	// +optional
	// +kubebuilder:default:={"observedGeneration":-1}
	Status DeploymentStatus `json:"status,omitempty"`
}

// GetConditions returns the conditions of the Deployment's status.
func (d *Deployment) GetConditions() []metav1.Condition { return d.Status.Conditions }

// SetConditions replaces the conditions of the Deployment's status.
func (d *Deployment) SetConditions(conditions []metav1.Condition) { d.Status.Conditions = conditions }

// DeploymentList is a list of Deployments.
//
// +kubebuilder:object:root=true
type DeploymentList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Deployment `json:"items"`
}
