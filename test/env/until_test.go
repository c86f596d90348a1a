package env

import (
	"context"
	"errors"
	"testing"
	"time"
)

// What is asked while a server dies has no answer ever.
func TestUntilAsksAgainWhenOneAnswerNeverComes(t *testing.T) {
	asked := 0
	err := Until(t.Context(), 4*time.Second, "an answer", func(ctx context.Context) error {
		if asked++; asked > 1 {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	})
	if err != nil || asked != 2 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

func TestUntilSaysWhatWasLastWrong(t *testing.T) {
	wrong := errors.New("no pods")
	if err := Until(t.Context(), 50*time.Millisecond, "pods run", func(context.Context) error { return wrong }); !errors.Is(err, wrong) {
		t.Errorf("%v, want %v", err, wrong)
	}
}
