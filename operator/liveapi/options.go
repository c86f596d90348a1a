package liveapi

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
)

// addOptions makes known how the parameters of commands are read from a URL. A
// parameter that there is not is refused: who misspells one shall not get the whole
// log, or a shell in another container.
func addOptions(scheme *runtime.Scheme) error {
	return errors.Join(
		addOption(scheme, func(q *query, o *live.PlacementLogOptions) {
			q.text("container", &o.Container)
			q.flag("follow", &o.Follow)
			q.flag("previous", &o.Previous)
			q.flag("timestamps", &o.Timestamps)
			q.number("sinceSeconds", &o.SinceSeconds)
			q.number("tailLines", &o.TailLines)
			q.moment("sinceTime", &o.SinceTime)
		}),
		addOption(scheme, func(q *query, o *live.PlacementExecOptions) {
			q.text("container", &o.Container)
			q.texts("command", &o.Command)
			q.flag("stdin", &o.Stdin)
			q.flag("tty", &o.TTY)
			q.number("width", &o.Width)
			q.number("height", &o.Height)
		}),
		addOption(scheme, func(q *query, o *live.PlacementRestartOptions) {
			q.text("container", &o.Container)
		}),
	)
}

func addOption[T any](scheme *runtime.Scheme, read func(*query, *T)) error {
	return scheme.AddConversionFunc((*url.Values)(nil), (*T)(nil), func(from, to any, _ conversion.Scope) error {
		q := &query{values: maps.Clone(*from.(*url.Values))}
		// How long the client waits.
		delete(q.values, "timeout")
		read(q, to.(*T))
		for _, name := range slices.Sorted(maps.Keys(q.values)) {
			q.errs = append(q.errs, fmt.Errorf("parameter %q is not known", name))
		}
		return errors.Join(q.errs...)
	})
}

// query is what is left to be read of a URL's parameters.
type query struct {
	values url.Values
	errs   []error
}

func (q *query) texts(name string, into *[]string) {
	*into = q.values[name]
	delete(q.values, name)
}

func (q *query) text(name string, into *string) {
	q.one(name, func(s string) error { *into = s; return nil })
}

func (q *query) flag(name string, into *bool) {
	q.one(name, func(s string) (err error) {
		*into, err = strconv.ParseBool(s)
		return err
	})
}

func (q *query) number(name string, into **int64) {
	q.one(name, func(s string) error {
		n, err := strconv.ParseInt(s, 10, 64)
		*into = &n
		return err
	})
}

func (q *query) moment(name string, into **metav1.Time) {
	q.one(name, func(s string) error {
		t, err := time.Parse(time.RFC3339, s)
		*into = &metav1.Time{Time: t}
		return err
	})
}

// one reads a parameter that may be given once.
func (q *query) one(name string, parse func(string) error) {
	var all []string
	q.texts(name, &all)
	switch {
	case len(all) == 0:
	case len(all) > 1:
		q.errs = append(q.errs, fmt.Errorf("parameter %q is given %d times", name, len(all)))
	default:
		if err := parse(all[0]); err != nil {
			q.errs = append(q.errs, fmt.Errorf("parameter %q: %w", name, err))
		}
	}
}
