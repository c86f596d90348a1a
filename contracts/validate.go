package contracts

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// Bounds of what a device may say, so that a hostile one can't fill a memory or a
// screen.
const (
	maxReason     = 64
	maxMessage    = 1024
	maxLog        = 2048
	maxText       = 512
	maxContainers = 64
	maxAddresses  = 64
	maxDrivers    = 16
	maxHandovers  = 16
	// maxSecretName holds the names of a Secret and of a key in it.
	maxSecretName = 2*253 + 1
)

var phases = []Phase{PhasePending, PhasePulling, PhaseApplying, PhaseRunning, PhaseDegraded, PhaseFailed, PhaseRolledBack, PhaseRemoved}

// isHex reports whether s is so many hexadecimal digits, in lower case.
func isHex(s string, digits int) bool {
	return len(s) == digits && strings.Trim(s, "0123456789abcdef") == ""
}

// firstError returns the first error there is.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func bounded(field, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("field %s has %d bytes, at most %d are allowed", field, len(s), limit)
	}
	return nil
}

func atMost(field string, n, limit int) error {
	if n > limit {
		return fmt.Errorf("field %s has %d entries, at most %d are allowed", field, n, limit)
	}
	return nil
}

func notNegative(field string, n int64) error {
	if n < 0 {
		return fmt.Errorf("field %s is negative: %d", field, n)
	}
	return nil
}

func oneOf(field, s string, allowed ...string) error {
	if !slices.Contains(allowed, s) {
		return fmt.Errorf("field %s is %q, want one of %s", field, clip(s), strings.Join(allowed, ", "))
	}
	return nil
}

func validateIdentity(n DeploymentName, revision, digest string) error {
	if _, err := ParseDeploymentName(string(n)); err != nil {
		return fmt.Errorf("field deployment: %w", err)
	}
	if !isDNSLabel(revision, 63) {
		return fmt.Errorf("field revision: %q is not a DNS label", clip(revision))
	}
	if !isHex(digest, 16) {
		return fmt.Errorf("field digest: %q is not 16 hexadecimal digits", clip(digest))
	}
	return nil
}

func (d *DesiredState) validate() error {
	if err := firstError(
		validateIdentity(d.Deployment, d.Revision, d.Digest),
		notNegative("deadlineSeconds", d.DeadlineSeconds),
		bounded("wave", d.Wave, 63),
		issued(d.Issued),
		d.Score.validate(),
		d.Sealed.validate(&d.Score),
	); err != nil {
		return err
	}
	if !isDNSLabel(d.Namespace, 63) {
		return fmt.Errorf("field namespace: %q is not a DNS label", clip(d.Namespace))
	}
	return nil
}

func (s *ReconcileScore) validate() error {
	var set []string
	for _, kind := range []struct {
		is   bool
		name string
	}{{s.Podman != nil, DriverPodman}, {s.Kubernetes != nil, DriverKubernetes}, {s.KVM != nil, DriverKVM}} {
		if kind.is {
			set = append(set, kind.name)
		}
	}
	switch {
	case len(set) > 1:
		return fmt.Errorf("field score: %s are both set, exactly one must be", strings.Join(set, " and "))
	case s.Podman != nil:
		return s.Podman.validate()
	case s.KVM != nil:
		return s.KVM.validate()
	case s.Kubernetes != nil:
		if len(s.Kubernetes.Manifests) == 0 {
			return fmt.Errorf("field score.kubernetes.manifests is empty")
		}
		return nil
	}
	return fmt.Errorf("field score: none of podman, kubernetes and kvm is set, exactly one must be")
}

func (p *PodmanScore) validate() error {
	if len(p.Containers) == 0 {
		return fmt.Errorf("field score.podman.containers is empty")
	}
	if err := firstError(
		oneOf("score.podman.restartPolicy", p.RestartPolicy, "Always", "OnFailure", "Never"),
		notNegative("score.podman.stopSeconds", p.StopSeconds),
		bounded("score.podman.restartedAt", p.RestartedAt, maxReason),
	); err != nil {
		return err
	}
	for i := range p.PullSecrets {
		if err := p.PullSecrets[i].validate(); err != nil {
			return fmt.Errorf("field pullSecrets: %w", err)
		}
	}
	volumes := map[string]bool{}
	for i := range p.Volumes {
		v := &p.Volumes[i]
		if err := v.validate(); err != nil {
			return fmt.Errorf("volume %q: %w", clip(v.Name), err)
		}
		if volumes[v.Name] {
			return fmt.Errorf("volume %q is there twice", clip(v.Name))
		}
		volumes[v.Name] = true
	}
	names := map[string]bool{}
	for _, list := range [][]Container{p.InitContainers, p.Containers} {
		for i := range list {
			c := &list[i]
			if err := c.validate(volumes); err != nil {
				return fmt.Errorf("container %q: %w", clip(c.Name), err)
			}
			if names[c.Name] {
				return fmt.Errorf("container %q is there twice", clip(c.Name))
			}
			names[c.Name] = true
		}
	}
	return nil
}

func (v *Volume) validate() error {
	if !isDNSLabel(v.Name, 63) {
		return fmt.Errorf("the name is not a DNS label")
	}
	kinds := 0
	for _, set := range []bool{v.Files != nil, v.SecretFiles != nil, v.EmptyDir != nil, v.HostPath != nil, v.Claim != ""} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		return fmt.Errorf("%d of files, secretFiles, emptyDir, hostPath and claim are set, exactly one must be", kinds)
	}
	if v.Files != nil {
		for _, f := range *v.Files {
			if err := firstError(relative("path", f.Path), mode(f.Mode)); err != nil {
				return fmt.Errorf("file %q: %w", clip(f.Path), err)
			}
		}
	}
	if v.SecretFiles != nil {
		for i := range *v.SecretFiles {
			f := &(*v.SecretFiles)[i]
			if err := firstError(relative("path", f.Path), mode(f.Mode), f.Secret.validate()); err != nil {
				return fmt.Errorf("file %q: %w", clip(f.Path), err)
			}
		}
	}
	if v.HostPath != nil {
		return absolute("hostPath.path", v.HostPath.Path)
	}
	if v.Claim != "" && (!isDNSLabel(v.Claim, 63)) {
		return fmt.Errorf("claim %q is not a DNS label", clip(v.Claim))
	}
	return nil
}

func mode(m int32) error {
	if m < 0 || m > 0o777 {
		return fmt.Errorf("mode %o is not between 0 and 777", m)
	}
	return nil
}

// relative accepts a path that stays below where it is put.
func relative(field, p string) error {
	if p == "" || path.IsAbs(p) || slices.Contains(strings.Split(p, "/"), "..") || strings.ContainsRune(p, 0) {
		return fmt.Errorf("field %s: %q must be relative and must not contain '..'", field, clip(p))
	}
	return nil
}

func absolute(field, p string) error {
	if !path.IsAbs(p) || strings.ContainsRune(p, 0) {
		return fmt.Errorf("field %s: %q must be absolute", field, clip(p))
	}
	return nil
}

func (c *Container) validate(volumes map[string]bool) error {
	if !isDNSLabel(c.Name, 63) {
		return fmt.Errorf("the name is not a DNS label")
	}
	if c.Image == "" {
		return fmt.Errorf("field image is empty")
	}
	if err := firstError(
		oneOf("pullPolicy", c.PullPolicy, "Always", "IfNotPresent", "Never"),
		notNegative("cpuMillis", c.CPUMillis),
		notNegative("memoryBytes", c.MemoryBytes),
		c.Startup.validate("startup"), c.Readiness.validate("readiness"), c.Liveness.validate("liveness"),
	); err != nil {
		return err
	}
	for _, e := range c.Env {
		if e.Name == "" || strings.ContainsAny(e.Name, "=\x00") || strings.ContainsRune(e.Value, 0) {
			return fmt.Errorf("variable %q can't be set", clip(e.Name))
		}
	}
	for i := range c.SecretEnv {
		e := &c.SecretEnv[i]
		if e.Name == "" || strings.ContainsAny(e.Name, "=\x00") {
			return fmt.Errorf("variable %q can't be set", clip(e.Name))
		}
		if err := e.Secret.validate(); err != nil {
			return fmt.Errorf("variable %q: %w", clip(e.Name), err)
		}
	}
	for _, p := range c.Ports {
		if err := p.validate(); err != nil {
			return err
		}
	}
	for _, m := range c.Mounts {
		if !volumes[m.Volume] {
			return fmt.Errorf("mount %q: there is no volume %q", clip(m.Path), clip(m.Volume))
		}
		if err := absolute("mount", m.Path); err != nil {
			return err
		}
		if m.SubPath != "" {
			if err := relative("subPath", m.SubPath); err != nil {
				return err
			}
		}
	}
	return nil
}

func port(field string, n int32) error {
	if n < 1 || n > 65535 {
		return fmt.Errorf("field %s: %d is not a port", field, n)
	}
	return nil
}

func (p Port) validate() error {
	if err := firstError(port("ports.container", p.Container), oneOf("ports.protocol", p.Protocol, "TCP", "UDP")); err != nil {
		return err
	}
	if p.Host != 0 {
		if err := port("ports.host", p.Host); err != nil {
			return err
		}
	}
	if p.HostIP != "" {
		if _, err := netip.ParseAddr(p.HostIP); err != nil {
			return fmt.Errorf("field ports.hostIP: %w", err)
		}
	}
	return nil
}

func (p *Probe) validate(field string) error {
	if p == nil {
		return nil
	}
	kinds := 0
	for _, set := range []bool{p.HTTP != nil, p.TCP != nil, len(p.Exec) > 0} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		return fmt.Errorf("field %s: %d of http, tcp and exec are set, exactly one must be", field, kinds)
	}
	if p.InitialDelay < 0 || p.Timeout < 1 || p.Period < 1 || p.SuccessThreshold < 1 || p.FailureThreshold < 1 {
		return fmt.Errorf("field %s: timeout, period and thresholds must be at least 1, initialDelay at least 0", field)
	}
	if p.HTTP != nil {
		return port(field+".http.port", p.HTTP.Port)
	}
	if p.TCP != nil {
		return port(field+".tcp.port", p.TCP.Port)
	}
	return nil
}

func (s *DeploymentState) validate() error {
	if err := firstError(
		validateIdentity(s.Deployment, s.Revision, s.Digest),
		bounded("reason", s.Reason, maxReason),
		bounded("message", s.Message, maxMessage),
		bounded("log", s.Log, maxLog),
		atMost("containers", len(s.Containers), maxContainers),
		notNegative("restarts", s.Restarts),
		notNegative("drifts", s.Drifts),
		notNegative("issued", s.Issued),
	); err != nil {
		return err
	}
	if !slices.Contains(phases, s.Phase) {
		return fmt.Errorf("field phase: %q is none of %v", clip(string(s.Phase)), phases)
	}
	for i := range s.Containers {
		c := &s.Containers[i]
		if err := firstError(
			bounded("containers.name", c.Name, 63), bounded("containers.id", c.ID, 64),
			bounded("containers.image", c.Image, maxMessage), bounded("containers.state", c.State, maxReason),
			bounded("containers.message", c.Message, maxMessage), notNegative("containers.restarts", c.Restarts),
		); err != nil {
			return err
		}
	}
	return nil
}

func (i *DeviceInfo) validate() error {
	if _, err := ParseDeviceID(string(i.Device)); err != nil {
		return fmt.Errorf("field device: %w", err)
	}
	if err := firstError(
		bounded("hostname", i.Hostname, maxText), bounded("os", i.OS, maxText), bounded("arch", i.Arch, maxReason),
		bounded("kernel", i.Kernel, maxText), bounded("agentVersion", i.AgentVersion, maxReason),
		bounded("bootID", i.BootID, maxReason), bounded("publicKey", i.PublicKey, maxReason),
		atMost("drivers", len(i.Drivers), maxDrivers), atMost("addresses", len(i.Addresses), maxAddresses),
		notNegative("capacity.cpus", int64(i.Capacity.CPUs)), notNegative("capacity.memoryBytes", i.Capacity.MemoryBytes),
		notNegative("capacity.storageBytes", i.Capacity.StorageBytes),
		i.Curve.validate(), notNegative("refused", i.Refused), bounded("refusedReason", i.RefusedReason, maxMessage),
	); err != nil {
		return err
	}
	for name, version := range i.Drivers {
		if err := firstError(bounded("drivers", name, maxReason), bounded("drivers."+clip(name), version, maxText)); err != nil {
			return err
		}
	}
	for _, a := range i.Addresses {
		if _, err := netip.ParseAddr(a); err != nil {
			return fmt.Errorf("field addresses: %w", err)
		}
	}
	return nil
}

func (h *HeartbeatPayload) validate() error {
	if h.Interval < 1 {
		return fmt.Errorf("field i (interval): %d is not at least 1 second", h.Interval)
	}
	if h.Seq > uint64(maxHeartbeats) {
		return fmt.Errorf("field n (number): %d is more than %d", h.Seq, maxHeartbeats)
	}
	if h.Uptime > maxHeartbeats {
		return fmt.Errorf("field up (uptime): %d is more than %d seconds", h.Uptime, maxHeartbeats)
	}
	return firstError(notNegative("t (time)", h.Time), notNegative("up (uptime)", h.Uptime))
}

// maxHeartbeats is how many there are in 136 years at one a second. Sums of such
// numbers, and durations in nanoseconds, are far from the bounds of their types.
const maxHeartbeats int64 = 1 << 32

func (s *Snapshot) validate() error {
	for i := range s.Entries {
		if _, err := ParseDeploymentName(string(s.Entries[i].Deployment)); err != nil {
			return fmt.Errorf("field entries: %w", err)
		}
	}
	if err := atMost("handovers", len(s.Handovers), maxHandovers); err != nil {
		return err
	}
	for i := range s.Handovers {
		if err := s.Handovers[i].validate(); err != nil {
			return fmt.Errorf("field handovers: %w", err)
		}
	}
	return nil
}

func (r *SnapshotRequest) validate() error {
	if r.After == "" {
		return nil
	}
	if _, err := ParseDeploymentName(string(r.After)); err != nil {
		return fmt.Errorf("field after: %w", err)
	}
	return nil
}
