package devices

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/kubectl/pkg/cmd/get"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
)

// presenter prints devices in the format that was asked for. Objects are read as
// they are and not as our types, so that -o json shows every field that the
// cluster has, those of a newer version too.
type presenter struct {
	env     *cli.Env
	options *options
	scope   cli.Scope
	printer printers.ResourcePrinter
	// table aligns rows; it remembers widths from one change to the next.
	buffer bytes.Buffer
	writer interface {
		Write([]byte) (int, error)
		Flush() error
	}
}

func newList() *unstructured.UnstructuredList {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.DeviceKind + "List"))
	return list
}

func newObject() *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.DeviceKind))
	return object
}

// item is a device in both of its forms.
type item struct {
	object *unstructured.Unstructured
	device *v1alpha1.Device
}

func (p *presenter) item(o client.Object) (item, error) {
	object, ok := o.(*unstructured.Unstructured)
	if !ok {
		return item{}, fmt.Errorf("got a %T instead of a Device", o)
	}
	device := &v1alpha1.Device{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, device); err != nil {
		return item{}, fmt.Errorf("read device %s/%s: %w", o.GetNamespace(), o.GetName(), err)
	}
	return item{object, device}, nil
}

// some prints the devices of the given names, and fails for those that it can't
// find after it has printed the others.
func (p *presenter) some(ctx context.Context, cluster *cli.Cluster, names []string) error {
	var found []client.Object
	var failed []error
	for _, name := range names {
		object := newObject()
		if err := cluster.Client.Get(ctx, client.ObjectKey{Namespace: p.scope.Namespace, Name: name}, object); err != nil {
			failed = append(failed, fmt.Errorf("get device %s/%s: %w", p.scope.Namespace, name, err))
			continue
		}
		found = append(found, object)
	}
	switch {
	case len(found) == 1 && len(names) == 1 && !p.options.human():
		// One name was asked for: one object, not a list with one in it.
		return p.printer.PrintObj(found[0].(*unstructured.Unstructured), p.env.Streams.Out)
	case len(found) > 0:
		if err := p.list(found); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

// list prints devices at once.
func (p *presenter) list(objects []client.Object) error {
	items := make([]item, 0, len(objects))
	for _, o := range objects {
		i, err := p.item(o)
		if err != nil {
			return err
		}
		if healthFilter(p.options.health).match(i.device) {
			items = append(items, i)
		}
	}
	items, err := p.sort(items)
	if err != nil {
		return err
	}
	if p.options.human() {
		if len(items) == 0 {
			p.sayNone()
			return nil
		}
		return p.rows(items, "")
	}
	list := newList()
	for _, i := range items {
		list.Items = append(list.Items, *i.object)
	}
	return p.printer.PrintObj(list, p.env.Streams.Out)
}

// sort orders items by --sort-by.
func (p *presenter) sort(items []item) ([]item, error) {
	by := *p.options.print.HumanReadableFlags.SortBy
	if by == "" || len(items) == 0 {
		return items, nil
	}
	objects := make([]runtime.Object, len(items))
	for i := range items {
		objects[i] = items[i].object
	}
	field, err := get.RelaxedJSONPathExpression(by)
	if err != nil {
		return nil, fmt.Errorf("--sort-by %q: %w", by, err)
	}
	sorter, err := get.SortObjects(unstructured.UnstructuredJSONScheme, objects, field)
	if err != nil {
		return nil, fmt.Errorf("--sort-by %q: %w", by, err)
	}
	sorted := make([]item, len(items))
	for i := range items {
		sorted[i] = items[sorter.OriginalPosition(i)]
	}
	return sorted, nil
}

func (p *presenter) sayNone() {
	if p.options.selector != "" || p.options.fieldSelector != "" || len(p.options.health) > 0 {
		fmt.Fprintf(p.env.Streams.ErrOut, "No such devices in %s.\n", p.scope)
		return
	}
	fmt.Fprintf(p.env.Streams.ErrOut, "No devices in %s.\n", p.scope)
}

// rows prints rows of a table. A device that is gone is painted: it is what a
// person looks for in a long list.
func (p *presenter) rows(items []item, event string) error {
	if p.writer == nil {
		p.writer = printers.GetNewTabWriter(&p.buffer)
	}
	devices := make([]*v1alpha1.Device, len(items))
	tones := make([]screen.Tone, len(items))
	for i := range items {
		devices[i] = items[i].device
		if tones[i] = Of(devices[i]).Tone(); tones[i] == screen.Good {
			tones[i] = screen.Plain
		}
	}
	table := Table(devices, p.env.Now())
	if event == string(watch.Deleted) {
		for i := range table.Rows {
			table.Rows[i].Cells[statusColumn] = "Deleted"
		}
	}
	var object runtime.Object = table
	if event != "" && p.options.watchEvents {
		object = &metav1.WatchEvent{Type: event, Object: runtime.RawExtension{Object: table}}
	}
	if err := p.printer.PrintObj(object, p.writer); err != nil {
		return err
	}
	if err := p.writer.Flush(); err != nil {
		return err
	}
	lines := strings.Split(strings.TrimRight(p.buffer.String(), "\n"), "\n")
	p.buffer.Reset()
	style := p.env.Style(p.env.Streams.Out)
	headers := len(lines) - len(items)
	var out strings.Builder
	for i, line := range lines {
		if i >= headers {
			line = style.Paint(tones[i-headers], line)
		}
		out.WriteString(line + "\n")
	}
	_, err := fmt.Fprint(p.env.Streams.Out, out.String())
	return err
}
