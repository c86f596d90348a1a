package devices

import (
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/screen"
)

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
		{Name: "Key", Type: "string", Priority: 1},
		{Name: "Message", Type: "string", Priority: 1},
	}
}

func cells(d *device, now time.Time) []any {
	ready, message := string(metav1.ConditionUnknown), ""
	if c := apimeta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionReady); c != nil {
		ready, message = string(c.Status), c.Message
	}
	info := v1alpha1.DeviceInfo{}
	if d.Status.Info != nil {
		info = *d.Status.Info
	}
	running, failed := screen.None, screen.None
	if n := d.Status.Deployments; n != nil {
		running, failed = screen.Ratio(n.Running, n.Total), screen.Count(n.Failed)
	}
	address := ""
	if len(info.Addresses) > 0 {
		address = info.Addresses[0]
	}
	return []any{
		d.Name, ready, StatusWords(d.Device), running, failed, lastHeartbeat(d, now), screen.OrNone(info.AgentVersion),
		screen.Age(now, d.CreationTimestamp.Time),
		screen.OrNone(info.OS), screen.OrNone(info.Arch), screen.OrNone(info.Kernel), screen.OrNone(address), screen.OrNone(d.Spec.PublicKey), screen.OrNone(message),
	}
}

// lastHeartbeat is exact where it is live, and for a device that is gone. Of one that
// is there the Device has only a bound, for it is told at most every ten minutes.
func lastHeartbeat(d *device, now time.Time) string {
	if d.Status.LastHeartbeatTime == nil {
		return "never"
	}
	age := screen.Age(now, d.Status.LastHeartbeatTime.Time)
	if !d.live && apimeta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionReady) {
		return "<" + age
	}
	return age
}
