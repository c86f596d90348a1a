package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestFiguresInTheMiddleHaveASpread(t *testing.T) {
	run := func(value float64) []figure { return []figure{{Name: "a", Value: value, Unit: "s"}} }
	got := middle([][]figure{run(3), run(1), run(2)})
	if len(got) != 1 || got[0].Value != 2 || got[0].Spread != 2 || got[0].measured() != "2.0 s (spread 2.0)" {
		t.Errorf("%+v, %s", got, got[0].measured())
	}
	if one := middle([][]figure{run(3)}); one[0].measured() != "3.0 s" {
		t.Errorf("%s", one[0].measured())
	}
}

func TestCompareSaysWhatIsMoreThanNoise(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, devices int, value float64) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := (results{Devices: devices, Figures: []figure{
			{Name: "steady", Value: 10, Spread: 1}, {Name: "changed", Value: value, Spread: 1}, {Name: "once", Value: value},
		}}).write(path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	before, after, other := write("a.json", 20, 10), write("b.json", 20, 13), write("c.json", 30, 10)
	run := func(args ...string) (string, error) {
		var out strings.Builder
		c := command()
		c.SetOut(&out)
		c.SetArgs(append([]string{"compare"}, args...))
		err := c.Execute()
		return out.String(), err
	}
	for name, path := range map[string]string{"another fleet": other, "a file that is not there": filepath.Join(dir, "none.json")} {
		if _, err := run(before, path); err == nil {
			t.Errorf("%s is compared", name)
		}
	}
	out, err := run(before, after)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"+30 %, more than noise", "+0 %, noise", "1 of 2 figures"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
}
