package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// figure is something measured, and what it is held against.
type figure struct {
	Name string `json:"name"`
	// Value in Unit. Where it was measured several times it is the one in the middle, and
	// Spread is from the least to the most.
	Value  float64 `json:"value"`
	Spread float64 `json:"spread,omitempty"`
	Unit   string  `json:"unit"`
	// Raw is the same without fleet, in this run; 0 is for none.
	Raw     float64 `json:"raw,omitempty"`
	RawName string  `json:"rawName,omitempty"`
	// Budget in words, and Limit in Unit that Value has to reach or must not go beyond;
	// empty for none.
	Budget  string  `json:"budget,omitempty"`
	Limit   float64 `json:"limit,omitempty"`
	AtLeast bool    `json:"atLeast,omitempty"`
	// Large marks a budget for a large fleet, Any one for fleets of every size.
	Large bool `json:"-"`
	Any   bool `json:"-"`
}

// atMost and atLeast hold a figure to a limit.
func (f figure) atMost(limit float64, budget string) figure {
	f.Budget, f.Limit = budget, limit
	return f
}

func (f figure) atLeast(limit float64, budget string) figure {
	f.Budget, f.Limit, f.AtLeast = budget, limit, true
	return f
}

// ofLarge says that the budget is one for a large fleet.
func (f figure) ofLarge() figure {
	f.Large = true
	return f
}

// ofAny says that the size of the fleet does not matter to the budget.
func (f figure) ofAny() figure {
	f.Any = true
	return f
}

// kept reports whether the figure is within its limit, or beyond it by that factor at most.
func (f figure) kept(slack float64) bool {
	switch {
	case f.Budget == "":
		return true
	case f.AtLeast:
		return f.Value*slack >= f.Limit
	}
	return f.Value <= f.Limit*slack
}

// number is short, and has the unit.
func number(v float64, unit string) string {
	digits := 3
	switch {
	case v == 0 || v >= 100:
		digits = 0
	case v >= 1:
		digits = 1
	}
	return strings.TrimSpace(strconv.FormatFloat(v, 'f', digits, 64) + " " + unit)
}

// middle makes one of the same figures, measured several times.
func middle(runs [][]figure) []figure {
	var out []figure
	for i := range runs[0] {
		same := make([]figure, len(runs))
		for n := range runs {
			same[n] = runs[n][i]
		}
		slices.SortFunc(same, func(a, b figure) int { return cmp.Compare(a.Value, b.Value) })
		f := same[len(same)/2]
		f.Spread = same[len(same)-1].Value - same[0].Value
		out = append(out, f)
	}
	return out
}

// measured is the value, and what it was once more or less.
func (f figure) measured() string {
	if f.Spread == 0 {
		return number(f.Value, f.Unit)
	}
	return number(f.Value, f.Unit) + " (spread " + number(f.Spread, "") + ")"
}

func writeTable(w io.Writer, figures []figure) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FIGURE\tMEASURED\tRAW\tBUDGET\t")
	for _, f := range figures {
		raw, verdict := "-", "-"
		if f.Raw != 0 {
			raw = strings.TrimSpace(number(f.Raw, f.Unit) + " " + f.RawName)
		}
		if f.Budget != "" {
			verdict = "✔ " + f.Budget
			if !f.kept(1) {
				verdict = "✘ " + f.Budget
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t\n", f.Name, f.measured(), raw, verdict)
	}
	return t.Flush()
}

// results are what a run has measured, for a program.
type results struct {
	Devices     int      `json:"devices"`
	Connected   int      `json:"connected"`
	Deployments int      `json:"deployments"`
	Figures     []figure `json:"figures"`
}

func (r results) write(path string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
