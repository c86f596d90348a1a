package contracts

// PodmanScore is a pod in the form in which a device runs it: references
// resolved, defaults filled in, quantities and ports as numbers. The API's form
// is api/v1alpha1.PodmanScore.
type PodmanScore struct {
	InitContainers []Container `json:"initContainers,omitempty"`
	Containers     []Container `json:"containers"`
	Volumes        []Volume    `json:"volumes,omitempty"`
	HostNetwork    bool        `json:"hostNetwork,omitempty"`
	// RestartPolicy is Always, OnFailure or Never.
	RestartPolicy string `json:"restartPolicy"`
	// StopSeconds is the time from SIGTERM to SIGKILL.
	StopSeconds int64 `json:"stopSeconds"`
	// PullSecrets are registries' credentials, each the JSON of a file
	// .docker/config.json.
	PullSecrets []Secret `json:"pullSecrets,omitempty"`
	// RestartedAt, in whichever form, differs when the containers are to be made
	// anew though nothing else about them differs.
	RestartedAt string `json:"restartedAt,omitempty"`
}

// Container is one container of a pod.
type Container struct {
	Name  string `json:"name"`
	Image string `json:"image"`
	// PullPolicy is Always, IfNotPresent or Never.
	PullPolicy  string           `json:"pullPolicy"`
	Command     []string         `json:"command,omitempty"`
	Args        []string         `json:"args,omitempty"`
	WorkingDir  string           `json:"workingDir,omitempty"`
	Env         []EnvVar         `json:"env,omitempty"`
	SecretEnv   []SecretEnvVar   `json:"secretEnv,omitempty"`
	Ports       []Port           `json:"ports,omitempty"`
	Mounts      []Mount          `json:"mounts,omitempty"`
	CPUMillis   int64            `json:"cpuMillis,omitempty"`
	MemoryBytes int64            `json:"memoryBytes,omitempty"`
	Startup     *Probe           `json:"startup,omitempty"`
	Readiness   *Probe           `json:"readiness,omitempty"`
	Liveness    *Probe           `json:"liveness,omitempty"`
	Security    *SecurityContext `json:"security,omitempty"`
}

// EnvVar is an environment variable, in the order of definition.
type EnvVar struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Secret stands for bytes that are in DesiredState.Sealed alone.
type Secret struct {
	// Name in what is sealed.
	Name string `json:"name"`
	// Digest changes when the bytes do, and says nothing about them.
	Digest string `json:"digest"`
}

// SecretEnvVar is an environment variable whose value is secret.
type SecretEnvVar struct {
	Name   string `json:"name"`
	Secret Secret `json:"secret"`
}

// Port is a port of a container.
type Port struct {
	Container int32 `json:"container"`
	// Host is 0 for a port that is not mapped.
	Host     int32  `json:"host,omitempty"`
	HostIP   string `json:"hostIP,omitempty"`
	Protocol string `json:"protocol"`
}

// Volume is storage of a pod; exactly one field besides the name is set.
type Volume struct {
	Name string `json:"name"`
	// Files are the resolved content of a ConfigMap; an empty list is an empty
	// directory of this kind.
	Files *[]File `json:"files,omitempty"`
	// SecretFiles are the same of a Secret.
	SecretFiles *[]SecretFile `json:"secretFiles,omitempty"`
	EmptyDir    *EmptyDir     `json:"emptyDir,omitempty"`
	HostPath    *HostPath     `json:"hostPath,omitempty"`
	// Claim is the name of a podman volume that outlives the deployment.
	Claim string `json:"claim,omitempty"`
}

// File is one file of a volume.
type File struct {
	// Path is relative, without "..".
	Path string `json:"path"`
	Mode int32  `json:"mode"`
	Data []byte `json:"data"`
}

// SecretFile is one file of a volume whose content is secret.
type SecretFile struct {
	// Path is relative, without "..".
	Path   string `json:"path"`
	Mode   int32  `json:"mode"`
	Secret Secret `json:"secret"`
}

// EmptyDir is storage that goes with the deployment.
type EmptyDir struct {
	Memory bool `json:"memory,omitempty"`
}

// HostPath is a path of the device.
type HostPath struct {
	Path   string `json:"path"`
	Create bool   `json:"create,omitempty"`
}

// Mount puts a volume into a container.
type Mount struct {
	Volume   string `json:"volume"`
	Path     string `json:"path"`
	SubPath  string `json:"subPath,omitempty"`
	ReadOnly bool   `json:"readOnly,omitempty"`
}

// Probe looks whether a container is well; exactly one of HTTP, TCP and Exec is
// set. Times are in seconds.
type Probe struct {
	HTTP             *HTTPProbe `json:"http,omitempty"`
	TCP              *TCPProbe  `json:"tcp,omitempty"`
	Exec             []string   `json:"exec,omitempty"`
	InitialDelay     int32      `json:"initialDelay,omitempty"`
	Timeout          int32      `json:"timeout"`
	Period           int32      `json:"period"`
	SuccessThreshold int32      `json:"successThreshold"`
	FailureThreshold int32      `json:"failureThreshold"`
}

// HTTPProbe is a request that has to answer with a status from 200 to 399.
type HTTPProbe struct {
	Path    string   `json:"path"`
	Port    int32    `json:"port"`
	HTTPS   bool     `json:"https,omitempty"`
	Headers []EnvVar `json:"headers,omitempty"`
}

// TCPProbe is a port that has to accept a connection.
type TCPProbe struct {
	Port int32 `json:"port"`
}

// SecurityContext bounds a container's processes.
type SecurityContext struct {
	Privileged       bool     `json:"privileged,omitempty"`
	ReadOnlyRoot     bool     `json:"readOnlyRoot,omitempty"`
	RunAsUser        *int64   `json:"runAsUser,omitempty"`
	RunAsGroup       *int64   `json:"runAsGroup,omitempty"`
	NoNewPrivileges  bool     `json:"noNewPrivileges,omitempty"`
	AddCapabilities  []string `json:"addCapabilities,omitempty"`
	DropCapabilities []string `json:"dropCapabilities,omitempty"`
}
