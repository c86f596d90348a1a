package podman

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// listedContainer is a container in podman's list.
type listedContainer struct {
	ID        string            `json:"Id"`
	Names     []string          `json:"Names"`
	Image     string            `json:"Image"`
	Labels    map[string]string `json:"Labels"`
	Pod       string            `json:"Pod"`
	IsInfra   bool              `json:"IsInfra"`
	State     string            `json:"State"`
	ExitCode  int32             `json:"ExitCode"`
	PID       int               `json:"Pid"`
	StartedAt int64             `json:"StartedAt"`
	ExitedAt  int64             `json:"ExitedAt"`
}

// listedPod is a pod in podman's list.
type listedPod struct {
	ID     string            `json:"Id"`
	Name   string            `json:"Name"`
	Labels map[string]string `json:"Labels"`
}

// Deployments are those that podman has something of.
func (d *Driver) Deployments(ctx context.Context) (map[contracts.DeploymentName]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pods, containers, err := d.list(ctx, "")
	if err != nil {
		return nil, d.failure("list containers", err, reconcile.ReasonNoDriver)
	}
	names := map[contracts.DeploymentName]bool{}
	for _, p := range pods {
		names[contracts.DeploymentName(p.Labels[LabelDeployment])] = true
	}
	for _, c := range containers {
		names[contracts.DeploymentName(c.Labels[LabelDeployment])] = true
	}
	// Not made by an agent, which gives every deployment a name.
	delete(names, "")
	return names, nil
}

// Containers are all that podman has of a deployment, but for those that
// only hold a pod's network.
func (d *Driver) Containers(ctx context.Context, n contracts.DeploymentName) ([]reconcile.Container, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, listed, err := d.list(ctx, n)
	if err != nil {
		return nil, d.failure("list containers", err, reconcile.ReasonNoDriver)
	}
	var out []reconcile.Container
	for _, l := range listed {
		if !l.IsInfra {
			out = append(out, l.container())
		}
	}
	return out, nil
}

// Observe is what podman has of a deployment, and which of the images. The error
// is a *reconcile.Failure.
func (d *Driver) Observe(ctx context.Context, n contracts.DeploymentName, want *reconcile.Desired) (reconcile.Observed, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	o := reconcile.Observed{Images: map[string]bool{}}
	if err := d.discardDoubtful(ctx); err != nil {
		return o, err
	}
	pods, containers, err := d.list(ctx, n)
	if err != nil {
		return o, d.failure("list containers", err, reconcile.ReasonNoDriver)
	}
	byID := map[string]int{}
	for i, p := range pods {
		byID[p.ID] = i
		o.Pods = append(o.Pods, reconcile.Pod{ID: p.ID, Name: p.Name, Hash: p.Labels[labelHash]})
	}
	for _, l := range containers {
		c := l.container()
		i, inPod := byID[l.Pod]
		switch {
		case !inPod:
			o.Strays = append(o.Strays, c)
		case l.IsInfra:
			o.Pods[i].Infra = &c
		default:
			o.Pods[i].Containers = append(o.Pods[i].Containers, c)
		}
	}
	return o, d.images(ctx, want, &o)
}

// images looks for the images of containers that are missing; the others have
// theirs.
func (d *Driver) images(ctx context.Context, want *reconcile.Desired, o *reconcile.Observed) error {
	if want == nil {
		return nil
	}
	pod := o.Current(want)
	for _, u := range want.Units {
		if _, known := o.Images[u.Spec.Image]; known || pod != nil && pod.Find(u) != nil {
			continue
		}
		err := d.c.call(ctx, http.MethodGet, "/images/"+url.PathEscape(reference(u.Spec.Image))+"/exists", nil, nil, nil)
		if err != nil && !isStatus(err, http.StatusNotFound) {
			return d.failure("look for image "+u.Spec.Image, err, reconcile.ReasonImagePull)
		}
		o.Images[u.Spec.Image] = err == nil
	}
	return nil
}

// list asks for what carries the device's label, of one deployment or of all.
func (d *Driver) list(ctx context.Context, n contracts.DeploymentName) ([]listedPod, []listedContainer, error) {
	labels := []string{LabelDevice + "=" + string(d.o.Device)}
	if n != "" {
		labels = append(labels, LabelDeployment+"="+string(n))
	}
	query := url.Values{"all": {"true"}, "filters": {filters(map[string][]string{"label": labels})}}
	var pods []listedPod
	if err := d.c.call(ctx, http.MethodGet, "/pods/json", query, nil, &pods); err != nil {
		return nil, nil, err
	}
	var containers []listedContainer
	if err := d.c.call(ctx, http.MethodGet, "/containers/json", query, nil, &containers); err != nil {
		return nil, nil, err
	}
	return pods, containers, nil
}

func (l listedContainer) container() reconcile.Container {
	c := reconcile.Container{ID: l.ID, Unit: l.Labels[LabelContainer], Hash: l.Labels[labelHash], Init: l.Labels[labelInit] != "", Image: l.Image, PID: l.PID,
		ExitCode: l.ExitCode, Started: moment(l.StartedAt), Finished: moment(l.ExitedAt), State: state(l.State)}
	if len(l.Names) > 0 {
		c.Name = l.Names[0]
	}
	return c
}

// state puts podman's words into those of package reconcile.
func state(word string) reconcile.State {
	switch word {
	case "created", "configured", "initialized":
		return reconcile.StateCreated
	case "running", "stopping":
		return reconcile.StateRunning
	case "paused":
		return reconcile.StatePaused
	case "exited", "stopped":
		return reconcile.StateExited
	}
	return reconcile.StateBroken
}

// moment is zero for podman's way to say never, the year 1.
func moment(seconds int64) time.Time {
	if seconds <= 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}
