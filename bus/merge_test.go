package bus

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/nats-io/nkeys"
	"pgregory.net/rapid"

	"github.com/nationtech/fleet/contracts"
)

// world is a stream of desired state of one device, and what a mirror of it sees.
type world struct {
	// issued is the number of the last order.
	issued int64
	stored map[contracts.DeploymentName]contracts.Order
	// flying are republished writes that the device has not seen yet, and recorded all
	// that there ever were, for who plays them again.
	flying, recorded []contracts.Order
	merge            *merge
	// before is what the device knew when the stream was last made anew.
	before map[contracts.DeploymentName]int64
}

// TestMergeEndsWithWhatTheStreamHolds plays writes, withdrawals, losses, messages out
// of order, old ones played again, snapshots that are taken before and come in after
// others, pages, and streams made anew or brought back from a backup. After one more
// snapshot the device has what the stream holds, or newer orders that the stream has
// lost; and it never goes back.
func TestMergeEndsWithWhatTheStreamHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{stored: map[contracts.DeploymentName]contracts.Order{}, merge: newMerge(nil), before: map[contracts.DeploymentName]int64{}}
		names := []contracts.DeploymentName{"a", "b", "c", "d"}
		name := rapid.SampledFrom(names)
		highest := map[contracts.DeploymentName]int64{}
		backup := map[contracts.DeploymentName]contracts.Order{}
		t.Repeat(map[string]func(*rapid.T){
			"write":    func(t *rapid.T) { w.write(name.Draw(t, "name"), false) },
			"withdraw": func(t *rapid.T) { w.write(name.Draw(t, "name"), true) },
			"arrive": func(t *rapid.T) {
				if len(w.flying) > 0 {
					w.arrive(t, rapid.IntRange(0, len(w.flying)-1).Draw(t, "which"))
				}
			},
			"lose": func(*rapid.T) { w.flying = w.flying[min(1, len(w.flying)):] },
			"play again": func(t *rapid.T) {
				if len(w.recorded) > 0 {
					w.take(t, rapid.SampledFrom(w.recorded).Draw(t, "order"))
				}
			},
			"snapshot": func(t *rapid.T) {
				w.snapshot(t, rapid.IntRange(1, 3).Draw(t, "page"), func() {
					for range rapid.IntRange(0, 2).Draw(t, "meanwhile") {
						if rapid.Bool().Draw(t, "write") {
							w.write(name.Draw(t, "name"), rapid.Bool().Draw(t, "withdraw"))
						} else if len(w.flying) > 0 {
							w.arrive(t, 0)
						}
					}
				})
			},
			"restart the agent": func(*rapid.T) { w.merge = newMerge(w.merge.view()) },
			"back up":           func(*rapid.T) { backup = copied(w.stored) },
			"bring back":        func(*rapid.T) { w.remember(); w.stored, w.flying = copied(backup), nil },
			"make the stream anew": func(*rapid.T) {
				w.remember()
				w.stored, w.flying = map[contracts.DeploymentName]contracts.Order{}, nil
			},
			"": func(t *rapid.T) {
				for n, o := range w.merge.view() {
					if o.Issued < highest[n] {
						t.Fatalf("%s goes back from %d to %d", n, highest[n], o.Issued)
					}
					highest[n] = o.Issued
				}
			},
		})
		w.snapshot(t, 2, func() {})
		got := w.merge.view()
		for _, n := range names {
			if got[n].Issued < max(w.stored[n].Issued, w.before[n]) {
				t.Fatalf("%s: the stream has %d, the device %d, and knew %d before", n, w.stored[n].Issued, got[n].Issued, w.before[n])
			}
		}
	})
}

func copied(m map[contracts.DeploymentName]contracts.Order) map[contracts.DeploymentName]contracts.Order {
	out := map[contracts.DeploymentName]contracts.Order{}
	for n, o := range m {
		out[n] = o
	}
	return out
}

// remember notes what the device knows before the stream loses it.
func (w *world) remember() {
	for n, o := range w.merge.view() {
		w.before[n] = o.Issued
	}
}

func (w *world) write(name contracts.DeploymentName, withdrawal bool) {
	w.issued++
	o := contracts.Order{Deployment: name, Issued: w.issued}
	if !withdrawal {
		o.Desired = &contracts.DesiredState{Deployment: name, Revision: fmt.Sprint(w.issued)}
	}
	o.Envelope = orderBytes(o)
	w.stored[name] = o
	w.flying, w.recorded = append(w.flying, o), append(w.recorded, o)
}

var someKey = sync.OnceValue(func() string {
	pair, err := keyPair(nkeys.PrefixByteOperator, make([]byte, 32))
	if err != nil {
		panic(err)
	}
	key, err := pair.PublicKey()
	if err != nil {
		panic(err)
	}
	return key
})

// orderBytes is an envelope of an order, signed by nobody: merge does not look.
func orderBytes(o contracts.Order) []byte {
	e := contracts.Envelope{Key: someKey(), Signature: make([]byte, 64)}
	content := fmt.Appendf(nil, `{"issued":%d}`, o.Issued)
	if e.Value = content; o.Desired == nil {
		e.Value, e.Withdrawal = nil, content
	}
	data, err := contracts.Encode(e)
	if err != nil {
		panic(err)
	}
	return data
}

func (w *world) take(t *rapid.T, o contracts.Order) {
	if _, err := w.merge.take(o); err != nil {
		t.Fatal(err)
	}
}

func (w *world) arrive(t *rapid.T, which int) {
	w.take(t, w.flying[which])
	w.flying = slices.Delete(w.flying, which, which+1)
}

// snapshot takes one page after the other as the responder does; each is read at
// its own time, and meanwhile happens between reading and taking in.
func (w *world) snapshot(t *rapid.T, size int, meanwhile func()) {
	var after contracts.DeploymentName
	for {
		var names []contracts.DeploymentName
		for n := range w.stored {
			if n > after {
				names = append(names, n)
			}
		}
		slices.Sort(names)
		more := len(names) > size
		names = names[:min(size, len(names))]
		var page []contracts.Order
		for _, n := range names {
			page = append(page, w.stored[n])
		}
		meanwhile()
		for _, o := range page {
			w.take(t, o)
		}
		if _, err := w.merge.page(after, names, more); err != nil {
			t.Fatal(err)
		}
		if !more {
			return
		}
		after = names[len(names)-1]
	}
}

func TestMergeRefusesAnotherOrderWithTheSameNumber(t *testing.T) {
	m := newMerge(nil)
	told := contracts.Order{Deployment: "app", Issued: 7, Desired: &contracts.DesiredState{Deployment: "app"}}
	withdrawn := contracts.Order{Deployment: "app", Issued: 7}
	told.Envelope, withdrawn.Envelope = orderBytes(told), orderBytes(withdrawn)
	if changed, err := m.take(told); !changed || err != nil {
		t.Fatalf("first: %v, %v", changed, err)
	}
	if changed, err := m.take(told); changed || err != nil {
		t.Errorf("once more: %v, %v", changed, err)
	}
	if changed, err := m.take(withdrawn); changed || !errors.Is(err, errTwoOrders) {
		t.Errorf("another: %v, %v", changed, err)
	}
	if m.view()["app"].Desired == nil {
		t.Error("the first one is gone")
	}
}

func TestMergeRefusesSnapshotsThatMakeNoSense(t *testing.T) {
	for name, c := range map[string]struct {
		names []contracts.DeploymentName
		more  bool
	}{
		"more without anything":     {nil, true},
		"not in order":              {[]contracts.DeploymentName{"c", "b"}, false},
		"twice the same":            {[]contracts.DeploymentName{"b", "b"}, false},
		"from before what it is of": {[]contracts.DeploymentName{"a"}, false},
	} {
		m := newMerge(nil)
		if _, err := m.page("a", c.names, c.more); err == nil || m.complete {
			t.Errorf("%s: complete %v, no error", name, m.complete)
		}
	}
}
