package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The types below are a subset of the Kubernetes PodSpec with the same names and
// meanings (https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/).
// What is not in the subset is refused by the schema, not ignored. So is a number
// that doesn't fit its Go type: the operator could not decode the list of all
// Deployments for it. Containers are bounded at 16 because the API server allots
// rules on a port, which may be a string of any length, a budget.

// PodmanScore is a pod that a device runs with podman.
//
// +kubebuilder:validation:XValidation:rule="!has(self.initContainers) || self.initContainers.all(i, self.containers.all(c, c.name != i.name))",message="initContainers and containers must not share a name"
// +kubebuilder:validation:XValidation:rule="!has(self.hostNetwork) || !self.hostNetwork || self.containers.all(c, !has(c.ports) || c.ports.all(p, !has(p.hostPort) || p.hostPort == p.containerPort))",message="with hostNetwork a hostPort must equal its containerPort"
type PodmanScore struct {
	// containers of the pod. They share a network namespace and start together.
	// +required
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	// +patchMergeKey=name
	// +patchStrategy=merge
	Containers []Container `json:"containers" patchStrategy:"merge" patchMergeKey:"name"`

	// initContainers run one after the other, each to its end, before the
	// containers start.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	// +patchMergeKey=name
	// +patchStrategy=merge
	InitContainers []Container `json:"initContainers,omitempty" patchStrategy:"merge" patchMergeKey:"name"`

	// volumes that the containers can mount.
	// +optional
	// +kubebuilder:validation:MaxItems=32
	// +listType=map
	// +listMapKey=name
	// +patchMergeKey=name
	// +patchStrategy=merge
	Volumes []Volume `json:"volumes,omitempty" patchStrategy:"merge" patchMergeKey:"name"`

	// imagePullSecrets are Secrets of the type kubernetes.io/dockerconfigjson in the
	// Deployment's namespace that images are pulled with.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	// +patchMergeKey=name
	// +patchStrategy=merge
	ImagePullSecrets []PullSecretRef `json:"imagePullSecrets,omitempty" patchStrategy:"merge" patchMergeKey:"name"`

	// hostNetwork puts the pod into the device's own network namespace.
	// +optional
	HostNetwork bool `json:"hostNetwork,omitempty"`

	// restartPolicy says when a container that has ended is started again.
	// +optional
	// +kubebuilder:default=Always
	RestartPolicy RestartPolicy `json:"restartPolicy,omitempty"`

	// terminationGracePeriodSeconds is how long a container may take to end after
	// SIGTERM before it is killed.
	// +optional
	// +kubebuilder:default=30
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=3600
	TerminationGracePeriodSeconds *int64 `json:"terminationGracePeriodSeconds,omitempty"`

	// restartedAt, when it becomes another time, makes a new revision that differs
	// in nothing else, so that every device makes its containers anew, wave by wave.
	// `kubectl fleet rollout restart` sets it.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	RestartedAt string `json:"restartedAt,omitempty"`
}

// RestartPolicy says when a container that has ended is started again.
//
// +kubebuilder:validation:Enum=Always;OnFailure;Never
type RestartPolicy string

// Restart policies, as in a Pod.
const (
	RestartAlways    RestartPolicy = "Always"
	RestartOnFailure RestartPolicy = "OnFailure"
	RestartNever     RestartPolicy = "Never"
)

// Container is one container of a pod.
type Container struct {
	// name of the container, unique in the pod.
	// +required
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// image is what the container runs, with its registry, tag or digest.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Image string `json:"image"`

	// imagePullPolicy says when the image is pulled: Always, IfNotPresent or Never.
	// Default: Always for the tag latest or no tag, else IfNotPresent.
	// +optional
	ImagePullPolicy PullPolicy `json:"imagePullPolicy,omitempty"`

	// command replaces the image's entrypoint. It is not run in a shell.
	// +optional
	// +listType=atomic
	Command []string `json:"command,omitempty"`

	// args replace the image's command.
	// +optional
	// +listType=atomic
	Args []string `json:"args,omitempty"`

	// workingDir is the directory that the command starts in.
	// +optional
	WorkingDir string `json:"workingDir,omitempty"`

	// env are environment variables. $(NAME) in a value, a command or an argument
	// is replaced by a variable defined before.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	// +listType=map
	// +listMapKey=name
	// +patchMergeKey=name
	// +patchStrategy=merge
	Env []EnvVar `json:"env,omitempty" patchStrategy:"merge" patchMergeKey:"name"`

	// envFrom sets a variable for every key of a ConfigMap or Secret. What env names wins.
	// +optional
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	EnvFrom []EnvFromSource `json:"envFrom,omitempty"`

	// ports that the container listens on.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=containerPort
	// +listMapKey=protocol
	// +patchMergeKey=containerPort
	// +patchStrategy=merge
	Ports []ContainerPort `json:"ports,omitempty" patchStrategy:"merge" patchMergeKey:"containerPort"`

	// volumeMounts put volumes of the pod into the container.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=mountPath
	// +patchMergeKey=mountPath
	// +patchStrategy=merge
	VolumeMounts []VolumeMount `json:"volumeMounts,omitempty" patchStrategy:"merge" patchMergeKey:"mountPath"`

	// resources bound what the container may use.
	// +optional
	Resources *Resources `json:"resources,omitempty"`

	// startupProbe holds the other probes back until it succeeds once; when it
	// fails the container is restarted.
	// +optional
	StartupProbe *Probe `json:"startupProbe,omitempty"`

	// readinessProbe decides whether the container counts as ready.
	// +optional
	ReadinessProbe *Probe `json:"readinessProbe,omitempty"`

	// livenessProbe restarts the container when it fails.
	// +optional
	LivenessProbe *Probe `json:"livenessProbe,omitempty"`

	// securityContext bounds what the container's processes may do.
	// +optional
	SecurityContext *SecurityContext `json:"securityContext,omitempty"`
}

// PullPolicy says when an image is pulled.
//
// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
type PullPolicy string

// Pull policies, as in a Pod.
const (
	PullAlways       PullPolicy = "Always"
	PullIfNotPresent PullPolicy = "IfNotPresent"
	PullNever        PullPolicy = "Never"
)

// EnvVar is an environment variable.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.value) && size(self.value) > 0 && has(self.valueFrom))",message="value and valueFrom must not both be set"
type EnvVar struct {
	// name of the variable.
	// +required
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z][-._a-zA-Z0-9]*$`
	Name string `json:"name"`
	// value of the variable.
	// +optional
	// +kubebuilder:validation:MaxLength=131072
	Value string `json:"value,omitempty"`
	// valueFrom takes the value from elsewhere.
	// +optional
	ValueFrom *EnvVarSource `json:"valueFrom,omitempty"`
}

// EnvVarSource is where the value of a variable comes from.
//
// +kubebuilder:validation:XValidation:rule="(has(self.fieldRef) ? 1 : 0) + (has(self.configMapKeyRef) ? 1 : 0) + (has(self.secretKeyRef) ? 1 : 0) == 1",message="exactly one of fieldRef, configMapKeyRef and secretKeyRef must be set"
type EnvVarSource struct {
	// fieldRef takes a field of the Device: this is how one definition differs
	// from device to device.
	// +optional
	FieldRef *FieldRef `json:"fieldRef,omitempty"`
	// configMapKeyRef takes a key of a ConfigMap in the Deployment's namespace.
	// +optional
	ConfigMapKeyRef *ConfigMapKeyRef `json:"configMapKeyRef,omitempty"`
	// secretKeyRef takes a key of a Secret in the Deployment's namespace. It is sealed
	// to each device.
	// +optional
	SecretKeyRef *SecretKeyRef `json:"secretKeyRef,omitempty"`
}

// FieldRef names a field of the Device.
type FieldRef struct {
	// fieldPath is metadata.name, metadata.namespace or metadata.labels['KEY'].
	// +required
	// +kubebuilder:validation:MaxLength=400
	// +kubebuilder:validation:Pattern=`^metadata\.(name|namespace|labels\['[^']+'\])$`
	FieldPath string `json:"fieldPath"`
}

// ConfigMapKeyRef names a key of a ConfigMap.
type ConfigMapKeyRef struct {
	// name of the ConfigMap.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name"`
	// key in the ConfigMap.
	// +required
	// +kubebuilder:validation:MinLength=1
	Key string `json:"key"`
	// optional leaves the variable out when the ConfigMap or the key is missing.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// SecretKeyRef names a key of a Secret.
type SecretKeyRef struct {
	// name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name"`
	// key in the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]+$`
	Key string `json:"key"`
	// optional leaves the variable out when the Secret or the key is missing.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// EnvFromSource is a ConfigMap or a Secret whose keys become variables.
//
// +kubebuilder:validation:XValidation:rule="has(self.configMapRef) != has(self.secretRef)",message="exactly one of configMapRef and secretRef must be set"
type EnvFromSource struct {
	// prefix is put before each name.
	// +optional
	Prefix string `json:"prefix,omitempty"`
	// configMapRef names the ConfigMap.
	// +optional
	ConfigMapRef *ConfigMapRef `json:"configMapRef,omitempty"`
	// secretRef names the Secret.
	// +optional
	SecretRef *SecretRef `json:"secretRef,omitempty"`
}

// SecretRef names a Secret in the Deployment's namespace.
type SecretRef struct {
	// name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name"`
	// optional goes on without the Secret when it is missing.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// PullSecretRef names a Secret of the type kubernetes.io/dockerconfigjson.
type PullSecretRef struct {
	// name of the Secret in the Deployment's namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name"`
}

// ConfigMapRef names a ConfigMap in the Deployment's namespace.
type ConfigMapRef struct {
	// name of the ConfigMap.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name"`
	// optional goes on without the ConfigMap when it is missing.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// ContainerPort is a port that a container listens on.
type ContainerPort struct {
	// name of the port, for probes to refer to.
	// +optional
	// +kubebuilder:validation:MaxLength=15
	Name string `json:"name,omitempty"`
	// containerPort is the port inside the pod.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	ContainerPort int32 `json:"containerPort"`
	// hostPort is the port on the device. Without it the port is not reachable
	// from outside the device.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	HostPort int32 `json:"hostPort,omitempty"`
	// hostIP is the device's address that hostPort is bound to. Default: the
	// agent's hostIP setting, which is every address unless it is set.
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="self == '' || isIP(self)",message="must be an IP address"
	HostIP string `json:"hostIP,omitempty"`
	// protocol is TCP or UDP.
	// +optional
	// +kubebuilder:default=TCP
	// +kubebuilder:validation:Enum=TCP;UDP
	Protocol string `json:"protocol,omitempty"`
}

// Volume is storage that the containers of a pod can mount.
//
// +kubebuilder:validation:XValidation:rule="(has(self.configMap) ? 1 : 0) + (has(self.emptyDir) ? 1 : 0) + (has(self.hostPath) ? 1 : 0) + (has(self.persistentVolumeClaim) ? 1 : 0) + (has(self.secret) ? 1 : 0) == 1",message="exactly one of configMap, secret, emptyDir, hostPath and persistentVolumeClaim must be set"
type Volume struct {
	// name of the volume, for volumeMounts to refer to.
	// +required
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
	// configMap makes a file of every key of a ConfigMap.
	// +optional
	ConfigMap *ConfigMapVolume `json:"configMap,omitempty"`
	// secret makes a file of every key of a Secret.
	// +optional
	Secret *SecretVolume `json:"secret,omitempty"`
	// emptyDir is storage that lives as long as the Deployment is on the device.
	// +optional
	EmptyDir *EmptyDirVolume `json:"emptyDir,omitempty"`
	// hostPath is a file or directory of the device.
	// +optional
	HostPath *HostPathVolume `json:"hostPath,omitempty"`
	// persistentVolumeClaim is a podman volume that outlives the Deployment. The
	// agent makes it when it is missing and never removes it.
	// +optional
	PersistentVolumeClaim *PersistentVolumeClaimVolume `json:"persistentVolumeClaim,omitempty"`
}

// ConfigMapVolume makes files of a ConfigMap.
type ConfigMapVolume struct {
	// name of the ConfigMap in the Deployment's namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name"`
	// items choose keys and where they go. Default: every key, under its own name.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	// +listType=atomic
	Items []KeyToPath `json:"items,omitempty"`
	// defaultMode is the files' permission bits. Default: 0644.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=511
	DefaultMode *int32 `json:"defaultMode,omitempty"`
	// optional leaves the volume empty when the ConfigMap is missing.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// SecretVolume makes files of a Secret.
type SecretVolume struct {
	// secretName is the name of the Secret in the Deployment's namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	SecretName string `json:"secretName"`
	// items choose keys and where they go. Default: every key, under its own name.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	// +listType=atomic
	Items []KeyToPath `json:"items,omitempty"`
	// defaultMode is the files' permission bits. Default: 0644.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=511
	DefaultMode *int32 `json:"defaultMode,omitempty"`
	// optional leaves the volume empty when the Secret is missing.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// KeyToPath puts a key of a ConfigMap or Secret at a path of the volume.
type KeyToPath struct {
	// key in the ConfigMap or Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	Key string `json:"key"`
	// path in the volume, relative and without '..'.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="!self.matches('^/|(^|/)[.][.](/|$)')",message="must be relative and must not contain '..'"
	Path string `json:"path"`
	// mode is the file's permission bits. Default: the volume's defaultMode.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=511
	Mode *int32 `json:"mode,omitempty"`
}

// EmptyDirVolume is storage that lives as long as the Deployment is on the device.
type EmptyDirVolume struct {
	// medium is empty for the device's disk or Memory for a tmpfs.
	// +optional
	// +kubebuilder:validation:Enum="";Memory
	Medium string `json:"medium,omitempty"`
}

// HostPathVolume is a file or directory of the device.
type HostPathVolume struct {
	// path on the device, absolute.
	// +required
	// +kubebuilder:validation:Pattern=`^/`
	Path string `json:"path"`
	// type is empty for no check or DirectoryOrCreate to make a missing directory.
	// +optional
	// +kubebuilder:validation:Enum="";DirectoryOrCreate
	Type string `json:"type,omitempty"`
}

// PersistentVolumeClaimVolume is a podman volume that outlives the Deployment.
type PersistentVolumeClaimVolume struct {
	// claimName is the podman volume's name.
	// +required
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	ClaimName string `json:"claimName"`
}

// VolumeMount puts a volume into a container.
type VolumeMount struct {
	// name of the volume.
	// +required
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`
	// mountPath is where it appears in the container, absolute.
	// +required
	// +kubebuilder:validation:Pattern=`^/`
	MountPath string `json:"mountPath"`
	// subPath is the part of the volume that is mounted.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="!self.matches('^/|(^|/)[.][.](/|$)')",message="must be relative and must not contain '..'"
	SubPath string `json:"subPath,omitempty"`
	// readOnly mounts it read-only.
	// +optional
	ReadOnly bool `json:"readOnly,omitempty"`
}

// Resources bound what a container may use.
type Resources struct {
	// limits are the most that the container may use: cpu and memory.
	// +optional
	Limits *ResourceLimits `json:"limits,omitempty"`
}

// ResourceLimits are the most that a container may use.
type ResourceLimits struct {
	// cpu in processors, such as 500m.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^[0-9]{1,15}(\.[0-9]{1,9})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$`
	CPU *resource.Quantity `json:"cpu,omitempty"`
	// memory in bytes, such as 128Mi.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^[0-9]{1,15}(\.[0-9]{1,9})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$`
	Memory *resource.Quantity `json:"memory,omitempty"`
}

// Probe looks whether a container is well.
//
// +kubebuilder:validation:XValidation:rule="(has(self.httpGet) ? 1 : 0) + (has(self.tcpSocket) ? 1 : 0) + (has(self.exec) ? 1 : 0) == 1",message="exactly one of httpGet, tcpSocket and exec must be set"
type Probe struct {
	// httpGet succeeds on a status from 200 to 399.
	// +optional
	HTTPGet *HTTPGetAction `json:"httpGet,omitempty"`
	// tcpSocket succeeds when the port accepts a connection.
	// +optional
	TCPSocket *TCPSocketAction `json:"tcpSocket,omitempty"`
	// exec succeeds when the command ends with 0 in the container.
	// +optional
	Exec *ExecAction `json:"exec,omitempty"`
	// initialDelaySeconds is how long after the container's start the first look
	// is taken.
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
	// successThreshold is how many looks in a row must succeed after a failure.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	SuccessThreshold int32 `json:"successThreshold,omitempty"`
	// failureThreshold is how many looks in a row must fail for the probe to fail.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	FailureThreshold int32 `json:"failureThreshold,omitempty"`
}

// HTTPGetAction is an HTTP request to the pod.
type HTTPGetAction struct {
	// path of the request. Default: /.
	// +optional
	Path string `json:"path,omitempty"`
	// port as a number or the name of one of the container's ports.
	// +required
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$`
	// +kubebuilder:validation:XValidation:rule="type(self) != int || self >= 1 && self <= 65535",message="must be a port from 1 to 65535, or the name of one"
	Port intstr.IntOrString `json:"port"`
	// scheme is HTTP or HTTPS; a certificate is not checked.
	// +optional
	// +kubebuilder:default=HTTP
	// +kubebuilder:validation:Enum=HTTP;HTTPS
	Scheme string `json:"scheme,omitempty"`
	// httpHeaders are sent with the request.
	// +optional
	// +listType=atomic
	HTTPHeaders []HTTPHeader `json:"httpHeaders,omitempty"`
}

// HTTPHeader is one header of a request.
type HTTPHeader struct {
	// name of the header.
	// +required
	Name string `json:"name"`
	// value of the header.
	// +required
	Value string `json:"value"`
}

// TCPSocketAction is a TCP connection to the pod.
type TCPSocketAction struct {
	// port as a number or the name of one of the container's ports.
	// +required
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$`
	// +kubebuilder:validation:XValidation:rule="type(self) != int || self >= 1 && self <= 65535",message="must be a port from 1 to 65535, or the name of one"
	Port intstr.IntOrString `json:"port"`
}

// ExecAction is a command that is run in the container.
type ExecAction struct {
	// command with its arguments; not run in a shell.
	// +required
	// +kubebuilder:validation:MinItems=1
	// +listType=atomic
	Command []string `json:"command"`
}

// SecurityContext bounds what a container's processes may do.
type SecurityContext struct {
	// privileged takes the bounds away.
	// +optional
	Privileged bool `json:"privileged,omitempty"`
	// readOnlyRootFilesystem mounts the container's root read-only.
	// +optional
	ReadOnlyRootFilesystem bool `json:"readOnlyRootFilesystem,omitempty"`
	// runAsUser is the user ID of the container's processes.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967294
	RunAsUser *int64 `json:"runAsUser,omitempty"`
	// runAsGroup is the group ID of the container's processes.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967294
	RunAsGroup *int64 `json:"runAsGroup,omitempty"`
	// allowPrivilegeEscalation set to false keeps a process from gaining more
	// rights than its parent.
	// +optional
	AllowPrivilegeEscalation *bool `json:"allowPrivilegeEscalation,omitempty"`
	// capabilities that are added to or taken from the runtime's default.
	// +optional
	Capabilities *Capabilities `json:"capabilities,omitempty"`
}

// Capabilities are Linux capabilities without the prefix CAP_.
type Capabilities struct {
	// add these.
	// +optional
	// +listType=atomic
	Add []string `json:"add,omitempty"`
	// drop these; ALL drops every one.
	// +optional
	// +listType=atomic
	Drop []string `json:"drop,omitempty"`
}

// KubernetesScore are manifests for the device's own cluster.
type KubernetesScore struct {
	// manifests are whole Kubernetes objects.
	// +required
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +listType=atomic
	Manifests []Manifest `json:"manifests"`
}

// Manifest is one whole Kubernetes object.
//
// +kubebuilder:validation:XEmbeddedResource
// +kubebuilder:pruning:PreserveUnknownFields
type Manifest struct {
	runtime.RawExtension `json:",inline"`
}
