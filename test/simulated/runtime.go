package simulated

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nationtech/fleet/agent/driver/podman"
	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// How long a step takes, as podman on a small machine: image pulls and starts take
// longest. Each takes between half and all of it.
var pace = map[reconcile.Kind]time.Duration{
	reconcile.Pull: 800 * time.Millisecond, reconcile.CreatePod: 100 * time.Millisecond, reconcile.StartInfra: 250 * time.Millisecond,
	reconcile.Create: 60 * time.Millisecond, reconcile.Start: 250 * time.Millisecond, reconcile.Stop: 250 * time.Millisecond,
	reconcile.Remove: 300 * time.Millisecond, reconcile.RemovePod: 300 * time.Millisecond,
}

// badTag is of images that can't be pulled.
const badTag = ":bad"

// runtime takes podman's place below an agent: it has pods and containers, which cost
// nothing, and takes as long as podman does. It is an agent.Podman.
type runtime struct {
	mu     sync.Mutex
	pods   map[contracts.DeploymentName][]reconcile.Pod
	images map[string]bool
	next   int
	handle func(podman.Event)
}

func newRuntime() *runtime {
	return &runtime{pods: map[contracts.DeploymentName][]reconcile.Pod{}, images: map[string]bool{}}
}

func (r *runtime) Observe(_ context.Context, n contracts.DeploymentName, want *reconcile.Desired) (reconcile.Observed, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := reconcile.Observed{Images: map[string]bool{}}
	for _, p := range r.pods[n] {
		if p.Infra != nil {
			infra := *p.Infra
			p.Infra = &infra
		}
		p.Containers = slices.Clone(p.Containers)
		o.Pods = append(o.Pods, p)
	}
	if want != nil {
		for _, u := range want.Units {
			o.Images[u.Spec.Image] = r.images[u.Spec.Image]
		}
	}
	return o, nil
}

func (r *runtime) Do(ctx context.Context, want *reconcile.Desired, s reconcile.Step) error {
	took := pace[s.Kind]
	timer := time.NewTimer(took/2 + rand.N(took/2+1))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return &reconcile.Failure{Reason: reconcile.ReasonStart, Message: ctx.Err().Error()}
	case <-timer.C:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch s.Kind {
	case reconcile.Pull:
		if strings.HasSuffix(s.Image, badTag) {
			return &reconcile.Failure{Reason: reconcile.ReasonImagePull, Message: "pull " + s.Image + ": manifest unknown"}
		}
		r.images[s.Image] = true
		return nil
	case reconcile.CreatePod:
		p := reconcile.Pod{ID: r.id(), Name: want.PodName, Hash: want.PodHash}
		if !want.HostNetwork {
			p.Infra = &reconcile.Container{ID: r.id(), State: reconcile.StateCreated}
		}
		r.pods[want.Deployment] = append(r.pods[want.Deployment], p)
		return nil
	case reconcile.RemovePod:
		for n, pods := range r.pods {
			if pods = slices.DeleteFunc(pods, func(p reconcile.Pod) bool { return p.Name == s.Pod }); len(pods) == 0 {
				delete(r.pods, n)
			} else {
				r.pods[n] = pods
			}
		}
		return nil
	case reconcile.StartInfra, reconcile.Create:
		p := r.pod(cmp.Or(s.Pod, want.PodName))
		if p == nil {
			return &reconcile.Failure{Reason: reconcile.ReasonStart, Message: s.String() + ": no such pod"}
		}
		if s.Kind == reconcile.StartInfra {
			p.Infra.State = reconcile.StateRunning
			return nil
		}
		u := want.Find(s.Unit)
		p.Containers = append(p.Containers, reconcile.Container{ID: r.id(), Name: u.ContainerName, Unit: u.Name, Hash: u.Hash, Init: u.Init, Image: u.Spec.Image, State: reconcile.StateCreated})
		return nil
	}
	return r.change(s, want)
}

// change starts, stops or removes a container.
func (r *runtime) change(s reconcile.Step, want *reconcile.Desired) error {
	for _, pods := range r.pods {
		for i := range pods {
			for j := range pods[i].Containers {
				c := &pods[i].Containers[j]
				if c.ID != s.Container && (s.Container != "" || want == nil || c.Name != want.Find(s.Unit).ContainerName) {
					continue
				}
				switch {
				case s.Kind == reconcile.Remove:
					pods[i].Containers = slices.Delete(pods[i].Containers, j, j+1)
				case s.Kind == reconcile.Stop:
					c.State, c.Finished = reconcile.StateExited, time.Now()
				case c.Init:
					c.State, c.Started, c.Finished = reconcile.StateExited, time.Now(), time.Now()
				default:
					r.next++
					c.State, c.Started, c.PID = reconcile.StateRunning, time.Now(), r.next
				}
				return nil
			}
		}
	}
	return &reconcile.Failure{Reason: reconcile.ReasonStart, Message: s.String() + ": no such container"}
}

func (r *runtime) id() string { r.next++; return fmt.Sprint("c", r.next) }

func (r *runtime) pod(name string) *reconcile.Pod {
	for _, pods := range r.pods {
		for i := range pods {
			if pods[i].Name == name {
				return &pods[i]
			}
		}
	}
	return nil
}

// crash ends every container of a deployment, as a program that fails does.
func (r *runtime) crash(n contracts.DeploymentName) {
	r.mu.Lock()
	var ended []string
	for _, p := range r.pods[n] {
		for i := range p.Containers {
			if c := &p.Containers[i]; c.State == reconcile.StateRunning {
				c.State, c.Finished, c.ExitCode = reconcile.StateExited, time.Now(), 1
				ended = append(ended, c.ID)
			}
		}
	}
	handle := r.handle
	r.mu.Unlock()
	for _, id := range ended {
		if handle != nil {
			handle(podman.Event{Deployment: n, Container: id})
		}
	}
}

func (r *runtime) Watch(ctx context.Context, handle func(podman.Event)) {
	set := func(handle func(podman.Event)) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.handle = handle
	}
	set(handle)
	<-ctx.Done()
	set(nil) // the agent that it belongs to is gone, with its connection
}

func (r *runtime) Containers(_ context.Context, n contracts.DeploymentName) ([]reconcile.Container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []reconcile.Container
	for _, p := range r.pods[n] {
		out = append(out, p.Containers...)
	}
	return out, nil
}

func (r *runtime) Deployments(context.Context) (map[contracts.DeploymentName]bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[contracts.DeploymentName]bool{}
	for n := range maps.Keys(r.pods) {
		out[n] = true
	}
	return out, nil
}

var errNothing = errors.New("a simulated container has nothing of the kind")

func (*runtime) Settle(context.Context, contracts.DeploymentName, *reconcile.Desired) error {
	return nil
}
func (*runtime) Rootless(context.Context) (bool, error)      { return false, nil }
func (*runtime) Version(context.Context) (string, error)     { return "simulated", nil }
func (*runtime) Log(context.Context, string) (string, error) { return "", nil }
func (*runtime) Address(context.Context, string) (reconcile.Address, error) {
	return reconcile.Address{Host: "127.0.0.1"}, nil
}
func (*runtime) Exec(context.Context, string, contracts.Container, []string) error { return errNothing }
func (*runtime) StreamLog(context.Context, string, podman.LogOptions, io.Writer) error {
	return errNothing
}
func (*runtime) Run(context.Context, string, podman.Command) (int, error) { return 0, errNothing }
