package desired

import (
	"runtime"

	"golang.org/x/sync/errgroup"
)

// chunk is how many orders are signed ahead of the one that is written: enough to keep
// all cores busy, and little to hold in memory.
const chunk = 512

// signAhead signs n orders on all cores and hands them on in their sequence, one chunk
// being signed while the one before it is written: to sign takes longer than to write.
// It ends with the first error.
func signAhead(n int, sign func(i int) (order, error), write func(order) error) error {
	next := signChunk(0, min(chunk, n), sign)
	for from := 0; from < n; from += chunk {
		orders, err := next()
		if from+chunk < n {
			next = signChunk(from+chunk, min(from+2*chunk, n), sign)
		}
		for i := 0; err == nil && i < len(orders); i++ {
			err = write(orders[i])
		}
		if err != nil {
			if from+chunk < n {
				_, _ = next() // it must not go on without us; the first error counts
			}
			return err
		}
	}
	return nil
}

// signChunk begins to sign some orders and returns what waits for them.
func signChunk(from, to int, sign func(i int) (order, error)) func() ([]order, error) {
	orders := make([]order, to-from)
	workers := min(runtime.GOMAXPROCS(0), len(orders))
	var group errgroup.Group
	for w := range workers {
		group.Go(func() error {
			for i := w; i < len(orders); i += workers {
				var err error
				if orders[i], err = sign(from + i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return func() ([]order, error) { return orders, group.Wait() }
}
