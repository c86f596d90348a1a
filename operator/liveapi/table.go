package liveapi

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"sync"
)

// key of an object.
type key struct{ namespace, name string }

func (k key) compare(o key) int {
	return cmp.Or(strings.Compare(k.namespace, o.namespace), strings.Compare(k.name, o.name))
}

// row is an object as it was at one version. It is never changed.
type row[T any] struct {
	key
	version uint64
	value   T
}

// change is one step from a row to the next; before is nil for one that is new,
// after for one that is gone.
type change[T any] struct {
	version       uint64
	before, after *row[T]
}

// errExpired tells that what is asked for has left the history.
var errExpired = errors.New("the version is too old")

// table has the objects of one kind as they are, and the last changes to them. A
// reader is never waited for: one that is slower than the changes finds that they
// have left the history.
type table[T any] struct {
	mu      sync.RWMutex
	version uint64
	rows    map[key]*row[T]
	// order has the keys in their order; stale tells that it has to be made anew.
	order []key
	stale bool
	// history is a ring of the last changes; next counts all that there were.
	history []change[T]
	next    uint64
	// first is the version before the oldest change that was ever made.
	first uint64
	// bell is closed at the next change.
	bell chan struct{}
}

// newTable makes a table whose versions begin after first and that remembers so
// many changes.
func newTable[T any](first uint64, history int) *table[T] {
	return &table[T]{version: first, first: first, rows: map[key]*row[T]{}, history: make([]change[T], history), bell: make(chan struct{})}
}

// set puts an object as it is now.
func (t *table[T]) set(k key, value T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.rows[k]
	t.version++
	after := &row[T]{key: k, version: t.version, value: value}
	t.rows[k] = after
	t.stale = t.stale || before == nil
	t.record(change[T]{t.version, before, after})
}

// remove takes out an object.
func (t *table[T]) remove(k key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.rows[k]
	if before == nil {
		return
	}
	t.version++
	delete(t.rows, k)
	t.stale = true
	t.record(change[T]{t.version, before, nil})
}

func (t *table[T]) record(c change[T]) {
	t.history[t.next%uint64(len(t.history))] = c
	t.next++
	close(t.bell)
	t.bell = make(chan struct{})
}

// get returns an object; nil when there is none.
func (t *table[T]) get(k key) *row[T] {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.rows[k]
}

// page returns up to limit objects of a namespace, of all when it is empty, that
// come after a key and are wanted, and the version of the table. 0 is no limit.
// More tells that others follow the last, left how many at most.
func (t *table[T]) page(namespace string, after key, limit int, wanted func(*row[T]) bool) (rows []*row[T], version uint64, more bool, left int) {
	t.sort()
	t.mu.RLock()
	defer t.mu.RUnlock()
	from := after
	if namespace != "" && from.namespace < namespace {
		from = key{namespace: namespace}
	}
	i, found := slices.BinarySearchFunc(t.order, from, key.compare)
	if found {
		i++
	}
	for ; i < len(t.order); i++ {
		k := t.order[i]
		if namespace != "" && k.namespace != namespace {
			break
		}
		r := t.rows[k]
		if r == nil || !wanted(r) {
			continue
		}
		if limit > 0 && len(rows) == limit {
			return rows, t.version, true, len(t.order) - i
		}
		rows = append(rows, r)
	}
	return rows, t.version, false, 0
}

// sort makes the order anew if it has to be.
func (t *table[T]) sort() {
	t.mu.RLock()
	stale := t.stale
	t.mu.RUnlock()
	if !stale {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.stale {
		return
	}
	t.order = t.order[:0]
	for k := range t.rows {
		t.order = append(t.order, k)
	}
	slices.SortFunc(t.order, key.compare)
	t.stale = false
}

// at is the present version.
func (t *table[T]) at() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.version
}

// since returns up to limit changes after a version, the version that they lead to,
// and what to wait for when there are none. The error is errExpired.
func (t *table[T]) since(version uint64, limit int) (changes []change[T], bell <-chan struct{}, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if version > t.version || version < t.first {
		// Of another time, or of another replica.
		return nil, nil, errExpired
	}
	behind := t.version - version // each change is one version
	if behind > uint64(len(t.history)) {
		return nil, nil, errExpired
	}
	if behind == 0 {
		return nil, t.bell, nil
	}
	n := min(behind, uint64(limit))
	for i := t.next - behind; n > 0; i, n = i+1, n-1 {
		changes = append(changes, t.history[i%uint64(len(t.history))])
	}
	return changes, nil, nil
}
