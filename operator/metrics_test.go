package operator_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/test/simulated"
)

// TestMetricsSayHowARolloutStands, and documentation and dashboard speak of metrics
// that there are.
func TestMetricsSayHowARolloutStands(t *testing.T) {
	f := newFleet(t)
	f.devices(3, simulated.Running)
	f.deploy("app", canary(0, nil))
	f.complete("app", 3)
	f.edit("app", func(d *v1alpha1.Deployment) {
		d.Spec.Rollout.Waves = append(d.Spec.Rollout.Waves, v1alpha1.Wave{Name: "last", Approval: v1alpha1.ApprovalManual})
		d.Spec.Score.Podman.Containers[0].Image = "example.org/app:2"
	})
	f.until("app", "waiting for approval", phase(v1alpha1.WaveAwaitingApproval, "last"))
	registered := map[string]bool{}
	// Transitions are counted when they are written.
	eventually(t, func() string {
		families, err := f.registry.Gather()
		must(t, err)
		got := map[string]float64{}
		for _, family := range families {
			registered[family.GetName()] = true
			for _, m := range family.GetMetric() {
				var labels []string
				others := false
				for _, l := range m.GetLabel() {
					// The Deployments of other tests are still there.
					others = others || l.GetName() == "namespace" && l.GetValue() != f.namespace
					if l.GetName() == "phase" || l.GetName() == "state" {
						labels = append(labels, l.GetValue())
					}
				}
				if others {
					continue
				}
				got[strings.Join(append([]string{family.GetName()}, labels...), " ")] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
		for name, want := range map[string]float64{
			"fleet_deployment_rollout_wave":                               2,
			"fleet_deployment_rollout_waves":                              2,
			"fleet_deployment_rollout_phase AwaitingApproval":             1,
			"fleet_deployment_rollout_phase Complete":                     0,
			"fleet_deployment_devices succeeded":                          1,
			"fleet_deployment_devices pending":                            2,
			"fleet_deployment_max_unavailable_devices":                    3,
			"fleet_deployment_unavailable_devices":                        0,
			"fleet_deployment_rollout_transitions_total Complete":         1,
			"fleet_deployment_rollout_transitions_total AwaitingApproval": 1,
		} {
			if have, ok := got[name]; !ok || have != want {
				return fmt.Sprintf("%s is %v (%v), want %v", name, have, ok, want)
			}
		}
		return ""
	})
	page, err := os.ReadFile("../docs/metrics.md")
	must(t, err)
	dashboard, err := os.ReadFile("../docs/grafana/fleet.json")
	must(t, err)
	if !json.Valid(dashboard) {
		t.Error("the dashboard is not JSON")
	}
	names := regexp.MustCompile(`fleet_[a-z_]*[a-z]`)
	for _, name := range names.FindAllString(string(dashboard)+string(page), -1) {
		// The page speaks of all those of Deployments as fleet_deployment_*, and that of
		// certificates there is where an operator keeps some: see operator/setup.
		if !registered[name] && !slices.Contains([]string{"fleet_deployment", "fleet_desired_state", "fleet_certificate_expiry_timestamp_seconds"}, name) {
			t.Errorf("there is no metric %s", name)
		}
	}
	for name := range registered {
		if strings.HasPrefix(name, "fleet_") && !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/metrics.md does not speak of %s", name)
		}
	}
}
