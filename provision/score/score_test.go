package score

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// light is a Score about a lamp.
type light struct {
	name string
	fail error
}

func (l light) Name() string { return l.name }

func (l light) Interpret(_ context.Context, lamp *bool) (Outcome, error) {
	if l.fail != nil || *lamp {
		return Unchanged("it is on"), l.fail
	}
	*lamp = true
	return Changed("turned it %s", "on"), nil
}

func TestAll(t *testing.T) {
	var lamp bool
	var steps []Step
	report := func(s Step) { steps = append(steps, s) }
	broken := errors.New("no bulb")
	err := All(t.Context(), &lamp, report, Score[*bool](light{name: "first"}), light{name: "second"}, light{name: "third", fail: broken}, light{name: "fourth"})
	if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "third: ") {
		t.Errorf("the error %v does not say which failed", err)
	}
	if len(steps) != 2 || !steps[0].Changed || steps[0].What != "turned it on" || steps[1].Changed {
		t.Errorf("steps %+v", steps)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := All(ctx, &lamp, nil, Score[*bool](light{name: "first"})); !errors.Is(err, context.Canceled) {
		t.Errorf("after Ctrl-C: %v", err)
	}
}
