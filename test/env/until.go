package env

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// permanent is an error that waiting does not heal.
type permanent struct{ error }

// Permanent marks an error as one that waiting does not heal.
func Permanent(err error) error { return permanent{err} }

func (p permanent) Unwrap() error { return p.error }

// Until calls check until it returns no error, or ctx or the time is over; then
// it says what was last wrong. For states of other processes that send no event.
func Until(ctx context.Context, limit time.Duration, what string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := attempt(ctx, limit/4, check)
		if err == nil {
			return nil
		}
		var p permanent
		if errors.As(err, &p) {
			return fmt.Errorf("%s: %w", what, p.error)
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), context.Canceled) {
				return context.Canceled
			}
			return fmt.Errorf("%s: not within %s: %w", what, limit, last)
		case <-tick.C:
		}
	}
}

// attempt bounds one look: a request that dies with its server has no answer, and must not
// take all the time that there is.
func attempt(ctx context.Context, limit time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return check(ctx)
}
