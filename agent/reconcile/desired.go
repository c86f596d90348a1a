package reconcile

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nationtech/fleet/contracts"
)

// Desired is a pod as this device shall run it.
type Desired struct {
	Deployment contracts.DeploymentName
	Revision   string
	Digest     string
	// PodName is the pod's name in the runtime; it differs for different PodHash.
	PodName     string
	PodHash     string
	HostNetwork bool
	// RestartPolicy is Always, OnFailure or Never.
	RestartPolicy string
	// Stop is the time from SIGTERM to SIGKILL.
	Stop time.Duration
	// Deadline is how long the pod may take to get healthy; 0 is for ever.
	Deadline time.Duration
	// Ports are those that are mapped to the device.
	Ports []contracts.Port
	// Units are the init containers in their order, then the containers.
	Units   []Unit
	Volumes map[string]Volume
	// PullSecrets are the credentials that images are pulled with. They are not part of
	// any container.
	PullSecrets []contracts.Secret
	// Sealed are the secrets, as they came; nil for none.
	Sealed *contracts.Sealed
}

// Unit is one wanted container.
type Unit struct {
	// Name in the score, and ContainerName in the runtime.
	Name          string
	ContainerName string
	Hash          string
	Init          bool
	Spec          contracts.Container
}

// Volume is a volume of the pod with a hash of what lies in it, so that a
// container that mounts changed files is another container.
type Volume struct {
	contracts.Volume
	Hash string
}

// Settings of the device that go into what it runs.
type Settings struct {
	Device contracts.DeviceID
	// HostIP is where a port without an address of its own is mapped; empty is
	// every address.
	HostIP string
	// Rootless tells that podman has no rights of its own on the device: nobody but
	// its pods reaches their network, so what is probed has to be mapped.
	Rootless bool
}

// hashFormat is part of every hash. Raising it replaces every container of the
// fleet once, so it changes only when the same score has to become another
// container.
const hashFormat = "1"

// ErrNoDriver is for a score that this device has no driver for.
var ErrNoDriver = errors.New("no driver on this device runs such a score")

// Compile turns a score into what this device shall run.
func Compile(ds contracts.DesiredState, s Settings) (*Desired, error) {
	score := ds.Score.Podman
	if score == nil {
		return nil, fmt.Errorf("deployment %s, driver %q: %w", ds.Deployment, ds.Score.Driver(), ErrNoDriver)
	}
	d := &Desired{
		Deployment: ds.Deployment, Revision: ds.Revision, Digest: ds.Digest, HostNetwork: score.HostNetwork,
		RestartPolicy: score.RestartPolicy, Stop: time.Duration(score.StopSeconds) * time.Second,
		Deadline: time.Duration(ds.DeadlineSeconds) * time.Second, Volumes: map[string]Volume{},
		PullSecrets: score.PullSecrets, Sealed: ds.Sealed,
	}
	for _, v := range score.Volumes {
		d.Volumes[v.Name] = Volume{Volume: v, Hash: hash("volume", v)}
	}
	for _, c := range score.InitContainers {
		d.Units = append(d.Units, unit(c, true, d, score))
	}
	for _, c := range score.Containers {
		d.Units = append(d.Units, unit(c, false, d, score))
		for _, p := range c.Ports {
			if p.Host == 0 || score.HostNetwork {
				continue
			}
			if p.HostIP == "" {
				p.HostIP = s.HostIP
			}
			d.Ports = append(d.Ports, p)
		}
	}
	if s.Rootless && !d.HostNetwork {
		d.Ports = append(d.Ports, probed(score.Containers, d.Ports)...)
	}
	var inits []string
	for _, u := range d.Units {
		if u.Init {
			inits = append(inits, u.Hash)
		}
	}
	d.PodHash = hash("pod", d.HostNetwork, d.Ports, inits)
	prefix := fmt.Sprintf("fleet_%s_%s", s.Device, ds.Deployment)
	d.PodName = prefix + "_" + d.PodHash[:10]
	for i, u := range d.Units {
		// The pod's hash is in the name because the containers of the old pod and of
		// the new one exist side by side for a moment.
		d.Units[i].ContainerName = fmt.Sprintf("%s_%s_%s", prefix, u.Name, hash("name", d.PodHash, u.Hash)[:10])
	}
	return d, nil
}

// probed are the ports that probes need and nobody has mapped, each on a port of the
// device's loopback address that the runtime chooses.
func probed(containers []contracts.Container, mapped []contracts.Port) []contracts.Port {
	var more []contracts.Port
	need := func(n int32) {
		same := func(p contracts.Port) bool { return p.Container == n && p.Protocol == "TCP" }
		if !slices.ContainsFunc(mapped, same) && !slices.ContainsFunc(more, same) {
			more = append(more, contracts.Port{Container: n, HostIP: "127.0.0.1", Protocol: "TCP"})
		}
	}
	for _, c := range containers {
		for _, p := range []*contracts.Probe{c.Startup, c.Readiness, c.Liveness} {
			switch {
			case p == nil:
			case p.HTTP != nil:
				need(p.HTTP.Port)
			case p.TCP != nil:
				need(p.TCP.Port)
			}
		}
	}
	return more
}

// unit hashes what the container is made from: its own part of the score and the
// volumes that it mounts. Probes are left out as far as the agent alone carries
// them out, so that a changed probe needs no new container.
func unit(c contracts.Container, isInit bool, d *Desired, score *contracts.PodmanScore) Unit {
	made := c
	made.Startup, made.Readiness, made.Liveness, made.PullPolicy, made.Ports = nil, nil, nil, "", nil
	mounted := map[string]string{}
	for _, m := range c.Mounts {
		mounted[m.Volume] = d.Volumes[m.Volume].Hash
	}
	parts := []any{"container", made, mounted, HealthCommand(c), score.StopSeconds}
	if score.RestartedAt != "" {
		parts = append(parts, score.RestartedAt)
	}
	return Unit{Name: c.Name, Init: isInit, Spec: c, Hash: hash(parts...)}
}

// HealthCommand is the exec probe's command that becomes the container's
// health check, which podman can run without leaving a process behind; there is
// one per container. It is nil when no probe is of that kind.
func HealthCommand(c contracts.Container) []string {
	for _, p := range []*contracts.Probe{c.Liveness, c.Readiness, c.Startup} {
		if p != nil && len(p.Exec) > 0 {
			return p.Exec
		}
	}
	return nil
}

// Find returns the unit of that name, or nil.
func (d *Desired) Find(name string) *Unit {
	for i := range d.Units {
		if d.Units[i].Name == name {
			return &d.Units[i]
		}
	}
	return nil
}

// hash is over the JSON of its arguments, which has one form for one value: the
// types in it are structs, and maps are sorted.
func hash(parts ...any) string {
	h := sha256.New()
	h.Write([]byte(hashFormat))
	enc := json.NewEncoder(h)
	for _, p := range parts {
		if err := enc.Encode(p); err != nil {
			// Structs of strings and numbers are always encodable.
			panic(err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
