package operator

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nationtech/fleet/operator/desired"
	"github.com/nationtech/fleet/operator/fleetview"
)

// newMetrics registers the counts of the whole fleet; docs/metrics.md lists them.
func newMetrics(registry prometheus.Registerer, view *fleetview.View, store *desired.Store) error {
	gauge := func(name, help string, labels prometheus.Labels, value func(fleetview.Totals) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels},
			func() float64 { return float64(value(view.Totals())) })
	}
	counter := func(name, help string, labels prometheus.Labels, value func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels},
			func() float64 { return float64(value()) })
	}
	const placements = "Deployments on devices, by what the device says of what it was told."
	const writes = "Keys of desired state written since the start."
	var errs []error
	for _, c := range []prometheus.Collector{
		gauge("fleet_devices", "Devices that have ever sent something.", nil, func(t fleetview.Totals) int { return t.Devices }),
		gauge("fleet_devices_online", "Devices whose heartbeats arrive.", nil, func(t fleetview.Totals) int { return t.Online }),
		gauge("fleet_placements", placements, prometheus.Labels{"state": "running"}, func(t fleetview.Totals) int { return t.Running }),
		gauge("fleet_placements", placements, prometheus.Labels{"state": "pending"}, func(t fleetview.Totals) int { return t.Pending }),
		gauge("fleet_placements", placements, prometheus.Labels{"state": "failed"}, func(t fleetview.Totals) int { return t.Failed }),
		counter("fleet_bus_entries_total", "Entries read from the buckets.", nil, func() uint64 { return view.Totals().Folded }),
		counter("fleet_bus_malformed_entries_total", "Entries of the buckets that could not be read.", nil, func() uint64 { return view.Totals().MalformedEntries }),
		counter("fleet_desired_state_writes_total", writes, prometheus.Labels{"operation": "put"}, func() uint64 { puts, _ := store.Writes(); return puts }),
		counter("fleet_desired_state_writes_total", writes, prometheus.Labels{"operation": "delete"}, func() uint64 { _, deletes := store.Writes(); return deletes }),
		counter("fleet_desired_state_renewals_total", "Orders that were signed and given again, unchanged.", nil, store.Renewals),
	} {
		errs = append(errs, registry.Register(c))
	}
	return errors.Join(errs...)
}
