package deployment

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nationtech/fleet/api/v1alpha1"
)

// metrics count the devices of each Deployment. There is nothing per device: a
// fleet has more of them than a Prometheus has room for.
type metrics struct{ devices *prometheus.GaugeVec }

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{devices: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "fleet_deployment_devices",
		Help: "Devices that a Deployment selects, by how it stands on them.",
	}, []string{"namespace", "deployment", "state"})}
	return m, registry.Register(m.devices)
}

func (m *metrics) set(obj *v1alpha1.Deployment, a v1alpha1.Aggregate) {
	for state, n := range map[string]int32{"succeeded": a.Succeeded, "failed": a.Failed, "pending": a.Pending, "offline": a.Offline} {
		m.devices.WithLabelValues(obj.Namespace, obj.Name, state).Set(float64(n))
	}
}

func (m *metrics) forget(key types.NamespacedName) {
	m.devices.DeletePartialMatch(prometheus.Labels{"namespace": key.Namespace, "deployment": key.Name})
}
