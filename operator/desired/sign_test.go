package desired

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/fleetview"
)

func TestSignedAheadComesInSequence(t *testing.T) {
	for _, n := range []int{0, 1, chunk - 1, chunk, chunk + 1, 3*chunk + 7} {
		next := 0
		err := signAhead(n, func(i int) (order, error) {
			return order{write: fleetview.Write{Device: contracts.DeviceID(fmt.Sprint(i))}}, nil
		}, func(o order) error {
			if want := contracts.DeviceID(fmt.Sprint(next)); o.write.Device != want {
				return fmt.Errorf("%s comes in the place of %s", o.write.Device, want)
			}
			next++
			return nil
		})
		if err != nil || next != n {
			t.Errorf("%d of %d: %v", next, n, err)
		}
	}
}

func TestSigningEndsWithTheFirstError(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct{ sign, write int }{
		"the first can't be signed":    {0, -1},
		"a later one can't be signed":  {2*chunk + 1, -1},
		"the first can't be written":   {-1, 0},
		"a later one can't be written": {-1, 2*chunk + 1},
	} {
		var signing atomic.Int32
		written := 0
		err := signAhead(5*chunk, func(i int) (order, error) {
			signing.Add(1)
			defer signing.Add(-1)
			if i == c.sign {
				return order{}, broken
			}
			return order{}, nil
		}, func(order) error {
			if written == c.write {
				return broken
			}
			written++
			return nil
		})
		if !errors.Is(err, broken) || written > 3*chunk {
			t.Errorf("%s: %d written, %v", name, written, err)
		}
		if n := signing.Load(); n != 0 {
			t.Errorf("%s: %d are still being signed", name, n)
		}
	}
}
