package resolve

import (
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
)

// Defaults are those of a Pod; the schema fills in most of them, but an object
// that was stored before the schema had one has none.
const (
	defaultStopSeconds      = 30
	defaultTimeout          = 1
	defaultPeriod           = 10
	defaultSuccessThreshold = 1
	defaultFailureThreshold = 3
)

func (t *Template) podman(p *v1alpha1.PodmanScore, d Device) (*contracts.PodmanScore, error) {
	out := &contracts.PodmanScore{
		HostNetwork:   p.HostNetwork,
		RestartPolicy: or(string(p.RestartPolicy), string(v1alpha1.RestartAlways)),
		StopSeconds:   defaultStopSeconds,
		RestartedAt:   p.RestartedAt,
	}
	if p.TerminationGracePeriodSeconds != nil {
		out.StopSeconds = *p.TerminationGracePeriodSeconds
	}
	var err error
	if out.PullSecrets, err = t.pullSecrets(p.ImagePullSecrets); err != nil {
		return nil, err
	}
	volumes := map[string]bool{}
	for i := range p.Volumes {
		v, err := t.volume(&p.Volumes[i])
		if err != nil {
			return nil, err
		}
		volumes[v.Name] = true
		out.Volumes = append(out.Volumes, v)
	}
	if out.InitContainers, err = t.containers(p.InitContainers, volumes, d); err != nil {
		return nil, err
	}
	out.Containers, err = t.containers(p.Containers, volumes, d)
	return out, err
}

func (t *Template) containers(list []v1alpha1.Container, volumes map[string]bool, d Device) ([]contracts.Container, error) {
	var out []contracts.Container
	for i := range list {
		c, err := t.container(&list[i], volumes, d)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func (t *Template) container(c *v1alpha1.Container, volumes map[string]bool, d Device) (contracts.Container, error) {
	env, err := t.environmentOf(c, d)
	if err != nil {
		return contracts.Container{}, err
	}
	out := contracts.Container{
		Name:       c.Name,
		Image:      c.Image,
		PullPolicy: or(string(c.ImagePullPolicy), string(pullPolicy(c.Image))),
		Command:    expandAll(c.Command, env),
		Args:       expandAll(c.Args, env),
		WorkingDir: c.WorkingDir,
		Security:   security(c.SecurityContext),
	}
	if env.shown != "" {
		return contracts.Container{}, invalid("container %s refers to $(%s), which is secret and would lie on the bus in the clear; take the variable in the container instead", c.Name, env.shown)
	}
	out.Env, out.SecretEnv = env.list()
	for _, p := range c.Ports {
		out.Ports = append(out.Ports, contracts.Port{
			Container: p.ContainerPort, Host: p.HostPort, HostIP: p.HostIP, Protocol: or(p.Protocol, "TCP"),
		})
	}
	for _, m := range c.VolumeMounts {
		if !volumes[m.Name] {
			return contracts.Container{}, invalid("container %s mounts volume %q, which is not among spec.score.podman.volumes", c.Name, m.Name)
		}
		out.Mounts = append(out.Mounts, contracts.Mount{Volume: m.Name, Path: m.MountPath, SubPath: m.SubPath, ReadOnly: m.ReadOnly})
	}
	if c.Resources != nil && c.Resources.Limits != nil {
		if cpu := c.Resources.Limits.CPU; cpu != nil {
			if out.CPUMillis = cpu.MilliValue(); out.CPUMillis <= 0 {
				return contracts.Container{}, invalid("container %s: the limit of cpu must be above 0", c.Name)
			}
		}
		if memory := c.Resources.Limits.Memory; memory != nil {
			if out.MemoryBytes = memory.Value(); out.MemoryBytes <= 0 {
				return contracts.Container{}, invalid("container %s: the limit of memory must be above 0", c.Name)
			}
		}
	}
	if out.Startup, err = probe(c, "startupProbe", c.StartupProbe); err != nil {
		return contracts.Container{}, err
	}
	if out.Readiness, err = probe(c, "readinessProbe", c.ReadinessProbe); err != nil {
		return contracts.Container{}, err
	}
	out.Liveness, err = probe(c, "livenessProbe", c.LivenessProbe)
	return out, err
}

func expandAll(list []string, env *environment) []string {
	var out []string
	for _, s := range list {
		out = append(out, expand(s, env.lookup))
	}
	return out
}

// pullPolicy is the default for an image: Always for the tag latest or no tag,
// else IfNotPresent, and a digest never changes.
func pullPolicy(image string) v1alpha1.PullPolicy {
	if strings.Contains(image, "@") {
		return v1alpha1.PullIfNotPresent
	}
	name := image[strings.LastIndex(image, "/")+1:]
	if _, tag, ok := strings.Cut(name, ":"); !ok || tag == "latest" {
		return v1alpha1.PullAlways
	}
	return v1alpha1.PullIfNotPresent
}

func probe(c *v1alpha1.Container, what string, p *v1alpha1.Probe) (*contracts.Probe, error) {
	if p == nil {
		return nil, nil
	}
	out := &contracts.Probe{
		InitialDelay:     p.InitialDelaySeconds,
		Timeout:          or(p.TimeoutSeconds, defaultTimeout),
		Period:           or(p.PeriodSeconds, defaultPeriod),
		SuccessThreshold: or(p.SuccessThreshold, defaultSuccessThreshold),
		FailureThreshold: or(p.FailureThreshold, defaultFailureThreshold),
	}
	switch {
	case p.HTTPGet != nil:
		port, err := probePort(c, what, p.HTTPGet.Port)
		if err != nil {
			return nil, err
		}
		out.HTTP = &contracts.HTTPProbe{Path: or(p.HTTPGet.Path, "/"), Port: port, HTTPS: p.HTTPGet.Scheme == "HTTPS"}
		for _, h := range p.HTTPGet.HTTPHeaders {
			out.HTTP.Headers = append(out.HTTP.Headers, contracts.EnvVar{Name: h.Name, Value: h.Value})
		}
	case p.TCPSocket != nil:
		port, err := probePort(c, what, p.TCPSocket.Port)
		if err != nil {
			return nil, err
		}
		out.TCP = &contracts.TCPProbe{Port: port}
	case p.Exec != nil:
		out.Exec = p.Exec.Command
	default:
		return nil, invalid("container %s, %s: exactly one of httpGet, tcpSocket and exec must be set", c.Name, what)
	}
	return out, nil
}

// probePort resolves a port by number or by the name of one of the container's
// ports.
func probePort(c *v1alpha1.Container, what string, port intstr.IntOrString) (int32, error) {
	number := port.IntVal
	if port.Type == intstr.String {
		for _, p := range c.Ports {
			if p.Name != "" && p.Name == port.StrVal {
				return p.ContainerPort, nil
			}
		}
		n, err := strconv.ParseInt(port.StrVal, 10, 32)
		if err != nil {
			return 0, invalid("container %s, %s: the container has no port named %q", c.Name, what, port.StrVal)
		}
		number = int32(n)
	}
	if number < 1 || number > 65535 {
		return 0, invalid("container %s, %s: port %s is not between 1 and 65535", c.Name, what, port.String())
	}
	return number, nil
}

func security(s *v1alpha1.SecurityContext) *contracts.SecurityContext {
	if s == nil {
		return nil
	}
	out := &contracts.SecurityContext{
		Privileged:      s.Privileged,
		ReadOnlyRoot:    s.ReadOnlyRootFilesystem,
		RunAsUser:       s.RunAsUser,
		RunAsGroup:      s.RunAsGroup,
		NoNewPrivileges: s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation,
	}
	if s.Capabilities != nil {
		out.AddCapabilities, out.DropCapabilities = s.Capabilities.Add, s.Capabilities.Drop
	}
	return out
}

// or returns the value, or the default for a zero one.
func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
