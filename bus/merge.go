package bus

import (
	"errors"
	"fmt"
	"maps"

	"github.com/nationtech/fleet/contracts"
)

// errTwoOrders tells that the operator has given one number twice.
var errTwoOrders = errors.New("it is another order with the number of one that the device has")

// merge puts together what arrives live and what snapshots say. It decides; it does
// no I/O. Of each Deployment the order with the highest number counts, in whichever
// way and sequence orders come: lost, late, twice, or again years later from a stream
// that was brought back. Nothing goes because it is missing: a withdrawal is an order
// like any other, and a stream that was lost and made anew lacks everything until the
// operator has written it again.
type merge struct {
	orders map[contracts.DeploymentName]contracts.Order
	// complete tells that a whole snapshot was taken in.
	complete bool
}

// newMerge goes on from what the device was told before.
func newMerge(before map[contracts.DeploymentName]contracts.Order) *merge {
	m := &merge{orders: map[contracts.DeploymentName]contracts.Order{}}
	maps.Copy(m.orders, before)
	return m
}

// take takes in an order whose signature counts, and reports whether that changes
// anything.
func (m *merge) take(o contracts.Order) (changed bool, err error) {
	held, ok := m.orders[o.Deployment]
	switch {
	case !ok || o.Issued > held.Issued:
		m.orders[o.Deployment] = o
		return true, nil
	case o.Issued == held.Issued && !o.Same(held):
		return false, errTwoOrders
	}
	return false, nil
}

// page takes note of the page of a snapshot that begins behind after, and has these
// deployments. Its orders are taken in one by one.
func (m *merge) page(after contracts.DeploymentName, names []contracts.DeploymentName, more bool) (changed bool, err error) {
	if more && len(names) == 0 {
		return false, fmt.Errorf("the snapshot promises more and holds nothing")
	}
	for _, name := range names {
		if name <= after {
			return false, fmt.Errorf("the snapshot is out of order at deployment %q", name)
		}
		after = name
	}
	if more || m.complete {
		return false, nil
	}
	m.complete = true
	return true, nil
}

// view is what the device was told, by Deployment, what was withdrawn included.
func (m *merge) view() map[contracts.DeploymentName]contracts.Order {
	return maps.Clone(m.orders)
}
