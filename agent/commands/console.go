package commands

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
)

// machines reports whether the deployment runs virtual machines.
func (h *Handler) machines(n contracts.DeploymentName) bool {
	return h.Machines != nil && h.DriverOf != nil && h.DriverOf(n) == contracts.DriverKVM
}

// console shows what a machine wrote to its serial console, which is the log that it has.
func (h *Handler) console(ctx context.Context, r contracts.LogsRequest) (bus.Task, error) {
	switch {
	case r.Previous:
		return nil, contracts.CommandErrorf(contracts.CodeUnsupported, "libvirt keeps one console log for all runs of a machine, so there is no previous one: it is in the log itself, see --tail")
	case r.SinceSeconds != nil, r.SinceTime != nil, r.Timestamps:
		return nil, contracts.CommandErrorf(contracts.CodeUnsupported, "what a machine writes to its console has no times: --since and --timestamps can't be used, see --tail")
	}
	all, err := h.Machines.Machines(ctx, r.Deployment)
	if err != nil {
		return nil, err
	}
	domain, err := chooseMachine(r.Deployment, r.Container, all)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, s bus.Streams) (contracts.CommandEnd, error) {
		return contracts.CommandEnd{}, h.Machines.StreamConsole(ctx, domain, r.Tail, r.Follow, s.Stdout)
	}, nil
}

// chooseMachine finds the machine that is meant: by its name in the score or, without
// one, the only one there is.
func chooseMachine(n contracts.DeploymentName, name string, all map[string]string) (string, error) {
	names := slices.Sorted(maps.Keys(all))
	switch {
	case len(names) == 0:
		return "", contracts.CommandErrorf(contracts.CodeNotFound, "this device has no machine of deployment %s", n)
	case name != "" && all[name] != "":
		return all[name], nil
	case name != "":
		return "", contracts.CommandErrorf(contracts.CodeNotFound, "deployment %s has no machine %s on this device; there is %s", n, name, strings.Join(names, ", "))
	case len(names) > 1:
		return "", contracts.CommandErrorf(contracts.CodeInvalid, "deployment %s has several machines, name one of %s", n, strings.Join(names, ", "))
	}
	return all[names[0]], nil
}
