package liveapi

import (
	"context"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/duration"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/operator/roster"
)

// Fields that select, beside metadata.name and metadata.namespace.
const (
	fieldDevice     = "spec.device"
	fieldDeployment = "spec.deployment"
	fieldReady      = "status.ready"
	fieldPhase      = "status.phase"
	fieldRevision   = "status.revision"
)

func objectMeta(k key, d *roster.Device, uid types.UID, version string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: k.namespace, Name: k.name, ResourceVersion: version, UID: uid,
		CreationTimestamp: metav1.NewTime(d.Created), Labels: d.Labels,
	}
}

func moment(t time.Time) *metav1.MicroTime {
	if t.IsZero() || t.UnixNano() <= 0 {
		return nil
	}
	return &metav1.MicroTime{Time: t.UTC()}
}

func heartbeatObject(r *row[heartbeat], version string) *live.Heartbeat {
	h := &r.value
	return &live.Heartbeat{
		TypeMeta:   metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "Heartbeat"},
		ObjectMeta: objectMeta(r.key, h.device, h.device.UID, version),
		Spec:       live.HeartbeatSpec{Device: r.name},
		Status: live.HeartbeatStatus{
			Ready: h.Online, LastHeartbeatTime: moment(h.Last), IntervalSeconds: int32(h.Interval / time.Second),
			Sequence: int64(h.Sequence), Missed: int64(h.Missed), LatencyMillis: h.Latency.Milliseconds(),
			UptimeSeconds: int64(h.Uptime / time.Second), AgentVersion: h.AgentVersion, Hostname: h.Hostname,
		},
	}
}

var heartbeats = kind[heartbeat]{
	resource: "heartbeats", singular: "heartbeat", short: "hb",
	newObject: func() runtime.Object { return &live.Heartbeat{} },
	newList:   func() runtime.Object { return &live.HeartbeatList{} },
	object:    func(r *row[heartbeat], version string) runtime.Object { return heartbeatObject(r, version) },
	list: func(rows []*row[heartbeat], m metav1.ListMeta, version func(uint64) string) runtime.Object {
		l := &live.HeartbeatList{ListMeta: m, Items: make([]live.Heartbeat, 0, len(rows))}
		for _, r := range rows {
			l.Items = append(l.Items, *heartbeatObject(r, version(r.version)))
		}
		return l
	},
	labels: func(h *heartbeat) labels.Set { return h.device.Labels },
	fields: func(h *heartbeat) fields.Set {
		return fields.Set{fieldDevice: string(h.device.ID), fieldReady: strconv.FormatBool(h.Online)}
	},
	columns: []metav1.TableColumnDefinition{
		{Name: "Name", Type: "string", Format: "name", Description: "The Device."},
		{Name: "Ready", Type: "boolean", Description: "Whether heartbeats arrive."},
		{Name: "Last", Type: "string", Description: "How long ago the last one arrived."},
		{Name: "Every", Type: "string", Description: "How often one should."},
		{Name: "Missed", Type: "integer", Description: "How many never did."},
		{Name: "Latency", Type: "string", Description: "How long the last one took, as far as the device's clock is right."},
		{Name: "Agent", Type: "string", Description: "The agent's version."},
		{Name: "Uptime", Type: "string", Description: "How long the agent has run."},
		{Name: "Hostname", Type: "string", Priority: 1, Description: "The device's own name."},
	},
	cells: func(o runtime.Object) []any {
		h := o.(*live.Heartbeat)
		last, every, latency, uptime := "<never>", "", "", ""
		if t := h.Status.LastHeartbeatTime; t != nil {
			last = duration.HumanDuration(time.Since(t.Time))
			every = duration.HumanDuration(time.Duration(h.Status.IntervalSeconds) * time.Second)
			latency = strconv.FormatInt(h.Status.LatencyMillis, 10) + "ms"
			uptime = duration.HumanDuration(time.Duration(h.Status.UptimeSeconds) * time.Second)
		}
		return []any{h.Name, h.Status.Ready, last, every, h.Status.Missed, latency, h.Status.AgentVersion, uptime, h.Status.Hostname}
	},
}

// phase is Pending until the device has said something of what it was told.
func phase(r fleetview.Report) contracts.Phase {
	switch {
	case r.Malformed:
		return contracts.PhaseFailed
	case r.Phase == "":
		return contracts.PhasePending
	}
	return r.Phase
}

func (p *placed) ready() bool {
	o, r := p.order.Value(), p.report.Value()
	return p.online && o.Told && !r.Malformed && r.Phase == contracts.PhaseRunning && r.ReportedRevision == o.Revision && r.ReportedDigest == o.Digest
}

func placementObject(r *row[placement], version string) *live.Placement {
	p := &r.value
	told, report := p.order.Value(), p.report.Value()
	o := &live.Placement{
		TypeMeta:   metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "Placement"},
		ObjectMeta: objectMeta(r.key, p.device, p.device.UID+"."+types.UID(p.deployment), version),
		Spec:       live.PlacementSpec{Device: string(p.device.ID), Deployment: string(p.deployment)},
		Status: live.PlacementStatus{
			Ready: p.ready(), Revision: report.ReportedRevision, Phase: string(phase(report)), Reason: report.Reason, Message: report.Message,
			Restarts: report.Restarts, Drifts: report.Drifts, Online: p.online,
		},
	}
	if told.Told {
		o.Spec.Revision, o.Spec.Wave, o.Spec.ToldTime = told.Revision, told.ToldWave, moment(time.Unix(0, p.toldAt))
	}
	if report.Phase != "" {
		o.Status.SinceTime = moment(time.Unix(0, p.since))
	}
	return o
}

var placements = kind[placement]{
	resource: "placements", singular: "placement", short: "plc",
	newObject: func() runtime.Object { return &live.Placement{} },
	newList:   func() runtime.Object { return &live.PlacementList{} },
	object:    func(r *row[placement], version string) runtime.Object { return placementObject(r, version) },
	list: func(rows []*row[placement], m metav1.ListMeta, version func(uint64) string) runtime.Object {
		l := &live.PlacementList{ListMeta: m, Items: make([]live.Placement, 0, len(rows))}
		for _, r := range rows {
			l.Items = append(l.Items, *placementObject(r, version(r.version)))
		}
		return l
	},
	labels: func(p *placement) labels.Set { return p.device.Labels },
	fields: func(p *placement) fields.Set {
		return fields.Set{
			fieldDevice: string(p.device.ID), fieldDeployment: string(p.deployment), fieldPhase: string(phase(p.report.Value())),
			fieldRevision: p.report.Value().ReportedRevision, fieldReady: strconv.FormatBool(p.ready()),
		}
	},
	columns: []metav1.TableColumnDefinition{
		{Name: "Name", Type: "string", Format: "name", Description: "Device and Deployment."},
		{Name: "Ready", Type: "boolean", Description: "Whether the device is reachable, runs what it was told, and is well."},
		{Name: "Phase", Type: "string", Description: "Where it stands, as the device says."},
		{Name: "Reason", Type: "string", Description: "Why."},
		{Name: "Revision", Type: "string", Description: "The revision that the device speaks of."},
		{Name: "Restarts", Type: "integer", Description: "Of all containers."},
		{Name: "Since", Type: "string", Description: "How long it has been in this phase."},
		{Name: "Told", Type: "string", Priority: 1, Description: "The revision that the device was told."},
		{Name: "Wave", Type: "string", Priority: 1, Description: "The wave in which it was told."},
		{Name: "Online", Type: "boolean", Priority: 1, Description: "Whether the device's heartbeats arrive."},
		{Name: "Message", Type: "string", Priority: 1, Description: "What the device says."},
	},
	cells: func(o runtime.Object) []any {
		p := o.(*live.Placement)
		since := ""
		if t := p.Status.SinceTime; t != nil {
			since = duration.HumanDuration(time.Since(t.Time))
		}
		return []any{p.Name, p.Status.Ready, p.Status.Phase, p.Status.Reason, p.Status.Revision, p.Status.Restarts, since,
			p.Spec.Revision, p.Spec.Wave, p.Status.Online, p.Status.Message}
	},
}

// ConvertToTable is what plain kubectl prints.
func (s *storage[T]) ConvertToTable(_ context.Context, object runtime.Object, options runtime.Object) (*metav1.Table, error) {
	return tableOf(object, options, s.columns, s.cells)
}

func tableOf(object, options runtime.Object, columns []metav1.TableColumnDefinition, cells func(runtime.Object) []any) (*metav1.Table, error) {
	t := &metav1.Table{}
	if o, ok := options.(*metav1.TableOptions); !ok || o == nil || !o.NoHeaders {
		t.ColumnDefinitions = columns
	}
	add := func(o runtime.Object) error {
		t.Rows = append(t.Rows, metav1.TableRow{Cells: cells(o), Object: runtime.RawExtension{Object: o}})
		return nil
	}
	if !meta.IsListType(object) {
		m, err := meta.Accessor(object)
		if err != nil {
			return nil, err
		}
		t.ResourceVersion = m.GetResourceVersion()
		return t, add(object)
	}
	m, err := meta.ListAccessor(object)
	if err != nil {
		return nil, err
	}
	t.ResourceVersion, t.Continue, t.RemainingItemCount = m.GetResourceVersion(), m.GetContinue(), m.GetRemainingItemCount()
	return t, meta.EachListItem(object, add)
}
