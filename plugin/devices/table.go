package devices

import (
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/screen"
)

const none = "<none>"

// statusColumn is where STATUS is among the columns.
const statusColumn = 2

func columns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		{Name: "Name", Type: "string", Format: "name"},
		{Name: "Ready", Type: "string"},
		{Name: "Status", Type: "string"},
		{Name: "Running", Type: "string"},
		{Name: "Failed", Type: "string"},
		{Name: "Last-Heartbeat", Type: "string"},
		{Name: "Agent", Type: "string"},
		{Name: "Age", Type: "string"},
		{Name: "OS", Type: "string", Priority: 1},
		{Name: "Arch", Type: "string", Priority: 1},
		{Name: "Kernel", Type: "string", Priority: 1},
		{Name: "Address", Type: "string", Priority: 1},
		{Name: "Message", Type: "string", Priority: 1},
	}
}

// Table lays devices out as kubectl's printers want them.
func Table(list []*v1alpha1.Device, now time.Time) *metav1.Table {
	table := &metav1.Table{ColumnDefinitions: columns()}
	for _, d := range list {
		table.Rows = append(table.Rows, row(d, now))
	}
	return table
}

func row(d *v1alpha1.Device, now time.Time) metav1.TableRow {
	ready, message := string(metav1.ConditionUnknown), ""
	if c := apimeta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionReady); c != nil {
		ready, message = string(c.Status), c.Message
	}
	info := v1alpha1.DeviceInfo{}
	if d.Status.Info != nil {
		info = *d.Status.Info
	}
	running, failed := none, none
	if n := d.Status.Deployments; n != nil {
		running, failed = screen.Ratio(n.Running, n.Total), screen.Count(n.Failed)
	}
	address := ""
	if len(info.Addresses) > 0 {
		address = info.Addresses[0]
	}
	cells := []any{
		d.Name, ready, statusWords(d), running, failed, lastHeartbeat(d, now), text(info.AgentVersion),
		screen.Age(now, d.CreationTimestamp.Time),
		text(info.OS), text(info.Arch), text(info.Kernel), text(address), text(message),
	}
	return metav1.TableRow{
		Cells: cells,
		// For -A, --show-labels and -L.
		Object: runtime.RawExtension{Object: &metav1.PartialObjectMetadata{ObjectMeta: d.ObjectMeta}},
	}
}

// lastHeartbeat is exact for a device that is gone. Of one that is there the
// cluster knows only a bound, for it is told at most every ten minutes.
func lastHeartbeat(d *v1alpha1.Device, now time.Time) string {
	if d.Status.LastHeartbeatTime == nil {
		return "never"
	}
	age := screen.Age(now, d.Status.LastHeartbeatTime.Time)
	if apimeta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionReady) {
		return "<" + age
	}
	return age
}

// text is what a device says of itself, made harmless.
func text(s string) string {
	if s == "" {
		return none
	}
	return screen.Safe(s)
}
