package podman

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/nationtech/fleet/agent/reconcile"
)

func (d *Driver) createPod(ctx context.Context, want *reconcile.Desired) error {
	err := d.c.call(ctx, http.MethodPost, "/pods/create", nil, podSpecOf(want, d.o), nil)
	if isStatus(err, http.StatusConflict) {
		// Made by a step that was cut off, unless somebody else has the name: then
		// the next look does not find it and asks again.
		return nil
	}
	return err
}

// podDetail is a pod when it is looked at on its own.
type podDetail struct {
	InfraContainerID string
	Labels           map[string]string
	Containers       []struct {
		ID string `json:"Id"`
	}
}

func (d *Driver) inspectPod(ctx context.Context, name string) (podDetail, error) {
	var p podDetail
	err := d.c.call(ctx, http.MethodGet, "/pods/"+url.PathEscape(name)+"/json", nil, nil, &p)
	if err == nil && p.Labels[LabelDevice] != string(d.o.Device) {
		err = fmt.Errorf("pod %s was not made by this agent: it has no label %s=%s; rename or remove it", name, LabelDevice, d.o.Device)
	}
	return p, err
}

func (d *Driver) startInfra(ctx context.Context, pod string) error {
	p, err := d.inspectPod(ctx, pod)
	if err != nil {
		return err
	}
	// Started on its own rather than with the first container: podman gives the
	// reason, such as a port in use, only then.
	return d.c.call(ctx, http.MethodPost, "/containers/"+p.InfraContainerID+"/start", nil, nil, nil)
}

// removePod ends the containers in their grace period, all at once, then removes
// the pod with them.
func (d *Driver) removePod(ctx context.Context, name string) error {
	p, err := d.inspectPod(ctx, name)
	if isStatus(err, http.StatusNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var g errgroup.Group
	for _, c := range p.Containers {
		if c.ID != p.InfraContainerID {
			g.Go(func() error { return d.stop(ctx, c.ID) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	err = d.c.call(ctx, http.MethodDelete, "/pods/"+url.PathEscape(name), url.Values{"force": {"true"}}, nil, nil)
	if isStatus(err, http.StatusNotFound) {
		return nil
	}
	return err
}

func (d *Driver) create(ctx context.Context, want *reconcile.Desired, u reconcile.Unit) error {
	if err := d.provide(ctx, want, u); err != nil {
		return err
	}
	err := d.c.call(ctx, http.MethodPost, "/containers/create", nil, containerSpecOf(want, u, d.o), nil)
	if !isCause(err, "name is already in use") {
		return err
	}
	return d.adopt(ctx, u, err)
}

// adopt accepts a container of the wanted name if it is the wanted one, made by a
// step that was cut off. One of another's is left alone.
func (d *Driver) adopt(ctx context.Context, u reconcile.Unit, taken error) error {
	var out struct {
		Config struct{ Labels map[string]string }
	}
	if err := d.c.call(ctx, http.MethodGet, "/containers/"+url.PathEscape(u.ContainerName)+"/json", nil, nil, &out); err != nil {
		return errors.Join(taken, err)
	}
	l := out.Config.Labels
	if l[LabelDevice] == string(d.o.Device) && l[labelHash] == u.Hash {
		return nil
	}
	return fmt.Errorf("container %s was not made by this agent; rename or remove it: %w", u.ContainerName, taken)
}

func (d *Driver) start(ctx context.Context, want *reconcile.Desired, s reconcile.Step) error {
	id := s.Container
	if id == "" {
		id = want.Find(s.Unit).ContainerName
	}
	return d.c.call(ctx, http.MethodPost, "/containers/"+url.PathEscape(id)+"/start", nil, nil, nil)
}

// stop ends a container in the grace period that it was made with.
func (d *Driver) stop(ctx context.Context, id string) error {
	err := d.c.call(ctx, http.MethodPost, "/containers/"+id+"/stop", nil, nil, nil)
	if err == nil || isStatus(err, http.StatusNotFound) || slices.ContainsFunc(notRunning, func(w string) bool { return isCause(err, w) }) {
		return nil
	}
	return err
}

// notRunning is what podman says of a container that can't be stopped because it
// does not run.
var notRunning = []string{"container state improper", "container already stopped"}

func (d *Driver) unpause(ctx context.Context, id string) error {
	err := d.c.call(ctx, http.MethodPost, "/containers/"+id+"/unpause", nil, nil, nil)
	if isStatus(err, http.StatusNotFound) {
		return nil
	}
	return err
}

func (d *Driver) remove(ctx context.Context, id string) error {
	if err := d.stop(ctx, id); err != nil {
		return err
	}
	// v removes the anonymous volumes that the image asked for.
	err := d.c.call(ctx, http.MethodDelete, "/containers/"+id, url.Values{"force": {"true"}, "v": {"true"}}, nil, nil)
	if isStatus(err, http.StatusNotFound) {
		return nil
	}
	return err
}
