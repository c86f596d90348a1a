package v1alpha1

// Condition types. Ready, Reconciling and Stalled have the meaning that kstatus
// gives them, so that `kubectl wait` and a Flux Kustomization with `wait: true`
// understand them: Reconciling and Stalled exist only while they are true, and
// never both.
// https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md
const (
	ConditionReady       = "Ready"
	ConditionReconciling = "Reconciling"
	ConditionStalled     = "Stalled"
	// ConditionJoined tells whether a Device's agent has registered and is the
	// one that this Device stands for.
	ConditionJoined = "Joined"
)

// Reasons of a Device's conditions.
const (
	// ReasonHeartbeat: heartbeats arrive on time.
	ReasonHeartbeat = "HeartbeatReceived"
	// ReasonHeartbeatMissed: three heartbeats in a row did not arrive.
	ReasonHeartbeatMissed = "HeartbeatMissed"
	// ReasonNeverSeen: the device has never sent a heartbeat.
	ReasonNeverSeen = "NeverSeen"
	// ReasonNotApproved: nobody has set spec.approved, so the device waits.
	ReasonNotApproved = "NotApproved"
	// ReasonShutOut: spec.approved is false, so the device may not connect.
	ReasonShutOut = "ShutOut"
	// ReasonJoined: a device has joined with a token. It is an event's.
	ReasonJoined = "Joined"
	// ReasonRegistered: the device has sent its information.
	ReasonRegistered = "Registered"
	// ReasonOrdersRefused: the device was told what the operator has not signed for it,
	// and goes on with what it was told before.
	ReasonOrdersRefused = "OrdersRefused"
	// ReasonDuplicateID: an older Device in another namespace has the same name.
	ReasonDuplicateID = "DuplicateID"
	// ReasonInvalidInfo: what the device registered with can't be read.
	ReasonInvalidInfo = "InvalidInfo"
	// ReasonPublicKeyMismatch: the agent has another identity than spec.publicKey.
	ReasonPublicKeyMismatch = "PublicKeyMismatch"
)

// Reasons of a Deployment's conditions.
const (
	// ReasonRolloutComplete: every reachable device runs the update revision.
	ReasonRolloutComplete = "RolloutComplete"
	// ReasonProgressing: devices are being told, or are on their way.
	ReasonProgressing = "Progressing"
	// ReasonPaused: spec.paused holds the rollout; nobody is told anything new.
	ReasonPaused = "Paused"
	// ReasonSuspended: spec.suspend keeps the operator's hands off.
	ReasonSuspended = "Suspended"
	// ReasonNoDevices: the target selector matches no Device.
	ReasonNoDevices = "NoDevicesMatched"
	// ReasonDevicesFailed: devices failed the update revision and nothing else
	// can go on.
	ReasonDevicesFailed = "DevicesFailed"
	// ReasonProgressDeadlineExceeded: no device made progress within
	// spec.rollout.progressDeadline.
	ReasonProgressDeadlineExceeded = "ProgressDeadlineExceeded"
	// ReasonSoaking: the wave has met its success threshold, and is watched for
	// spec.rollout.waves[].soak before the next one begins.
	ReasonSoaking = "Soaking"
	// ReasonAwaitingApproval: the next wave begins when somebody approves it.
	ReasonAwaitingApproval = "AwaitingApproval"
	// ReasonRollingBack: the update revision failed, and devices are told to run the
	// current revision again.
	ReasonRollingBack = "RollingBack"
	// ReasonRolledBack: the update revision failed and no reachable device runs it
	// any more. It is not tried again until another revision was.
	ReasonRolledBack = "RolledBack"
	// ReasonBusUnreachable: NATS does not take what devices have to be told.
	ReasonBusUnreachable = "BusUnreachable"
	// ReasonReferenceNotFound: a ConfigMap, key or field that the score refers to
	// does not exist.
	ReasonReferenceNotFound = "ReferenceNotFound"
	// ReasonInvalidSpec: the spec can't be carried out as it is written.
	ReasonInvalidSpec = "InvalidSpec"
)
