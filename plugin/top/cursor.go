package top

import (
	"slices"
	"time"
)

// cursor is the selected row. It is on its object and stays on it, on the same line of
// the screen where that is possible, while rows move around it. Only at the very top it
// is on the place: who looks there wants to see what comes in new.
type cursor struct {
	// onObject tells that it is on the object at; otherwise it is at the top.
	onObject bool
	at       key
	// line of the screen, counted from the first row that is drawn.
	line int
	// index is where it was last, for when its object is gone.
	index int
}

// selected is the index of the selected row.
func (t *table[R]) selected() int {
	if !t.onObject {
		return 0
	}
	if row := t.rows[t.at]; row != nil {
		if i, found := slices.BinarySearchFunc(t.shown, row, t.compare); found {
			return i
		}
	}
	return max(0, min(t.index, len(t.shown)-1))
}

// settle is called after every change, with the number of lines that rows have.
func (t *table[R]) settle(lines int) {
	t.index = t.selected()
	t.line = max(0, min(t.line, lines-1))
	first, _ := t.window(lines)
	t.line = t.index - first
}

// window is the rows that there is room for.
func (t *table[R]) window(lines int) (first, end int) {
	first = max(0, min(t.selected()-t.line, len(t.shown)-lines))
	return first, min(len(t.shown), first+lines)
}

// move selects the row that is so many further down, and scrolls when it has to.
func (t *table[R]) move(by, lines int) {
	from := t.selected()
	to := max(0, min(from+by, len(t.shown)-1))
	t.line = max(0, min(t.line+to-from, lines-1))
	t.pick(to)
}

// page moves on by whole screens; the cursor stays on its line.
func (t *table[R]) page(by, lines int) {
	t.pick(max(0, min(t.selected()+by*max(1, lines), len(t.shown)-1)))
}

func (t *table[R]) pick(index int) {
	t.onObject = index > 0
	if index < len(t.shown) {
		t.at = t.key(t.shown[index])
	}
}

// current is the selected object.
func (t *table[R]) current() (key, bool) {
	if i := t.selected(); i < len(t.shown) {
		return t.key(t.shown[i]), true
	}
	return key{}, false
}

// about is all that there is to say about an object; nil when there is none.
func (t *table[R]) about(k key, now time.Time) []field {
	if row := t.rows[k]; row != nil {
		return t.detail(row, now)
	}
	return nil
}
