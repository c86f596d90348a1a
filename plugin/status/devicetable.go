package status

import (
	"container/heap"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/devices"
)

// tableAccept asks for the API server's table instead of the objects. Of 100,000
// Devices it is a twentieth of the bytes and takes the API server a seventh of the
// time, most of which goes into writing JSON.
// https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
const tableAccept = "application/json;as=Table;g=meta.k8s.io;v=v1"

// countDevices counts the devices in scope, and names the ones whose heartbeats
// stopped last.
func countDevices(ctx context.Context, api rest.Interface, scope cli.Scope) (Devices, error) {
	request := api.Get().Resource("devices").SetHeader("Accept", tableAccept).Param("includeObject", string(metav1.IncludeNone))
	if !scope.All() {
		request = request.Namespace(scope.Namespace)
	}
	if scope.Selector != "" {
		request = request.Param("labelSelector", scope.Selector)
	}
	body, err := request.Stream(ctx)
	if err != nil {
		return Devices{}, fmt.Errorf("list devices: %w", err)
	}
	defer body.Close()
	counted, err := scanTable(body)
	if err != nil {
		return Devices{}, fmt.Errorf("list devices: %w", err)
	}
	return counted, nil
}

// scanTable reads a table row by row: a fleet's table need not fit into memory.
func scanTable(body io.Reader) (Devices, error) {
	decoder := json.NewDecoder(body)
	if err := expect(decoder, json.Delim('{')); err != nil {
		return Devices{}, err
	}
	c := &counter{column: map[string]int{}}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return Devices{}, fmt.Errorf("read table: %w", err)
		}
		switch key {
		case "columnDefinitions":
			var columns []metav1.TableColumnDefinition
			if err := decoder.Decode(&columns); err != nil {
				return Devices{}, fmt.Errorf("read columns of the table: %w", err)
			}
			for i, column := range columns {
				c.column[column.Name] = i
			}
		case "rows":
			if err := c.check(); err != nil {
				return Devices{}, err
			}
			if err := c.rows(decoder); err != nil {
				return Devices{}, err
			}
		default:
			var skipped json.RawMessage
			if err := decoder.Decode(&skipped); err != nil {
				return Devices{}, fmt.Errorf("read table: %w", err)
			}
		}
	}
	return c.result(), nil
}

// counter adds up rows.
type counter struct {
	column  map[string]int
	devices Devices
	recent  recent
}

// Columns that the counter goes by, as the CRD names them.
const (
	columnName      = "Name"
	columnReady     = "Ready"
	columnApproved  = "Approved"
	columnCordoned  = "Cordoned"
	columnHeartbeat = "Last-Heartbeat"
	columnReason    = "Reason"
)

func (c *counter) check() error {
	for _, name := range []string{columnName, columnReady, columnApproved, columnCordoned, columnHeartbeat, columnReason} {
		if _, ok := c.column[name]; !ok {
			return fmt.Errorf("the cluster's Device has no column %q: its CustomResourceDefinition is of another version than this plugin", name)
		}
	}
	return nil
}

func (c *counter) rows(decoder *json.Decoder) error {
	token, err := decoder.Token()
	if err != nil {
		return fmt.Errorf("read rows of the table: %w", err)
	}
	if token == nil {
		return nil
	}
	var row struct {
		Cells []cell `json:"cells"`
	}
	for decoder.More() {
		row.Cells = row.Cells[:0]
		if err := decoder.Decode(&row); err != nil {
			return fmt.Errorf("read a row of the table: %w", err)
		}
		if err := c.row(row.Cells); err != nil {
			return err
		}
	}
	return expect(decoder, json.Delim(']'))
}

func (c *counter) row(cells []cell) error {
	if len(cells) < len(c.column) {
		return fmt.Errorf("a row of the table has %d cells for %d columns", len(cells), len(c.column))
	}
	d := &c.devices
	d.Total++
	name := cells[c.column[columnName]].text()
	if cells[c.column[columnCordoned]].is("true") {
		d.Cordoned++
	}
	heartbeat, reason := cells[c.column[columnHeartbeat]], cells[c.column[columnReason]].text()
	switch devices.HealthOf(
		cells[c.column[columnApproved]].truth(),
		cells[c.column[columnReady]].is(`"`+string(metav1.ConditionTrue)+`"`),
		!heartbeat.is("null"),
		reason,
	) {
	case devices.Ready:
		d.Ready++
	case devices.NotReady:
		d.NotReady++
		if reason == v1alpha1.ReasonPublicKeyMismatch {
			d.Mismatched++
			if len(d.Mismatches) < maxNames {
				d.Mismatches = append(d.Mismatches, name)
			}
			return nil
		}
		c.recent.add(aged{name, parseAge(heartbeat.text())})
	case devices.NeverSeen:
		d.NeverSeen++
		if len(d.Waiting) < maxNames {
			d.Waiting = append(d.Waiting, name)
		}
	case devices.Duplicate:
		d.Duplicate++
		if len(d.Duplicates) < maxNames {
			d.Duplicates = append(d.Duplicates, name)
		}
	case devices.Pending:
		d.Pending++
		if len(d.Applicants) < maxNames {
			d.Applicants = append(d.Applicants, name)
		}
	case devices.ShutOut:
		d.ShutOut++
	}
	return nil
}

func (c *counter) result() Devices {
	out := c.devices
	for _, a := range c.recent.sorted() {
		out.Gone = append(out.Gone, Gone{Name: a.name})
	}
	return out
}

// cell is one cell as it stands in the JSON. Most are never looked at.
type cell []byte

// UnmarshalJSON keeps the bytes, in the memory of the row before.
func (c *cell) UnmarshalJSON(b []byte) error {
	*c = append((*c)[:0], b...)
	return nil
}

func (c cell) is(json string) bool { return string(c) == json }

// truth is nil for what is neither true nor false.
func (c cell) truth() *bool {
	switch {
	case c.is("true"):
		return new(true)
	case c.is("false"):
		return new(false)
	}
	return nil
}

func (c cell) text() string {
	var s string
	if json.Unmarshal(c, &s) != nil {
		return ""
	}
	return s
}

// aged is a device and how long ago it was heard of.
type aged struct {
	name string
	age  time.Duration
}

// recent keeps the maxGone youngest; the oldest of them is on top of the heap.
type recent []aged

func (r recent) Len() int           { return len(r) }
func (r recent) Less(i, j int) bool { return r[i].age > r[j].age }
func (r recent) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }

// Push is for container/heap.
func (r *recent) Push(x any) { *r = append(*r, x.(aged)) }

// Pop is for container/heap.
func (r *recent) Pop() any {
	last := (*r)[len(*r)-1]
	*r = (*r)[:len(*r)-1]
	return last
}

func (r *recent) add(a aged) {
	heap.Push(r, a)
	if r.Len() > maxGone {
		heap.Pop(r)
	}
}

// sorted empties it, the youngest first.
func (r *recent) sorted() []aged {
	out := make([]aged, r.Len())
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = heap.Pop(r).(aged)
	}
	return out
}

// parseAge reads the API server's short words for an age, such as 5m30s, 2d3h or
// 1y40d (k8s.io/apimachinery/pkg/util/duration). What it can't read is very old.
func parseAge(text string) time.Duration {
	const day = 24 * time.Hour
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': day, 'y': 365 * day}
	const unknown = 200 * 365 * day
	var total time.Duration
	start := 0
	for i := range len(text) {
		unit, isUnit := units[text[i]]
		if !isUnit {
			continue
		}
		n, err := strconv.Atoi(text[start:i])
		if err != nil || n < 0 || n > 200*365*24 {
			return unknown
		}
		total += time.Duration(n) * unit
		start = i + 1
	}
	if start != len(text) || text == "" || total < 0 || total > unknown {
		return unknown
	}
	return total
}

func expect(decoder *json.Decoder, want json.Delim) error {
	token, err := decoder.Token()
	if err != nil {
		return fmt.Errorf("read table: %w", err)
	}
	if token != want {
		return fmt.Errorf("read table: found %v instead of %v", token, want)
	}
	return nil
}
