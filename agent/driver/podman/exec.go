package podman

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// Exec runs a probe's command in a container. The command that the container has
// as its health check is run as one, which leaves no process behind; another goes
// through podman's exec, which leaves its monitor for some minutes.
func (d *Driver) Exec(ctx context.Context, id string, spec contracts.Container, command []string) error {
	if slices.Equal(command, reconcile.HealthCommand(spec)) {
		return d.healthcheck(ctx, id)
	}
	return d.exec(ctx, id, command)
}

func (d *Driver) healthcheck(ctx context.Context, id string) error {
	var out struct{ Status string }
	if err := d.c.call(ctx, http.MethodGet, "/containers/"+id+"/healthcheck", nil, nil, &out); err != nil {
		return err
	}
	if out.Status == "healthy" {
		return nil
	}
	var detail struct {
		State struct {
			Health struct {
				Log []struct {
					ExitCode int
					Output   string
				}
			}
		}
	}
	if err := d.c.call(ctx, http.MethodGet, "/containers/"+id+"/json", nil, nil, &detail); err != nil {
		return err
	}
	log := detail.State.Health.Log
	if len(log) == 0 {
		return errors.New("the command failed")
	}
	last := log[len(log)-1]
	return exitError(last.ExitCode, last.Output)
}

func (d *Driver) exec(ctx context.Context, id string, command []string) error {
	var made struct {
		ID string `json:"Id"`
	}
	if err := d.c.call(ctx, http.MethodPost, "/containers/"+id+"/exec", nil, map[string]any{"Cmd": command, "AttachStdout": true}, &made); err != nil {
		return err
	}
	// Attached, so that the answer ends with the command.
	if err := d.c.call(ctx, http.MethodPost, "/exec/"+made.ID+"/start", nil, map[string]any{"Detach": false}, nil); err != nil {
		return err
	}
	var result struct{ ExitCode int }
	if err := d.c.call(ctx, http.MethodGet, "/exec/"+made.ID+"/json", nil, nil, &result); err != nil {
		return err
	}
	if result.ExitCode != 0 {
		return exitError(result.ExitCode, "")
	}
	return nil
}

func exitError(code int, output string) error {
	output = strings.TrimSpace(output)
	if len(output) > 256 {
		output = output[:256] + "…"
	}
	if output == "" {
		return fmt.Errorf("exit code %d", code)
	}
	return fmt.Errorf("exit code %d: %s", code, output)
}
