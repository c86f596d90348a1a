package describe

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/devices"
	"github.com/nationtech/fleet/plugin/heartbeats"
	"github.com/nationtech/fleet/plugin/screen"
)

// page is a screen that is being drawn.
type page struct {
	screen.Style
	device
	now   time.Time
	lines []string
}

func render(s screen.Style, d device, now time.Time) string {
	// Nothing is cut: who describes one object wants all of it.
	s.Width = 0
	p := &page{Style: s, device: d, now: now}
	p.identity()
	p.host()
	p.beat()
	p.deployments()
	p.conditions()
	p.happened()
	p.failures()
	return strings.Join(p.lines, "\n") + "\n"
}

// section begins a part of the screen.
func (p *page) section(title, detail string) {
	title = p.Paint(screen.Bold, title)
	if detail != "" {
		title += "  " + detail
	}
	p.lines = append(p.lines, "", title)
}

// fact is a name and what there is under it.
type fact struct {
	name   string
	values []string
	tone   screen.Tone
}

func is(name, value string) fact { return fact{name: name, values: []string{screen.OrNone(value)}} }

func are(name string, values []string) fact {
	if len(values) == 0 {
		return is(name, "")
	}
	safe := make([]string, len(values))
	for i, v := range values {
		safe[i] = screen.Safe(v)
	}
	return fact{name: name, values: safe}
}

func (p *page) facts(indent string, facts ...fact) {
	var rows [][]screen.Cell
	for _, f := range facts {
		name := f.name + ":"
		for _, v := range f.values {
			rows = append(rows, []screen.Cell{{Text: name, Tone: screen.Dim}, {Text: v, Tone: f.tone}})
			name = ""
		}
	}
	p.lines = append(p.lines, p.Grid(indent, rows)...)
}

func (p *page) identity() {
	now := p.present()
	status := is("Status", devices.StatusWords(now))
	status.tone = devices.Of(now).Tone()
	p.facts("",
		is("Name", p.Name),
		is("Namespace", p.Namespace),
		status,
		are("Labels", pairs(p.Labels, "=")),
		is("Approved", approval(p.Spec.Approved)),
		is("Cordoned", yes(p.Spec.Cordoned)),
		is("Public key", p.Spec.PublicKey),
		is("Created", screen.Ago(p.now, p.CreationTimestamp.Time)),
	)
}

// present is the Device as the live API knows it.
func (p *page) present() *v1alpha1.Device {
	now := p.Device.DeepCopy()
	if p.heartbeat != nil {
		devices.Update(now, p.heartbeat, nil)
	}
	return now
}

func approval(approved *bool) string {
	switch {
	case approved == nil:
		return "not yet"
	case !*approved:
		return "no, it is shut out"
	}
	return "yes"
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func pairs(m map[string]string, between string) []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = append(out, key+between+m[key])
	}
	return out
}

// host is what the device says of itself.
func (p *page) host() {
	p.section("Host", "")
	info := p.Status.Info
	if info == nil {
		p.none("No agent has registered as this device.")
		return
	}
	capacity := map[string]string{}
	for name, quantity := range info.Capacity {
		capacity[name] = quantity.String()
	}
	p.facts("  ",
		is("Hostname", info.Hostname),
		is("OS", info.OS),
		is("Arch", info.Arch),
		is("Kernel", info.Kernel),
		is("Boot ID", info.BootID),
		are("Addresses", info.Addresses),
		are("Drivers", pairs(info.Drivers, " ")),
		are("Capacity", pairs(capacity, " ")),
	)
}

func (p *page) beat() {
	h := p.heartbeat
	if p.missing(partHeartbeat) {
		p.section(string(partHeartbeat), p.Paint(screen.Bad, "could not be read, see below"))
		if t := p.Status.LastHeartbeatTime; t != nil {
			p.facts("  ", is("Last", fmt.Sprintf("%s or later, as the operator wrote", screen.Ago(p.now, t.Time))))
		}
		return
	}
	p.section(string(partHeartbeat), "")
	if h == nil || h.Status.LastHeartbeatTime == nil {
		p.none("None ever came.")
		return
	}
	last := fmt.Sprintf("%s, one every %s", screen.Ago(p.now, h.Status.LastHeartbeatTime.Time), heartbeats.Seconds(int64(h.Status.IntervalSeconds)))
	p.facts("  ",
		is("Ready", screen.Truth(h.Status.Ready)),
		is("Last", last),
		is("Latency", heartbeats.Latency(h.Status.LatencyMillis)),
		is("Missed", fmt.Sprintf("%s (sequence %d)", screen.Count(h.Status.Missed), h.Status.Sequence)),
		is("Agent", h.Status.AgentVersion),
		is("Uptime", heartbeats.Seconds(h.Status.UptimeSeconds)),
	)
}

func (p *page) none(text string) { p.lines = append(p.lines, "  "+p.Paint(screen.Dim, text)) }

// table is a grid with a header.
func (p *page) table(header string, rows [][]screen.Cell) {
	var head []screen.Cell
	for name := range strings.FieldsSeq(header) {
		head = append(head, screen.Cell{Text: name, Tone: screen.Dim})
	}
	// The marks of the rows stand before the first column.
	head[0].Text = "  " + head[0].Text
	p.lines = append(p.lines, p.Grid("  ", append([][]screen.Cell{head}, rows...))...)
}

// marked is the first cell of a row.
func (p *page) marked(tone screen.Tone, text string) screen.Cell {
	return screen.Cell{Text: p.Mark(tone) + " " + text, Raw: true}
}

func (p *page) conditions() {
	detail := ""
	if devices.StatusWords(p.present()) != devices.StatusWords(p.Device) {
		detail = p.Paint(screen.Dim, "as the operator wrote them before the last heartbeats")
	}
	p.section("Conditions", detail)
	if len(p.Status.Conditions) == 0 {
		p.none("The operator has not looked at this device yet.")
		return
	}
	var rows [][]screen.Cell
	for _, c := range p.Status.Conditions {
		tone := map[metav1.ConditionStatus]screen.Tone{metav1.ConditionTrue: screen.Good, metav1.ConditionFalse: screen.Bad}[c.Status]
		if c.Reason == v1alpha1.ReasonNotApproved || c.Reason == v1alpha1.ReasonShutOut || c.Reason == v1alpha1.ReasonNeverSeen {
			tone = screen.Dim
		}
		rows = append(rows, []screen.Cell{
			p.marked(tone, screen.Safe(c.Type)), {Text: string(c.Status)}, {Text: screen.Safe(c.Reason)},
			{Text: screen.Age(p.now, c.LastTransitionTime.Time)}, {Text: screen.Safe(c.Message)},
		})
	}
	p.table("TYPE STATUS REASON SINCE MESSAGE", rows)
}

// failures are the parts that could not be read, and what to do about it.
func (p *page) failures() {
	if len(p.unread) == 0 {
		return
	}
	p.section("Could not be read", "")
	for _, u := range p.unread {
		p.lines = append(p.lines, fmt.Sprintf("  %s %s: %s", p.Mark(screen.Bad), u.part, p.Paint(screen.Bad, screen.Safe(u.err.Error()))))
	}
	for _, hint := range p.hints() {
		for line := range strings.Lines(hint) {
			p.lines = append(p.lines, "  "+strings.TrimRight(line, "\n"))
		}
	}
}
