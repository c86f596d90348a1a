// Package policy decides what a score may reach of the device that runs it. The fleet
// says what runs in containers and machines; what these may touch outside of themselves
// is for the device's owner to say, in the agent's configuration, and without a word of
// theirs it is nothing but ports that any user of the device may take. The fleet, its Git
// repository and its cluster can all be in the wrong hands, and the device still belongs
// to its owner.
package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/nationtech/fleet/contracts"
)

// Device is what the device's owner allows scores of each kind.
type Device struct {
	Podman Podman
	KVM    KVM
}

// Check returns what is refused of a score, or nil when all of it is allowed.
func (d Device) Check(s contracts.ReconcileScore) *Refusal {
	switch {
	case s.Podman != nil:
		return d.Podman.Check(s.Podman)
	case s.KVM != nil:
		return d.KVM.Check(s.KVM)
	}
	return nil
}

// Podman is what the device's owner allows scores of podman.
type Podman struct {
	// HostPaths are files and directories of the device that may be mounted: each of
	// them as it is, and nothing below it. A path below could lead anywhere, over a link
	// that a container has put there, and no look at it before it is mounted helps
	// against one that is put there after the look.
	HostPaths []string
	// Privileged containers are allowed. They are root on the device.
	Privileged bool
	// HostNetwork allows pods in the device's own network, where they reach what listens
	// on its loopback addresses.
	HostNetwork bool
	// Capabilities that containers may add, without CAP_; ALL allows every one.
	Capabilities []string
	// HostPorts are the device's ports that pods may be reached at.
	HostPorts []Ports
}

// Ports are those from First to Last.
type Ports struct{ First, Last int32 }

// Unprivileged are the ports that every user of a device may take.
var Unprivileged = Ports{1024, 65535}

// Refusal is what a score reaches for that the device does not allow.
type Refusal struct{ reaches []reach }

// reach is one thing that is not allowed.
type reach struct {
	// kind is container or machine, and part its name in the score; empty for the whole.
	kind, part string
	// what in the words of the Deployment, and the setting that would allow it.
	what, setting string
}

// Error says of each thing where it is in the Deployment and which setting of the agent
// would allow it.
func (r *Refusal) Error() string {
	var b strings.Builder
	b.WriteString("the agent's configuration on this device does not allow ")
	for i, one := range r.reaches {
		if i > 0 {
			b.WriteString("; ")
		}
		if one.part != "" {
			fmt.Fprintf(&b, "%s %s: ", one.kind, one.part)
		}
		fmt.Fprintf(&b, "%s (it would with %s)", one.what, one.setting)
	}
	return b.String()
}

// Concerns reports whether a container or machine of that name is or has what is refused.
func (r *Refusal) Concerns(name string) bool {
	return slices.ContainsFunc(r.reaches, func(one reach) bool { return one.part == "" || one.part == name })
}

// Check returns what is refused of a score, or nil when all of it is allowed.
func (p Podman) Check(s *contracts.PodmanScore) *Refusal {
	if s == nil {
		return nil
	}
	var r Refusal
	if s.HostNetwork && !p.HostNetwork {
		r.add("", "hostNetwork", "podman.allow.hostNetwork: true")
	}
	volumes := map[string]*contracts.HostPath{}
	for i := range s.Volumes {
		volumes[s.Volumes[i].Name] = s.Volumes[i].HostPath
	}
	for _, list := range [][]contracts.Container{s.InitContainers, s.Containers} {
		for i := range list {
			p.checkContainer(&r, s, &list[i], volumes)
		}
	}
	if len(r.reaches) == 0 {
		return nil
	}
	return &r
}

func (r *Refusal) add(container, what, setting string) {
	r.reaches = append(r.reaches, reach{"container", container, what, setting})
}

func (p Podman) checkContainer(r *Refusal, s *contracts.PodmanScore, c *contracts.Container, volumes map[string]*contracts.HostPath) {
	if sec := c.Security; sec != nil {
		if sec.Privileged && !p.Privileged {
			r.add(c.Name, "securityContext.privileged", "podman.allow.privileged: true")
		}
		for _, name := range sec.AddCapabilities {
			if have := Capability(name); !slices.Contains(p.Capabilities, have) && !slices.Contains(p.Capabilities, "ALL") {
				r.add(c.Name, "capability "+have, fmt.Sprintf("podman.allow.capabilities: [%s]", have))
			}
		}
	}
	for _, m := range c.Mounts {
		if v := volumes[m.Volume]; v != nil {
			p.checkPath(r, c.Name, m, v)
		}
	}
	for _, port := range c.Ports {
		// In the device's own network a port is not mapped, and the pod may take any.
		if port.Host == 0 || s.HostNetwork || p.allowsPort(port.Host) {
			continue
		}
		r.add(c.Name, fmt.Sprintf("hostPort %d", port.Host), fmt.Sprintf("podman.allow.hostPorts: [%d]", port.Host))
	}
}

// checkPath looks at what is mounted, which is below the volume's path where the mount
// has a subPath, and at what is made when it is missing.
func (p Podman) checkPath(r *Refusal, container string, m contracts.Mount, v *contracts.HostPath) {
	if slices.Contains(strings.Split(v.Path, "/"), "..") {
		r.add(container, fmt.Sprintf("host path %s with '..'", v.Path), "the path without them in podman.allow.hostPaths")
		return
	}
	paths := []string{path.Join(v.Path, m.SubPath)}
	if whole := path.Clean(v.Path); v.Create && whole != paths[0] {
		paths = append(paths, whole)
	}
	for _, one := range paths {
		if !slices.Contains(p.HostPaths, one) {
			r.add(container, "host path "+one, fmt.Sprintf("podman.allow.hostPaths: [%s]", one))
		}
	}
}

func (p Podman) allowsPort(n int32) bool {
	return slices.ContainsFunc(p.HostPorts, func(a Ports) bool { return a.First <= n && n <= a.Last })
}

// Capability is a capability's name as it is compared: podman takes either case, with
// CAP_ or without.
func Capability(name string) string { return strings.TrimPrefix(strings.ToUpper(name), "CAP_") }
