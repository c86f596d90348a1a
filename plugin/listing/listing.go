// Package listing is what the commands share that list objects of one kind as
// `kubectl get` does: its flags and formats, names and selectors, and what --watch
// goes on with.
package listing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/kubectl/pkg/cmd/get"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
)

// Kind is what is listed, and how it looks. T is what a row is made of.
type Kind[T any] struct {
	// Noun is what a person calls one.
	Noun string
	GVK  schema.GroupVersionKind
	// Read makes of an object what a row is made of.
	Read func(*unstructured.Unstructured) (T, error)
	// Join, where there is one, adds to what was listed what is elsewhere. It is not
	// asked about single changes of a watch.
	Join func(context.Context, *cli.Cluster, client.ListOptions, []T) error
	// Match chooses what is shown; without it that is everything.
	Match func(T) bool
	// Compare puts first what a person has to see first; without it the order is the
	// cluster's.
	Compare func(a, b T, now time.Time) int
	// Columns of the table, what stands in them, and how a row is painted. The column
	// State tells of an object that is there no more.
	Columns []metav1.TableColumnDefinition
	State   int
	Cells   func(T, time.Time) []any
	Tone    func(T, time.Time) screen.Tone
	// Summary sums up everything in a line. With it --watch is one live screen on a
	// terminal, without it a row for each change there too.
	Summary func(screen.Style, []T, time.Time) string
}

// item is an object in both of its forms. Objects are read as they are and not as our
// types, so that -o json shows every field that the cluster has, those of a newer
// version too.
type item[T any] struct {
	object *unstructured.Unstructured
	value  T
}

// lister lists one kind in the format that was asked for.
type lister[T any] struct {
	Kind[T]
	*Options
	env     *cli.Env
	cluster *cli.Cluster
	scope   cli.Scope
	list    client.ListOptions
	printer printers.ResourcePrinter
	aligner *aligner
}

// Run lists, names or watches objects of a kind.
func Run[T any](ctx context.Context, env *cli.Env, o *Options, kind Kind[T], names []string) error {
	if err := o.validate(kind.Noun, names); err != nil {
		return err
	}
	cluster, err := env.Connect()
	if err != nil {
		return err
	}
	l := &lister[T]{Kind: kind, Options: o, env: env, cluster: cluster, scope: cluster.Scope(o.all), aligner: newAligner()}
	if l.scope.All() {
		if err := o.print.EnsureWithNamespace(); err != nil {
			return err
		}
	}
	if l.printer, err = o.print.ToPrinter(); err != nil {
		return err
	}
	if l.list, err = o.listOptions(l.scope, names); err != nil {
		return err
	}
	switch {
	case o.watch:
		return l.follow(ctx)
	case len(names) > 0:
		return l.some(ctx, names)
	}
	objects, _, err := cli.ListAll(ctx, cluster.Client, l.newList(), l.list)
	if err != nil {
		return fmt.Errorf("list %ss in %s: %w", l.Noun, l.scope, err)
	}
	items, err := l.items(ctx, objects, l.list)
	if err != nil {
		return err
	}
	return l.show(items)
}

func (l *lister[T]) newList() *unstructured.UnstructuredList {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(l.GVK.GroupVersion().WithKind(l.GVK.Kind + "List"))
	return list
}

func (l *lister[T]) item(o client.Object) (item[T], error) {
	object, ok := o.(*unstructured.Unstructured)
	if !ok {
		return item[T]{}, fmt.Errorf("got a %T instead of a %s", o, l.GVK.Kind)
	}
	value, err := l.Read(object)
	if err != nil {
		return item[T]{}, fmt.Errorf("read %s %s/%s: %w", l.Noun, o.GetNamespace(), o.GetName(), err)
	}
	return item[T]{object, value}, nil
}

// items are those of the objects that are to be shown, in their order.
func (l *lister[T]) items(ctx context.Context, objects []client.Object, options client.ListOptions) ([]item[T], error) {
	items := make([]item[T], len(objects))
	values := make([]T, len(objects))
	for i, o := range objects {
		var err error
		if items[i], err = l.item(o); err != nil {
			return nil, err
		}
		values[i] = items[i].value
	}
	if l.Join != nil {
		if err := l.Join(ctx, l.cluster, options, values); err != nil {
			return nil, err
		}
		for i := range items {
			items[i].value = values[i]
		}
	}
	items = slices.DeleteFunc(items, func(i item[T]) bool { return !l.matches(i) })
	l.order(items)
	return items, nil
}

func (l *lister[T]) matches(i item[T]) bool { return l.Match == nil || l.Match(i.value) }

func (l *lister[T]) order(items []item[T]) {
	if l.Compare == nil {
		return
	}
	now := l.env.Now()
	slices.SortStableFunc(items, func(a, b item[T]) int { return l.Compare(a.value, b.value, now) })
}

// some shows the objects of the given names, and fails for those that it can't find
// after it has shown the others.
func (l *lister[T]) some(ctx context.Context, names []string) error {
	var found []item[T]
	var failed []error
	for _, name := range names {
		object := &unstructured.Unstructured{}
		object.SetGroupVersionKind(l.GVK)
		if err := l.cluster.Client.Get(ctx, client.ObjectKey{Namespace: l.scope.Namespace, Name: name}, object); err != nil {
			failed = append(failed, fmt.Errorf("get %s %s/%s: %w", l.Noun, l.scope.Namespace, name, err))
			continue
		}
		one := client.ListOptions{Namespace: l.scope.Namespace, FieldSelector: named(name)}
		items, err := l.items(ctx, []client.Object{object}, one)
		if err != nil {
			return err
		}
		found = append(found, items...)
	}
	switch {
	case len(found) == 1 && len(names) == 1 && !l.Human():
		// One name was asked for: one object, not a list with one in it.
		return l.printer.PrintObj(found[0].object, l.env.Streams.Out)
	case len(found) > 0:
		l.order(found)
		if err := l.show(found); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

// show prints everything at once.
func (l *lister[T]) show(items []item[T]) error {
	items, err := l.sort(items)
	if err != nil {
		return err
	}
	if l.Human() {
		if len(items) == 0 {
			l.sayNone()
			return nil
		}
		return l.rows(items, "")
	}
	list := l.newList()
	for _, i := range items {
		list.Items = append(list.Items, *i.object)
	}
	return l.printer.PrintObj(list, l.env.Streams.Out)
}

// sort orders items by --sort-by.
func (l *lister[T]) sort(items []item[T]) ([]item[T], error) {
	by := *l.print.HumanReadableFlags.SortBy
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
	sorted := make([]item[T], len(items))
	for i := range items {
		sorted[i] = items[sorter.OriginalPosition(i)]
	}
	return sorted, nil
}

func (l *lister[T]) sayNone() {
	such := "No"
	if l.narrowed() {
		such = "No such"
	}
	fmt.Fprintf(l.env.Streams.ErrOut, "%s %ss in %s.\n", such, l.Noun, l.scope)
}
