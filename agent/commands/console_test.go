package commands

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/nationtech/fleet/agent/config"
	"github.com/nationtech/fleet/contracts"
)

func TestChooseMachine(t *testing.T) {
	two := map[string]string{"till": "fleet_d_shop_till", "kiosk": "fleet_d_shop_kiosk"}
	for name, tt := range map[string]struct {
		name string
		all  map[string]string
		want string
		code contracts.CommandCode
		says string
	}{
		"the only one":          {"", map[string]string{"till": "fleet_d_shop_till"}, "fleet_d_shop_till", "", ""},
		"one by its name":       {"kiosk", two, "fleet_d_shop_kiosk", "", ""},
		"one of several":        {"", two, "", contracts.CodeInvalid, "kiosk, till"},
		"one that is not there": {"web", two, "", contracts.CodeNotFound, "there is kiosk, till"},
		"no machine":            {"", nil, "", contracts.CodeNotFound, "no machine of deployment shop"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := chooseMachine("shop", tt.name, tt.all)
			if got != tt.want {
				t.Errorf("chose %q, want %q", got, tt.want)
			}
			e, _ := errors.AsType[*contracts.CommandError](err)
			if (e == nil) != (tt.code == "") || e != nil && (e.Code != tt.code || !strings.Contains(e.Message, tt.says)) {
				t.Errorf("error %v, want one of code %q that says %q", err, tt.code, tt.says)
			}
		})
	}
}

// noMachines has none, which is all that is asked for here.
type noMachines struct{}

func (noMachines) Machines(context.Context, contracts.DeploymentName) (map[string]string, error) {
	return nil, nil
}
func (noMachines) StreamConsole(context.Context, string, *int64, bool, io.Writer) error { return nil }

func TestWhatMachinesCannotDoIsSaid(t *testing.T) {
	h := &Handler{Allow: config.Commands{Logs: true, Exec: true}, Machines: noMachines{}, DriverOf: func(contracts.DeploymentName) string { return contracts.DriverKVM }}
	minute := int64(60)
	for name, tt := range map[string]struct {
		request contracts.CommandRequest
		says    string
	}{
		"a command":            {contracts.CommandRequest{Verb: contracts.VerbExec, Exec: &contracts.ExecRequest{Deployment: "shop"}}, "log in with ssh"},
		"a log from a time on": {contracts.CommandRequest{Verb: contracts.VerbLogs, Logs: &contracts.LogsRequest{Deployment: "shop", SinceSeconds: &minute}}, "has no times"},
		"the run before":       {contracts.CommandRequest{Verb: contracts.VerbLogs, Logs: &contracts.LogsRequest{Deployment: "shop", Previous: true}}, "no previous one"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := h.Prepare(t.Context(), tt.request)
			if e, ok := errors.AsType[*contracts.CommandError](err); !ok || e.Code != contracts.CodeUnsupported || !strings.Contains(e.Message, tt.says) {
				t.Errorf("error %v, want one that says %q", err, tt.says)
			}
		})
	}
}
