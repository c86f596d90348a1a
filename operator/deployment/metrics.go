package deployment

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/operator/rollout"
)

// metrics say how each Deployment's rollout stands. There is nothing per device: a
// fleet has more of them than a Prometheus has room for.
type metrics struct {
	devices, phase      *prometheus.GaugeVec
	wave, waves         *prometheus.GaugeVec
	unavailable, budget *prometheus.GaugeVec
	ends                *prometheus.CounterVec
}

// phases that a rollout may be in; Pending is of waves alone.
var phases = []v1alpha1.WavePhase{
	v1alpha1.WaveAwaitingApproval, v1alpha1.WaveProgressing, v1alpha1.WaveSoaking, v1alpha1.WaveComplete, v1alpha1.WavePaused,
	v1alpha1.WaveHalted, v1alpha1.WaveRollingBack, v1alpha1.WaveRolledBack, v1alpha1.WaveStalled,
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	var errs []error
	gauge := func(name, help string, more ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, append([]string{"namespace", "deployment"}, more...))
		errs = append(errs, registry.Register(g))
		return g
	}
	m := &metrics{
		devices:     gauge("fleet_deployment_devices", "Devices that a Deployment selects, by how it stands on them.", "state"),
		phase:       gauge("fleet_deployment_rollout_phase", "1 for the phase that a Deployment's rollout is in, 0 for the others.", "phase"),
		wave:        gauge("fleet_deployment_rollout_wave", "The wave that a Deployment's rollout is in, from 1."),
		waves:       gauge("fleet_deployment_rollout_waves", "How many waves a Deployment's rollout has."),
		unavailable: gauge("fleet_deployment_unavailable_devices", "Devices that are between revisions or failing."),
		budget:      gauge("fleet_deployment_max_unavailable_devices", "How many devices may be between revisions or failing."),
		ends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleet_deployment_rollout_transitions_total",
			Help: "How often a Deployment's rollout has come into a phase.",
		}, []string{"namespace", "deployment", "phase"}),
	}
	return m, errors.Join(append(errs, registry.Register(m.ends))...)
}

func (m *metrics) set(obj *v1alpha1.Deployment, out rollout.Output) {
	set := func(g *prometheus.GaugeVec, n int, more ...string) {
		g.WithLabelValues(append([]string{obj.Namespace, obj.Name}, more...)...).Set(float64(n))
	}
	a := out.Counts
	set(m.devices, int(a.Succeeded), "succeeded")
	set(m.devices, int(a.Failed), "failed")
	set(m.devices, int(a.Pending), "pending")
	set(m.devices, int(a.Offline), "offline")
	for _, phase := range phases {
		n := 0
		if phase == out.Phase {
			n = 1
		}
		set(m.phase, n, string(phase))
	}
	set(m.wave, out.Wave+1)
	set(m.waves, len(out.Waves))
	set(m.unavailable, out.Unavailable)
	set(m.budget, out.Budget)
}

// moved counts a rollout that has come into a phase.
func (m *metrics) moved(obj *v1alpha1.Deployment, before, now *v1alpha1.WaveStatus) {
	if now == nil || before != nil && before.Phase == now.Phase {
		return
	}
	m.ends.WithLabelValues(obj.Namespace, obj.Name, string(now.Phase)).Inc()
}

func (m *metrics) forget(key types.NamespacedName) {
	labels := prometheus.Labels{"namespace": key.Namespace, "deployment": key.Name}
	for _, g := range []*prometheus.GaugeVec{m.devices, m.phase, m.wave, m.waves, m.unavailable, m.budget} {
		g.DeletePartialMatch(labels)
	}
	m.ends.DeletePartialMatch(labels)
}
