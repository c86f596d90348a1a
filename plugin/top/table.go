package top

import (
	"slices"
	"strings"
	"time"
)

// key of an object.
type key struct{ namespace, name string }

func (k key) compare(o key) int {
	if c := strings.Compare(k.namespace, o.namespace); c != 0 {
		return c
	}
	return strings.Compare(k.name, o.name)
}

// kind is what tells apart the views.
type kind[R any] struct {
	// noun is what a row is about, title the name of the view.
	noun, heading string
	key           func(*R) key
	// orders that rows can have; the first is worst first. They go by the objects alone
	// and not by the clock, so that rows move only when something changes.
	orders []order[R]
	// columns from left to right; the first is the name.
	columns []column[R]
	// group is what rows are counted by.
	group func(*R) string
	// problem reports whether a row tells of something that is wrong.
	problem func(*R) bool
	// text is what a filter looks at, in lower case.
	text func(*R) string
	// detail is all that there is to say.
	detail func(*R, time.Time) []field
}

// order of rows; rows that it does not tell apart are ordered by their names.
type order[R any] struct {
	name    string
	compare func(a, b *R) int
}

// table has the rows of one view. A row is never changed: a change puts another in its
// place.
type table[R any] struct {
	kind[R]
	rows map[key]*R
	// sorted has all rows in their order, shown those of them that are not hidden; it is
	// the same slice when nothing is.
	sorted, shown []*R
	counts        map[string]int

	order    int
	reversed bool
	filter   string
	problems bool

	cursor
}

func newTable[R any](k kind[R]) *table[R] {
	return &table[R]{kind: k, rows: map[key]*R{}, counts: map[string]int{}}
}

func (t *table[R]) compare(a, b *R) int {
	c := t.orders[t.order].compare(a, b)
	if c == 0 {
		c = t.key(a).compare(t.key(b))
	}
	if t.reversed {
		return -c
	}
	return c
}

// apply puts rows in the place of those with the same key; nil takes one out. What it
// costs goes by the number of changes: the rest is moved in blocks and never compared.
func (t *table[R]) apply(changed map[key]*R) {
	var out, in []*R
	for k, after := range changed {
		if before := t.rows[k]; before != nil {
			out = append(out, before)
			t.counts[t.group(before)]--
		}
		if after == nil {
			delete(t.rows, k)
			continue
		}
		in = append(in, after)
		t.rows[k] = after
		t.counts[t.group(after)]++
	}
	slices.SortFunc(out, t.compare)
	slices.SortFunc(in, t.compare)
	t.sorted = merge(t.sorted, out, in, t.compare)
	if !t.hides() {
		t.shown = t.sorted
		return
	}
	t.shown = merge(t.shown, t.visible(out), t.visible(in), t.compare)
}

// merge takes rows out of a sorted slice, and puts others in. All three are in order.
func merge[R any](sorted, out, in []*R, compare func(a, b *R) int) []*R {
	all := sorted
	kept, read := 0, 0
	for _, row := range out {
		i, _ := slices.BinarySearchFunc(sorted[read:], row, compare)
		kept += copy(sorted[kept:], sorted[read:read+i])
		read += i + 1
	}
	kept += copy(sorted[kept:], sorted[read:])

	sorted = slices.Grow(sorted[:kept], len(in))[:kept+len(in)]
	end := len(sorted)
	for _, row := range slices.Backward(in) {
		i, _ := slices.BinarySearchFunc(sorted[:kept], row, compare)
		end -= kept - i
		copy(sorted[end:], sorted[i:kept])
		end--
		sorted[end] = row
		kept = i
	}
	if len(sorted) < len(all) {
		clear(all[len(sorted):])
	}
	return sorted
}

// hides reports whether some rows may not be shown.
func (t *table[R]) hides() bool { return t.filter != "" || t.problems }

// visible are those of the rows that are shown.
func (t *table[R]) visible(rows []*R) []*R {
	var out []*R
	filter := strings.ToLower(t.filter)
	for _, row := range rows {
		if (!t.problems || t.problem(row)) && (filter == "" || strings.Contains(t.text(row), filter)) {
			out = append(out, row)
		}
	}
	return out
}

// show chooses which rows are shown.
func (t *table[R]) show(filter string, problems bool) {
	t.filter, t.problems = filter, problems
	t.shown = t.sorted
	if t.hides() {
		t.shown = t.visible(t.sorted)
	}
}

// search shows only rows with this text in them; all for "".
func (t *table[R]) search(filter string) { t.show(filter, t.problems) }

// searched is what was searched for.
func (t *table[R]) searched() string { return t.filter }

// toggleProblems shows only rows that tell of something wrong, or all again.
func (t *table[R]) toggleProblems() { t.show(t.filter, !t.problems) }

// sort orders the rows anew.
func (t *table[R]) sort(order int, reversed bool) {
	t.order, t.reversed = order, reversed
	slices.SortFunc(t.sorted, t.compare)
	t.show(t.filter, t.problems)
}

// sortBy orders by the order of that name, if there is one.
func (t *table[R]) sortBy(name string) {
	if i := slices.Index(t.orderNames(), name); i >= 0 {
		t.sort(i, false)
	}
}

// nextOrder goes on to the next order.
func (t *table[R]) nextOrder() { t.sort((t.order+1)%len(t.orders), false) }

// reverse turns the order round.
func (t *table[R]) reverse() { t.sort(t.order, !t.reversed) }

// orderNames are the names of the orders.
func (k kind[R]) orderNames() []string {
	var names []string
	for _, o := range k.orders {
		names = append(names, o.name)
	}
	return names
}
