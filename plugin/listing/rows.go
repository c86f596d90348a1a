package listing

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/cli-runtime/pkg/printers"
)

// aligner aligns rows; it remembers widths from one change to the next.
type aligner struct {
	buffer bytes.Buffer
	writer interface {
		io.Writer
		Flush() error
	}
}

func newAligner() *aligner {
	a := &aligner{}
	a.writer = printers.GetNewTabWriter(&a.buffer)
	return a
}

// rows prints rows of a table.
func (l *lister[T]) rows(items []item[T], event watch.EventType) error {
	lines, err := l.lines(l.printer, items, event)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(l.env.Streams.Out, strings.Join(lines, "\n"))
	return err
}

// lines are rows of a table, below a header unless the printer has printed it before.
// What is not well is painted: it is what a person looks for in a long list.
func (l *lister[T]) lines(printer printers.ResourcePrinter, items []item[T], event watch.EventType) ([]string, error) {
	now := l.env.Now()
	table := &metav1.Table{ColumnDefinitions: l.Columns}
	for _, i := range items {
		cells := l.Cells(i.value, now)
		if event == watch.Deleted {
			cells[l.State] = l.gone()
		}
		meta := metav1.ObjectMeta{Namespace: i.object.GetNamespace(), Name: i.object.GetName(), Labels: i.object.GetLabels()}
		table.Rows = append(table.Rows, metav1.TableRow{
			Cells: cells,
			// For -A, --show-labels and -L.
			Object: runtime.RawExtension{Object: &metav1.PartialObjectMetadata{ObjectMeta: meta}},
		})
	}
	var object runtime.Object = table
	if event != "" && l.watchEvents {
		object = &metav1.WatchEvent{Type: string(event), Object: runtime.RawExtension{Object: table}}
	}
	if err := printer.PrintObj(object, l.aligner.writer); err != nil {
		return nil, err
	}
	if err := l.aligner.writer.Flush(); err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimRight(l.aligner.buffer.String(), "\n"), "\n")
	l.aligner.buffer.Reset()
	style := l.env.Style(l.env.Streams.Out)
	headers := len(lines) - len(items)
	for i := range items {
		lines[headers+i] = style.Paint(l.Tone(items[i].value, now), lines[headers+i])
	}
	return lines, nil
}

// gone is what to say of an object that a watch calls deleted. With a selector that
// may mean no more than that it is not selected any longer.
func (l *lister[T]) gone() string {
	if l.narrowed() {
		return "Deselected"
	}
	return "Deleted"
}
