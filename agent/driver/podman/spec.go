package podman

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// The bodies of libpod's create calls, as far as they are used here.
// https://docs.podman.io/en/latest/_static/api.html

type podSpec struct {
	Name         string              `json:"name"`
	Hostname     string              `json:"hostname,omitempty"`
	Labels       map[string]string   `json:"labels"`
	NoInfra      bool                `json:"no_infra,omitempty"`
	NetNS        *namespace          `json:"netns,omitempty"`
	Networks     map[string]struct{} `json:"Networks,omitempty"`
	PortMappings []portMapping       `json:"portmappings,omitempty"`
}

type portMapping struct {
	ContainerPort int32  `json:"container_port"`
	HostPort      int32  `json:"host_port"`
	HostIP        string `json:"host_ip,omitempty"`
	Protocol      string `json:"protocol"`
}

type namespace struct {
	Mode string `json:"nsmode"`
}

type containerSpec struct {
	Name       string            `json:"name"`
	Pod        string            `json:"pod"`
	Image      string            `json:"image"`
	Labels     map[string]string `json:"labels"`
	Entrypoint []string          `json:"entrypoint,omitempty"`
	Command    []string          `json:"command,omitempty"`
	WorkDir    string            `json:"work_dir,omitempty"`
	Env        map[string]string `json:"env,omitempty"`
	// SecretEnv are secrets by the variable that each becomes.
	SecretEnv       map[string]string `json:"secret_env,omitempty"`
	Secrets         []secretMount     `json:"secrets,omitempty"`
	Mounts          []mount           `json:"mounts,omitempty"`
	Volumes         []namedVolume     `json:"volumes,omitempty"`
	StopTimeout     int64             `json:"stop_timeout"`
	RestartPolicy   string            `json:"restart_policy"`
	NetNS           *namespace        `json:"netns,omitempty"`
	Privileged      bool              `json:"privileged,omitempty"`
	ReadOnlyRoot    bool              `json:"read_only_filesystem,omitempty"`
	User            string            `json:"user,omitempty"`
	NoNewPrivileges bool              `json:"no_new_privileges,omitempty"`
	CapAdd          []string          `json:"cap_add,omitempty"`
	CapDrop         []string          `json:"cap_drop,omitempty"`
	Resources       *resources        `json:"resource_limits,omitempty"`
	Health          *healthConfig     `json:"healthconfig,omitempty"`
	Log             logConfig         `json:"log_configuration"`
}

// logConfig is where a container's output goes.
type logConfig struct {
	Driver string `json:"driver"`
	// Size in bytes after which the log begins anew.
	Size int64 `json:"size"`
}

type mount struct {
	Destination string   `json:"Destination"`
	Type        string   `json:"Type"`
	Source      string   `json:"Source"`
	Options     []string `json:"Options,omitempty"`
}

// secretMount is a secret as a file. Its keys are podman's.
type secretMount struct {
	Source string `json:"Source"`
	Target string `json:"Target"`
	UID    uint32 `json:"UID"`
	GID    uint32 `json:"GID"`
	Mode   uint32 `json:"Mode"`
}

type namedVolume struct {
	Name    string   `json:"Name"`
	Dest    string   `json:"Dest"`
	Options []string `json:"Options,omitempty"`
}

type resources struct {
	Memory *memoryLimit `json:"memory,omitempty"`
	CPU    *cpuLimit    `json:"cpu,omitempty"`
}

type memoryLimit struct {
	Limit int64 `json:"limit"`
}

type cpuLimit struct {
	Quota  int64  `json:"quota"`
	Period uint64 `json:"period"`
}

type healthConfig struct {
	Test    []string      `json:"Test"`
	Timeout time.Duration `json:"Timeout"`
	Retries int           `json:"Retries"`
	// Interval 0 leaves the timing to the agent; otherwise podman makes a systemd
	// timer for each container.
	Interval time.Duration `json:"Interval"`
}

// logSize is how much of a container's log is kept at most, bytes: a container that talks
// for years must not fill the device's disk.
const logSize = 16 << 20

// cpuPeriod is the kernel's default for a quota, in microseconds.
const cpuPeriod = 100_000

func podSpecOf(d *reconcile.Desired, o Options) podSpec {
	labels := baseLabels(d, o)
	labels[labelHash] = d.PodHash
	s := podSpec{Name: d.PodName, Labels: labels}
	if d.HostNetwork {
		s.NoInfra = true
		return s
	}
	s.Hostname = string(d.Deployment)
	if o.Network != "" {
		s.NetNS = &namespace{Mode: "bridge"}
		s.Networks = map[string]struct{}{o.Network: {}}
	}
	for _, p := range d.Ports {
		s.PortMappings = append(s.PortMappings, portMapping{ContainerPort: p.Container, HostPort: p.Host, HostIP: p.HostIP, Protocol: strings.ToLower(p.Protocol)})
	}
	return s
}

func baseLabels(d *reconcile.Desired, o Options) map[string]string {
	return map[string]string{
		LabelDevice: string(o.Device), LabelDeployment: string(d.Deployment), LabelRevision: d.Revision, LabelDigest: d.Digest,
	}
}

func containerSpecOf(d *reconcile.Desired, u reconcile.Unit, o Options) containerSpec {
	c := u.Spec
	labels := baseLabels(d, o)
	labels[LabelContainer], labels[labelHash] = u.Name, u.Hash
	if u.Init {
		labels[labelInit] = "true"
	}
	s := containerSpec{
		Name: u.ContainerName, Pod: d.PodName, Image: reference(c.Image), Labels: labels,
		Entrypoint: c.Command, Command: c.Args, WorkDir: c.WorkingDir,
		StopTimeout: int64(d.Stop / time.Second),
		// The agent restarts what has ended, with the pauses of Kubernetes.
		RestartPolicy: "no",
		// Podman's own choice on a system with systemd is the journal, from which a user
		// who is in no group can't read back what their containers have written.
		Log: logConfig{Driver: "k8s-file", Size: logSize},
	}
	if d.HostNetwork {
		s.NetNS = &namespace{Mode: "host"}
	}
	if len(c.Env) > 0 {
		s.Env = map[string]string{}
		for _, e := range c.Env {
			s.Env[e.Name] = e.Value
		}
	}
	for _, m := range c.Mounts {
		if d.Volumes[m.Volume].SecretFiles == nil {
			s.mount(d, m, o)
		}
	}
	for _, secret := range secretsOf(d, u, o) {
		if secret.variable == "" {
			s.Secrets = append(s.Secrets, secretMount{Source: secret.name, Target: secret.target, Mode: uint32(secret.mode)})
			continue
		}
		if s.SecretEnv == nil {
			s.SecretEnv = map[string]string{}
		}
		s.SecretEnv[secret.variable] = secret.name
	}
	if c.MemoryBytes > 0 || c.CPUMillis > 0 {
		s.Resources = limits(c)
	}
	if sec := c.Security; sec != nil {
		s.Privileged, s.ReadOnlyRoot, s.NoNewPrivileges = sec.Privileged, sec.ReadOnlyRoot, sec.NoNewPrivileges
		s.CapAdd, s.CapDrop, s.User = sec.AddCapabilities, sec.DropCapabilities, user(sec)
	}
	if test := reconcile.HealthCommand(c); test != nil {
		s.Health = &healthConfig{Test: append([]string{"CMD"}, test...), Timeout: time.Hour, Retries: 1}
	}
	return s
}

func (s *containerSpec) mount(d *reconcile.Desired, m contracts.Mount, o Options) {
	access := "rw"
	if m.ReadOnly {
		access = "ro"
	}
	v := d.Volumes[m.Volume]
	bind := func(source string, options ...string) {
		s.Mounts = append(s.Mounts, mount{Destination: m.Path, Type: "bind", Source: path.Join(source, m.SubPath), Options: append([]string{"rbind"}, options...)})
	}
	switch {
	case v.Files != nil:
		// Read-only whatever is asked for, as a ConfigMap is in Kubernetes.
		bind(filesDir(o.VolumeDir, d.Deployment, v), "ro")
	case v.HostPath != nil:
		bind(v.HostPath.Path, access)
	default:
		s.Volumes = append(s.Volumes, namedVolume{Name: volumeName(d.Deployment, v, o), Dest: m.Path, Options: []string{access}})
	}
}

func limits(c contracts.Container) *resources {
	r := &resources{}
	if c.MemoryBytes > 0 {
		r.Memory = &memoryLimit{Limit: c.MemoryBytes}
	}
	if c.CPUMillis > 0 {
		r.CPU = &cpuLimit{Quota: c.CPUMillis * cpuPeriod / 1000, Period: cpuPeriod}
	}
	return r
}

func user(s *contracts.SecurityContext) string {
	switch {
	case s.RunAsUser != nil && s.RunAsGroup != nil:
		return fmt.Sprintf("%d:%d", *s.RunAsUser, *s.RunAsGroup)
	case s.RunAsUser != nil:
		return fmt.Sprint(*s.RunAsUser)
	case s.RunAsGroup != nil:
		return fmt.Sprintf("0:%d", *s.RunAsGroup)
	}
	return ""
}
