package commands

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleet/agent/config"
	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

func TestWhatIsNotAllowedIsRefused(t *testing.T) {
	h := &Handler{}
	_, err := h.Ping()
	errs := map[contracts.Verb]error{contracts.VerbPing: err}
	for _, r := range []contracts.CommandRequest{
		{Verb: contracts.VerbLogs, Logs: &contracts.LogsRequest{}}, {Verb: contracts.VerbExec, Exec: &contracts.ExecRequest{}},
		{Verb: contracts.VerbRestart, Restart: &contracts.RestartRequest{}},
	} {
		_, errs[r.Verb] = h.Prepare(t.Context(), r)
	}
	for verb, err := range errs {
		if e, ok := errors.AsType[*contracts.CommandError](err); !ok || e.Code != contracts.CodeRefused || !strings.Contains(e.Message, "commands."+string(verb)) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if len(errs) != len(contracts.Verbs) {
		t.Errorf("%d verbs of %d", len(errs), len(contracts.Verbs))
	}
	// One that is allowed does not allow another.
	h = &Handler{Allow: config.Commands{Ping: true, Logs: true, Restart: true}, Restart: func(context.Context, contracts.DeploymentName, string) ([]string, error) { return nil, nil }}
	if _, err := h.Prepare(t.Context(), contracts.CommandRequest{Verb: contracts.VerbExec, Exec: &contracts.ExecRequest{}}); err == nil {
		t.Error("exec is carried out")
	}
	if _, err := h.Prepare(t.Context(), contracts.CommandRequest{Verb: contracts.VerbRestart, Restart: &contracts.RestartRequest{}}); err != nil {
		t.Error(err)
	}
}

func TestChoose(t *testing.T) {
	at := func(n int64) time.Time { return time.Unix(n, 0) }
	one := func(unit, id string, state reconcile.State, started int64) reconcile.Container {
		return reconcile.Container{Unit: unit, ID: id, State: state, Started: at(started)}
	}
	setup := one("setup", "s", reconcile.StateExited, 1)
	setup.Init = true
	for name, tt := range map[string]struct {
		name string
		all  []reconcile.Container
		want string
		code contracts.CommandCode
		says string
	}{
		"the only one":                  {"", []reconcile.Container{one("web", "w", reconcile.StateRunning, 1)}, "w", "", ""},
		"the only one but for inits":    {"", []reconcile.Container{setup, one("web", "w", reconcile.StateRunning, 1)}, "w", "", ""},
		"an init container by its name": {"setup", []reconcile.Container{setup, one("web", "w", reconcile.StateRunning, 1)}, "s", "", ""},
		"one of several":                {"", []reconcile.Container{one("web", "w", reconcile.StateRunning, 1), one("db", "d", reconcile.StateRunning, 1)}, "", contracts.CodeInvalid, "db, web"},
		"one that is not there":         {"cache", []reconcile.Container{one("web", "w", reconcile.StateRunning, 1), setup}, "", contracts.CodeNotFound, "setup, web"},
		"no container":                  {"", nil, "", contracts.CodeNotFound, "no container of deployment shop"},
		"no container of that name":     {"web", nil, "", contracts.CodeNotFound, "no container of deployment shop"},
		"the one that runs of two":      {"web", []reconcile.Container{one("web", "old", reconcile.StateRunning, 1), one("web", "new", reconcile.StateCreated, 2)}, "old", "", ""},
		"the later of two that run":     {"web", []reconcile.Container{one("web", "new", reconcile.StateRunning, 2), one("web", "old", reconcile.StateRunning, 1)}, "new", "", ""},
		"the later of two that ended":   {"", []reconcile.Container{one("web", "old", reconcile.StateExited, 1), one("web", "new", reconcile.StateExited, 2)}, "new", "", ""},
		"what is broken does not count": {"", []reconcile.Container{one("web", "w", reconcile.StateBroken, 1)}, "", contracts.CodeNotFound, "no container"},
		"what is not ours by its label": {"", []reconcile.Container{one("", "x", reconcile.StateRunning, 1)}, "", contracts.CodeNotFound, "no container"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := choose("shop", tt.name, tt.all)
			if c.ID != tt.want {
				t.Errorf("container %q, want %q", c.ID, tt.want)
			}
			e, _ := errors.AsType[*contracts.CommandError](err)
			if (e == nil) != (tt.code == "") || e != nil && (e.Code != tt.code || !strings.Contains(e.Message, tt.says)) {
				t.Errorf("error %v, want one of code %q that says %q", err, tt.code, tt.says)
			}
		})
	}
}
